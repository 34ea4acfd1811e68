//! `prefetch`, `applypriority`, `discard` and `createpolicy`: caches are not simulated, but their rules are checked.

use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::program::step::Flow;
use crate::mask::lanes;
use crate::ptx::module::Instruction;
use crate::ptx::opcode::Opcode;
use crate::report::{Fault, FaultKind};

/// Bytes of a cache line, which `discard` and `applypriority` are about.
const LINE: u64 = 128;

/// What `createpolicy` gives: no program can know its bits.
const POLICY: u64 = 0x14f0_0000_0000_0000;

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let o = &instruction.operands;

    match form.opcode {
        Opcode::Createpolicy => {
            let d = decoder.target(&o[0], crate::ptx::ScalarType::B64)?;
            Ok(Decoded::effect(move |context, mask| {
                context.registers().set(d, mask, &[POLICY; 32]);
                Ok(Flow::Next)
            }))
        }
        // Addresses that are not there are ignored.
        Opcode::Prefetch | Opcode::Prefetchu => {
            decoder.address(&o[0], form.space())?;
            Ok(Decoded::effect(|_, _| Ok(Flow::Next)))
        }
        _ => {
            let address = decoder.address(&o[0], form.space())?;
            let size = decoder.integer(&o[1])?;
            if size != LINE as i64 {
                return Err(format!("{} is for {LINE} bytes, not {size}", form.opcode.name()));
            }
            let discards = form.opcode == Opcode::Discard;
            Ok(Decoded::effect(move |context, mask| {
                let addresses = context.addresses(&address);
                for lane in lanes(mask) {
                    let address = addresses[lane];
                    if !address.is_multiple_of(LINE) {
                        let message = format!("address {address:#x} is not a multiple of {LINE}");
                        return Err(Fault::new(FaultKind::Misaligned, message).lane(lane).at(address));
                    }
                    let (index, offset) = context.global(lane, address, LINE)?;
                    if let Some(allocation) = context.grid.memory.get(index).filter(|_| discards) {
                        // Reading it again is undefined until it is written again.
                        allocation.set_written(offset, LINE, false);
                    }
                }
                Ok(Flow::Next)
            }))
        }
    }
}
