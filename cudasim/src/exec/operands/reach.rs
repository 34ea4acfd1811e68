//! Which functions a kernel may run.

use crate::ptx::module::{Body, Module, Symbol};
use crate::ptx::opcode::Opcode;
use crate::ptx::operand::{AddressBase, Operand};

/// `entry` and every function with code that it may call, directly or through a register: then it may be any whose address
/// is taken anywhere in the module.
pub fn functions(module: &Module, entry: usize) -> Vec<usize> {
    let mut reached = vec![entry];

    let mut next = 0;
    while let Some(&index) = reached.get(next) {
        next += 1;
        let Some(body) = &module.functions[index].body else { continue };
        let mut add = |function: usize| {
            let known = module.functions.get(function).is_some_and(|f| f.body.is_some() && !f.is_entry);
            if known && !reached.contains(&function) {
                reached.push(function);
            }
        };
        named(body).for_each(&mut add);

        let indirect = body
            .instructions
            .iter()
            .any(|i| i.form.opcode == Opcode::Call && matches!(i.operands.get(1), Some(Operand::Register(_))));
        if indirect {
            let stored = module.variables.iter().flat_map(|variable| &variable.relocations);
            for relocation in stored {
                if let Symbol::Function(id) = relocation.symbol {
                    add(id as usize);
                }
            }
            module.functions.iter().filter_map(|function| function.body.as_ref()).flat_map(named).for_each(&mut add);
        }
    }
    reached
}

/// The functions whose name stands in a body.
fn named(body: &Body) -> impl Iterator<Item = usize> {
    body.instructions.iter().flat_map(|instruction| &instruction.operands).filter_map(|operand| match operand {
        Operand::Symbol(Symbol::Function(id), _) => Some(*id as usize),
        _ => None,
    })
}

/// Every symbol that a body names, as an operand or as the base of an address.
pub fn symbols(body: &Body) -> Vec<Symbol> {
    fn visit(operand: &Operand, found: &mut Vec<Symbol>) {
        match operand {
            Operand::Symbol(symbol, _) => found.push(*symbol),
            Operand::Address(address) | Operand::Tensor(address, _) => {
                if let AddressBase::Symbol(symbol) = address.base {
                    found.push(symbol);
                }
            }
            Operand::List(operands) | Operand::Vector(operands) => operands.iter().for_each(|o| visit(o, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    body.instructions.iter().flat_map(|instruction| &instruction.operands).for_each(|o| visit(o, &mut found));
    found
}
