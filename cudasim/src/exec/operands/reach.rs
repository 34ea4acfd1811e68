//! Which functions a kernel may run.

use crate::ptx::module::{Body, Module, Symbol};
use crate::ptx::opcode::Opcode;
use crate::ptx::operand::{AddressBase, Operand};

/// `entry` and every function with code that it may call, directly or through a register: then it may be any whose address
/// is taken anywhere in the module.
pub fn functions(module: &Module, entry: usize) -> Vec<usize> {
    reached_from(module, vec![entry])
}

/// Whether a function may call itself, directly or by others.
pub fn is_recursive(module: &Module, function: usize) -> bool {
    let others = called(module, function);
    others.contains(&function) || reached_from(module, others).contains(&function)
}

fn reached_from(module: &Module, mut reached: Vec<usize>) -> Vec<usize> {
    let mut next = 0;
    while let Some(&index) = reached.get(next) {
        next += 1;
        for function in called(module, index) {
            if !reached.contains(&function) {
                reached.push(function);
            }
        }
    }
    reached
}

/// The functions with code that one may call itself.
fn called(module: &Module, index: usize) -> Vec<usize> {
    let mut called = Vec::new();
    let Some(body) = &module.functions[index].body else { return called };
    let mut add = |function: usize| {
        let known = module.functions.get(function).is_some_and(|f| f.body.is_some() && !f.is_entry);
        if known && !called.contains(&function) {
            called.push(function);
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
    called
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
