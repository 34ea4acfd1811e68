//! What lanes of a warp say to one another: `shfl`, `vote`, `match`, `redux`, `elect`, `activemask`.
//!
//! All but `activemask` wait for the lanes of their member mask ([`Context::converge`]).

use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::program::registers::Lane;
use crate::exec::program::step::Flow;
use crate::exec::state::context::Context;
use crate::mask::{Mask, lanes};
use crate::ptx::module::Instruction;
use crate::ptx::opcode::{Modifier, Opcode};
use crate::ptx::operand::Operand;
use crate::ptx::types::ScalarType;
use crate::report::{Fault, FaultKind};

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    match instruction.form.opcode {
        Opcode::Shfl => shfl(decoder, instruction),
        Opcode::Vote => vote(decoder, instruction),
        Opcode::Match if instruction.form.types[0].bits() == 64 => matching::<u64>(decoder, instruction),
        Opcode::Match => matching::<u32>(decoder, instruction),
        Opcode::Redux => redux(decoder, instruction),
        Opcode::Elect => elect(decoder, instruction),
        _ => {
            let d = decoder.target(&instruction.operands[0], ScalarType::B32)?;
            Ok(Decoded::effect(move |context, mask| {
                context.registers().set(d, mask, &[mask; 32]);
                Ok(Flow::Next)
            }))
        }
    }
}

/// What becomes of the lanes of `mask` of which `ready` have met their members.
fn flow(mask: Mask, ready: Mask) -> Flow {
    match ready {
        0 => Flow::Wait,
        ready if ready == mask => Flow::Next,
        ready => Flow::Part(ready),
    }
}

/// From which lane the mode takes a value, and whether that is inside the segment (ISA, `shfl.sync`).
fn shfl_source(mode: Modifier, lane: usize, b: u32, c: u32) -> (usize, bool) {
    let lane = lane as i32;
    let (b, clamp, segment) = ((b & 31) as i32, (c & 31) as i32, (c >> 8 & 31) as i32);
    let first = lane & segment;
    let last = first | clamp & !segment;
    let (source, inside) = match mode {
        Modifier::Up => (lane - b, lane - b >= last),
        Modifier::Down => (lane + b, lane + b <= last),
        Modifier::Bfly => (lane ^ b, lane ^ b <= last),
        _ => (first | b & !segment, first | b & !segment <= last),
    };
    (if inside { source as usize & 31 } else { lane as usize }, inside)
}

fn shfl(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let [target, a, b, c, members] = instruction.operands.as_slice() else {
        return Err("shfl takes five operands".into());
    };
    let form = &instruction.form;
    let modes = [Modifier::Up, Modifier::Down, Modifier::Bfly, Modifier::Idx];
    let mode = modes.into_iter().find(|&mode| form.has(mode)).ok_or("shfl without a mode")?;
    let d = decoder.target(target, ScalarType::B32)?;
    let p = decoder.second_predicate(target);
    let [a, b, c, members] = values(decoder, [a, b, c, members])?;

    Ok(Decoded::effect(move |context, mask| {
        let (ready, groups) = context.converge(mask, members)?;
        let registers = context.registers();
        let (from, b, c) = (registers.get::<u32>(a), registers.get::<u32>(b), registers.get::<u32>(c));
        let mut values = from;
        let mut inside = 0;
        let mut sources = std::array::from_fn(|lane| lane);

        for lane in lanes(ready) {
            let (source, within) = shfl_source(mode, lane, b[lane], c[lane]);
            inside |= u32::from(within) << lane;
            if groups[lane] >> source & 1 == 0 {
                return Err(absent(lane, source, groups[lane]));
            }
            values[lane] = from[source];
            sources[lane] = source;
        }

        registers.set(d, ready, &values);
        if let Some(p) = p {
            registers.set_predicate(p, ready, inside);
        }
        if !context.worker.carried.is_empty() {
            context.carry_lanes(d, &sources, ready);
        }
        Ok(flow(mask, ready))
    }))
}

fn absent(lane: usize, source: usize, group: Mask) -> Fault {
    let message =
        format!("the value of lane {source} is asked for, but only the lanes {group:#010x} are there and members");
    Fault::new(FaultKind::DivergentBarrier, message).lane(lane)
}

fn values<const N: usize>(decoder: &mut Decoder<'_>, operands: [&Operand; N]) -> Result<[u32; N], String> {
    let mut slots = [0; N];
    for (slot, operand) in slots.iter_mut().zip(operands) {
        *slot = decoder.value(operand, ScalarType::B32)?;
    }
    Ok(slots)
}

