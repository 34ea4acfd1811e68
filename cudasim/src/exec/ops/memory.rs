//! `ld`, `ldu` and `st`: every space, type and vector; cache operators and hints have no effect.

use crate::exec::access::lane::{Access, locate};
use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::program::address::{Address, Window};
use crate::exec::program::registers::{Lane, Registers, Slot};
use crate::exec::program::step::Flow;
use crate::exec::state::context::Context;
use crate::mask::{Mask, lanes};
use crate::memory::Word;
use crate::ptx::module::Instruction;
use crate::ptx::opcode::{Modifier, Opcode};
use crate::ptx::operand::Operand;
use crate::report::Fault;

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let ty = form.types[0];
    let strong = [Modifier::Volatile, Modifier::Relaxed, Modifier::Acquire, Modifier::Release, Modifier::Mmio];
    let strong = strong.into_iter().any(|modifier| form.has(modifier));
    let o = &instruction.operands;
    let (address, data) = if form.opcode == Opcode::St { (&o[0], &o[1]) } else { (&o[1], &o[0]) };
    let address = decoder.address(address, form.space())?;
    let access = Access { space: address.space, strong, defers: form.opcode != Opcode::St };
    let elements = match data {
        Operand::Vector(elements) => elements.as_slice(),
        single => std::slice::from_ref(single),
    };
    let mut pieces = Vec::new();

    for element in elements {
        let slot = match form.opcode {
            Opcode::St => decoder.value(element, ty)?,
            _ => decoder.target(element, ty)?,
        };
        let width = decoder.width(element, ty);
        pieces.push(Piece { slot, width });
        if ty.bits() == 128 {
            // The low half, then the high one.
            pieces.push(Piece { slot: slot + 2, width });
        }
    }

    let plan = Plan { access, address, signed: ty.is_signed(), releases: form.has(Modifier::Release) };
    let decoded = match (form.opcode, ty.bytes()) {
        (Opcode::St, 1) => store_any::<u8>(plan, &pieces),
        (Opcode::St, 2) => store_any::<u16>(plan, &pieces),
        (Opcode::St, 4) => store_any::<u32>(plan, &pieces),
        (Opcode::St, _) => store_any::<u64>(plan, &pieces),
        (_, 1) => load_any::<u8>(plan, &pieces),
        (_, 2) => load_any::<u16>(plan, &pieces),
        (_, 4) => load_any::<u32>(plan, &pieces),
        (_, _) => load_any::<u64>(plan, &pieces),
    };

    decoded.ok_or_else(|| super::unsupported(instruction))
}

/// A register that takes part: its slot and its width in bits, which may be more than the type has.
#[derive(Clone, Copy)]
struct Piece {
    slot: Slot,
    width: u32,
}

#[derive(Clone, Copy)]
struct Plan {
    access: Access,
    address: Address,
    signed: bool,
    releases: bool,
}

fn load_any<T: Word + Lane>(plan: Plan, pieces: &[Piece]) -> Option<Decoded> {
    Some(match pieces.len() {
        1 => load::<T, 1>(plan, pieces.first_chunk()?),
        2 => load::<T, 2>(plan, pieces.first_chunk()?),
        4 => load::<T, 4>(plan, pieces.first_chunk()?),
        _ => return None,
    })
}

fn store_any<T: Word + Lane>(plan: Plan, pieces: &[Piece]) -> Option<Decoded> {
    Some(match pieces.len() {
        1 => store::<T, 1>(plan, pieces.first_chunk()?),
        2 => store::<T, 2>(plan, pieces.first_chunk()?),
        4 => store::<T, 4>(plan, pieces.first_chunk()?),
        _ => return None,
    })
}

