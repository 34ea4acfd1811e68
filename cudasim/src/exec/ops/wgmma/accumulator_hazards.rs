//! Marks the instructions that touch registers of some wgmma of their function: they check that none is in flight.

use crate::exec::operands::decoded::Decoded;
use crate::exec::operands::decoder::Decoder;
use crate::exec::program::registers::Slot;
use crate::exec::program::step::{Action, Flow};
use crate::exec::state::wgmma::NamedRegister;
use crate::ptx::module::{Instruction, RegisterId};
use crate::ptx::opcode::{Modifier, Opcode, Shape};
use crate::ptx::operand::{AddressBase, Operand};
use crate::ptx::{Access, ScalarType};

fn is_mma_async(instruction: &Instruction) -> bool {
    instruction.form.opcode == Opcode::Wgmma && instruction.form.has(Modifier::MmaAsync)
}

/// The registers that an operand names.
fn registers(operand: &Operand, visit: &mut impl FnMut(RegisterId)) {
    match operand {
        Operand::Register(id) | Operand::Not(id) => visit(*id),
        Operand::Pair(first, second) => first.iter().chain(second).for_each(|id| visit(*id)),
        Operand::Vector(elements) | Operand::List(elements) => {
            elements.iter().for_each(|element| registers(element, visit));
        }
        Operand::Address(address) => {
            if let AddressBase::Register(id) = address.base {
                visit(id);
            }
        }
        Operand::Tensor(address, coordinates) => {
            registers(&Operand::Address(*address), visit);
            coordinates.iter().for_each(|element| registers(element, visit));
        }
        _ => {}
    }
}

impl Decoder<'_> {
    /// Finds the registers of the function's wgmma instructions, before its code is decoded.
    pub(in crate::exec) fn find_watched(&mut self) {
        self.watch.active = false;
        let body = self.body();
        for instruction in body.instructions.iter().filter(|instruction| is_mma_async(instruction)) {
            for operand in instruction.operands.iter().take(2).filter(|operand| matches!(operand, Operand::Vector(_))) {
                registers(operand, &mut |id| {
                    let next = self.watch.numbers.len() as u32;
                    let slot = self.slot_of(id);
                    self.watch.numbers.entry(slot).or_insert(next);
                });
                self.watch.active = true;
            }
        }
    }

    /// The registers of a vector that some wgmma names, each once; none of anything else.
    pub(super) fn watched(&self, operand: &Operand) -> Vec<NamedRegister> {
        let mut found: Vec<NamedRegister> = Vec::new();
        registers(operand, &mut |id| {
            let body = self.body();
            if body.register_type(id) == Some(ScalarType::Pred) {
                return;
            }
            if let Some(&number) = self.watch.numbers.get(&self.slot_of(id))
                && found.iter().all(|other| other.number != number)
            {
                found.push(NamedRegister { number, name: body.register_name(id).unwrap_or_default() });
            }
        });
        found
    }

    /// The same number for the same accumulators and shape.
    pub(super) fn family(&mut self, d: &[Slot], shape: Shape) -> u32 {
        let families = &mut self.watch.families;
        let known = families.iter().position(|(slots, other)| slots == d && *other == shape);
        known.unwrap_or_else(|| {
            families.push((d.to_vec(), shape));
            families.len() - 1
        }) as u32
    }

    /// Puts the check before what an instruction does, where it touches a watched register.
    pub(in crate::exec) fn watch(&self, instruction: &Instruction, decoded: Decoded) -> Decoded {
        if !self.watch.active || is_mma_async(instruction) {
            return decoded;
        }
        let (mut reads, mut writes) = (Vec::new(), Vec::new());

        for (operand, rule) in instruction.operands.iter().zip(instruction.rules()) {
            let found = self.watched(operand);
            match rule.access {
                Access::Read => reads.extend(found),
                Access::Write => writes.extend(found),
                Access::ReadWrite => {
                    reads.extend(found.iter().cloned());
                    writes.extend(found);
                }
            }
        }

        if reads.is_empty() && writes.is_empty() {
            return decoded;
        }

        // Compilers put copies between a fence and the wgmma that it is for, and the assembler moves them away.
        let modifies = instruction.form.opcode != Opcode::Mov;
        let check = move |flight: &mut crate::exec::state::wgmma::PendingGroups| {
            flight.read(&reads)?;
            flight.write(&writes)?;
            if modifies {
                flight.modify(&writes);
            }
            Ok(())
        };

        let Decoded { action, operands } = decoded;
        match action {
            Action::Compute(function) => Decoded::effect(move |context, mask| {
                check(&mut context.warp.state.wgmma)?;
                // SAFETY: as in `warp::run`: `lanes::select` chose a variant that this processor runs.
                unsafe { function(&mut context.warp.registers, &operands, mask) };
                Ok(Flow::Next)
            }),
            Action::Effect(effect) => Decoded::effect(move |context, mask| {
                check(&mut context.warp.state.wgmma)?;
                effect.run(context, mask)
            }),
            control @ Action::Control(_) => Decoded { action: control, operands },
        }
    }
}