fn vote(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let [target, source, members] = instruction.operands.as_slice() else {
        return Err("vote takes three operands".into());
    };
    let form = &instruction.form;
    let source = decoder.predicate(source)?;
    let members = decoder.value(members, ScalarType::B32)?;

    if form.has(Modifier::Ballot) {
        let d = decoder.target(target, ScalarType::B32)?;
        return Ok(Decoded::effect(move |context, mask| {
            let (ready, groups) = context.converge(mask, members)?;
            let registers = context.registers();
            let votes = registers.holds(source);
            registers.set(d, ready, &groups.map(|group| group & votes));
            Ok(flow(mask, ready))
        }));
    }

    let d = decoder.target_predicate(target)?;
    let (all, any) = (form.has(Modifier::All), form.has(Modifier::Any));

    Ok(Decoded::effect(move |context, mask| {
        let (ready, groups) = context.converge(mask, members)?;
        let registers = context.registers();
        let votes = registers.holds(source);
        let verdict = |group: Mask| match group & votes {
            yes if all => yes == group,
            yes if any => yes != 0,
            yes => yes == 0 || yes == group,
        };
        let result = lanes(ready).fold(0, |result, lane| result | u32::from(verdict(groups[lane])) << lane);
        registers.set_predicate(d, ready, result);
        Ok(flow(mask, ready))
    }))
}

fn matching<T: Lane + PartialEq + Send + Sync + 'static>(
    decoder: &mut Decoder<'_>,
    instruction: &Instruction,
) -> Decode {
    let [target, a, members] = instruction.operands.as_slice() else {
        return Err("match takes three operands".into());
    };
    let all = instruction.form.has(Modifier::All);
    let d = decoder.target(target, ScalarType::B32)?;
    let p = decoder.second_predicate(target);
    let a = decoder.value(a, instruction.form.types[0])?;
    let members = decoder.value(members, ScalarType::B32)?;

    Ok(Decoded::effect(move |context, mask| {
        let (ready, groups) = context.converge(mask, members)?;
        let registers = context.registers();
        let values = registers.get::<T>(a);
        let mut result = [0_u32; 32];
        let mut same = 0;

        for lane in lanes(ready) {
            let group = groups[lane];
            let equal = lanes(group).filter(|&other| values[other] == values[lane]).fold(0, |m, other| m | 1 << other);
            same |= u32::from(equal == group) << lane;
            result[lane] = if all && equal != group { 0 } else { equal };
        }

        registers.set(d, ready, &result);
        if let Some(p) = p {
            registers.set_predicate(p, ready, same);
        }
        Ok(flow(mask, ready))
    }))
}

fn redux(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let [target, a, members] = instruction.operands.as_slice() else {
        return Err("redux takes three operands".into());
    };
    let form = &instruction.form;
    let signed = form.types[0] == ScalarType::S32;

    let combine: fn(u32, u32) -> u32 = if form.has(Modifier::Add) {
        u32::wrapping_add
    } else if form.has(Modifier::And) {
        |a, b| a & b
    } else if form.has(Modifier::Or) {
        |a, b| a | b
    } else if form.has(Modifier::Xor) {
        |a, b| a ^ b
    } else {
        match (form.has(Modifier::Min), signed) {
            (true, false) => u32::min,
            (false, false) => u32::max,
            (true, true) => |a, b| (a as i32).min(b as i32) as u32,
            (false, true) => |a, b| (a as i32).max(b as i32) as u32,
        }
    };

    let d = decoder.target(target, ScalarType::B32)?;
    let [a, members] = values(decoder, [a, members])?;

    Ok(Decoded::effect(move |context, mask| {
        let (ready, groups) = context.converge(mask, members)?;
        let registers = context.registers();
        let values = registers.get::<u32>(a);
        let mut result = [0; 32];

        let mut rest = ready;
        while rest != 0 {
            let group = groups[rest.trailing_zeros() as usize];
            let total = lanes(group).map(|lane| values[lane]).reduce(combine).unwrap_or(0);
            lanes(group).for_each(|lane| result[lane] = total);
            rest &= !group;
        }

        registers.set(d, ready, &result);
        Ok(flow(mask, ready))
    }))
}

/// The lowest member leads.
fn elect(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let [target, members] = instruction.operands.as_slice() else { return Err("elect takes two operands".into()) };
    let d = decoder.target(target, ScalarType::B32)?;
    let p = decoder.second_predicate(target);
    let members = decoder.value(members, ScalarType::B32)?;
    Ok(Decoded::effect(move |context: &mut Context<'_>, mask| {
        let (ready, groups) = context.converge(mask, members)?;
        let leaders = groups.map(u32::trailing_zeros);
        let registers = context.registers();
        registers.set(d, ready, &leaders);
        if let Some(p) = p {
            let chosen = lanes(ready).filter(|&lane| leaders[lane] as usize == lane).fold(0, |m, lane| m | 1 << lane);
            registers.set_predicate(p, ready, chosen);
        }
        Ok(flow(mask, ready))
    }))
}