fn load<T: Word + Lane, const N: usize>(plan: Plan, pieces: &[Piece; N]) -> Decoded {
    let Plan { access, address, signed, .. } = plan;
    let targets = pieces.map(|piece| (piece.slot, writer::<T>(signed, piece.width)));
    let widths = pieces.map(|piece| (piece.slot, piece.width));

    Decoded::effect(move |context, mask| {
        let addresses = context.addresses(&address);
        let mut values = [[T::default(); 32]; N];
        context.load_warp(access, mask, &addresses, &mut values)?;
        if !context.worker.missing.is_empty() {
            context.take_missing(&addresses, &widths, T::BYTES, signed);
        }

        let mut spins = false;
        if access.strong {
            // 16 bytes travel in one piece: the status and the value of a scan's tile.
            if N as u64 * T::BYTES == 16
                && let Some(halves) = context.reload_wide(access.space, mask, &addresses)
            {
                let each = (8 / T::BYTES) as usize;
                for (part, values) in values.iter_mut().enumerate() {
                    let shift = (part % each) as u64 * 8 * T::BYTES;
                    *values = halves[part / each].map(|half| T::cut(half >> shift));
                }
            }
            context.acquire_at_all(access.space, mask, &addresses, N as u64 * T::BYTES);
            let lane = mask.trailing_zeros() as usize & 31;
            spins = context.spins(addresses[lane], values[0][lane].into());
        }

        for ((slot, write), values) in targets.iter().zip(&values) {
            write(context.registers(), *slot, mask, values);
        }
        Ok(if spins { Flow::Yield } else { Flow::Next })
    })
}

fn store<T: Word + Lane, const N: usize>(plan: Plan, pieces: &[Piece; N]) -> Decoded {
    let Plan { access, address, releases, .. } = plan;
    let wide = pieces.map(|piece| piece.width > 32 && T::BYTES < 8);
    let slots = pieces.map(|piece| piece.slot);

    Decoded::effect(move |context, mask| {
        let addresses = context.addresses(&address);
        let values: [[T; 32]; N] = std::array::from_fn(|part| match wide[part] {
            true => context.warp.registers.get::<u64>(slots[part]).map(T::cut),
            false => context.warp.registers.get::<T>(slots[part]),
        });

        let lacks =
            if context.worker.carried.is_empty() { 0 } else { begin_carried(context, access, mask, &addresses)? };
        if access.strong {
            context.release_at_all(access.space, mask, &addresses, N as u64 * T::BYTES, releases);
            let mut rest = mask;
            for lane in lanes(mask).filter(|_| N as u64 * T::BYTES == 16) {
                let all =
                    (0..N).rev().fold(0, |all, part| all << (8 * T::BYTES) | u128::from(values[part][lane].into()));
                if context.store_wide(access.space, lane, addresses[lane], all)? {
                    rest &= !(1 << lane);
                }
            }
            if rest != 0 {
                context.store_warp(access, rest, &addresses, &values)?;
            }
            context.progress();
        } else {
            context.store_warp(access, mask, &addresses, &values)?;
        }
        if lacks != 0 {
            context.unwrite(access.space, lacks, &addresses, &slots, T::BYTES);
        }
        Ok(Flow::Next)
    })
}

/// The lanes of a store whose data lack something.
///
/// # Errors
/// They are stored to global memory.
#[cold]
fn begin_carried(context: &mut Context<'_>, access: Access, mask: Mask, addresses: &[u64; 32]) -> Result<Mask, Fault> {
    let lacks = context.lanes_carried(mask);
    let global = lanes(lacks).filter(|&lane| locate(access.space, addresses[lane]).0 == Window::Global);
    match global.fold(0, |mask, lane| mask | 1 << lane) {
        0 => Ok(lacks),
        global => context.check_stored(global).map(|()| lacks),
    }
}

type Writer<T> = fn(&mut Registers, Slot, Mask, &[T; 32]);

/// Writes values to registers of `width` bits: wider ones are sign- or zero-extended.
fn writer<T: Word + Lane>(signed: bool, width: u32) -> Writer<T> {
    fn extended<T: Word>(value: T) -> i64 {
        let unused = 64 - 8 * T::BYTES;
        (value.into() << unused) as i64 >> unused
    }
    match (signed && u64::from(width) > 8 * T::BYTES, width) {
        (true, 64) => |registers, slot, mask, values| registers.set(slot, mask, &values.map(extended::<T>)),
        (true, 32) => |registers, slot, mask, values| registers.set(slot, mask, &values.map(|v| extended(v) as i32)),
        (true, _) => |registers, slot, mask, values| registers.set(slot, mask, &values.map(|v| extended(v) as i16)),
        (false, 64) => |registers, slot, mask, values| registers.set::<u64>(slot, mask, &values.map(Into::into)),
        (false, _) => |registers, slot, mask, values| registers.set(slot, mask, values),
    }
}
