//! Video instructions: `vadd`, `vadd2`, `vadd4` and their kin. All that they say is in the constant of the step.

use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::program::lanes::compute;
use crate::numerics::video::{Operation, Second, Video, WHOLE};
use crate::ptx::form::Form;
use crate::ptx::module::Instruction;
use crate::ptx::opcode::{Modifier, Opcode};
use crate::ptx::operand::{Operand, Selector};
use crate::ptx::types::ScalarType;

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let (form, o) = (&instruction.form, instruction.operands.as_slice());
    let [d, a, b, ..] = o else { return Err("a video instruction without its operands".into()) };
    let (operation, elements) = operation(form.opcode).ok_or_else(|| super::unsupported(instruction))?;
    let signed = |nth: usize| form.types.get(nth).is_some_and(|ty| ty.is_signed());

    // Comparisons give unsigned numbers and name the types of A and B only; shifts those of D and A.
    let signed = match operation {
        Operation::Compare => [false, signed(0), signed(1)],
        _ => [signed(0), signed(1), signed(2)],
    };

    let seconds = [(Modifier::Add, Second::Add), (Modifier::Min, Second::Min), (Modifier::Max, Second::Max)];
    let second =
        seconds.into_iter().find(|&(modifier, _)| form.has(modifier)).map_or(Second::Merge, |(_, second)| second);
    let select = [d, a, b].map(selector);
    if select[0].is_some() && elements == 1 && second != Second::Merge {
        return Err("a part of the result and a second operation: one of them only".into());
    }

    let video = Video {
        operation,
        second,
        elements,
        signed,
        saturate: form.has(Modifier::Sat),
        a: sources(elements, select[1], 0)?,
        b: sources(elements, select[2], elements)?,
        d: target(elements, select[0])?,
        variant: variant(form, operation, o),
    };

    // Where there is no c it is not read: any slot will do.
    let ty = ScalarType::B32;
    let [d, a, b] = [decoder.target(d, ty)?, decoder.value(a, ty)?, decoder.value(b, ty)?];
    let c = match o.get(3) {
        Some(c) => decoder.value(c, ty)?,
        None if second != Second::Merge || select[0].is_some() || elements > 1 => {
            return Err("a second operation or a part of the result without operand c".into());
        }
        None => decoder.constant(32, 0),
    };
    let function = compute!(|o; a: u32, b: u32, c: u32| -> u32 { Video::unpack(o.constant).apply(a, b, c) });
    Ok(Decoded::compute(function, &[d, a, b, c], video.pack()))
}

/// The operation, and how many elements it has.
fn operation(opcode: Opcode) -> Option<(Operation, u8)> {
    use Opcode::*;
    Some(match opcode {
        Vadd => (Operation::Add, 1),
        Vadd2 => (Operation::Add, 2),
        Vadd4 => (Operation::Add, 4),
        Vsub => (Operation::Subtract, 1),
        Vsub2 => (Operation::Subtract, 2),
        Vsub4 => (Operation::Subtract, 4),
        Vabsdiff => (Operation::Difference, 1),
        Vabsdiff2 => (Operation::Difference, 2),
        Vabsdiff4 => (Operation::Difference, 4),
        Vmin => (Operation::Min, 1),
        Vmin2 => (Operation::Min, 2),
        Vmin4 => (Operation::Min, 4),
        Vmax => (Operation::Max, 1),
        Vmax2 => (Operation::Max, 2),
        Vmax4 => (Operation::Max, 4),
        Vavrg2 => (Operation::Average, 2),
        Vavrg4 => (Operation::Average, 4),
        Vshl => (Operation::Left, 1),
        Vshr => (Operation::Right, 1),
        Vmad => (Operation::MultiplyAdd, 1),
        Vset => (Operation::Compare, 1),
        Vset2 => (Operation::Compare, 2),
        Vset4 => (Operation::Compare, 4),
        _ => return None,
    })
}

fn selector(operand: &Operand) -> Option<&Selector> {
    match operand {
        Operand::Part(_, selector) if !selector.digits.is_empty() => Some(selector),
        _ => None,
    }
}

/// Which parts an operand takes; those from `first` on where it does not say.
fn sources(elements: u8, selector: Option<&Selector>, first: u8) -> Result<[u8; 4], String> {
    let Some(selector) = selector else {
        let whole = elements == 1;
        return Ok(std::array::from_fn(|i| if whole { WHOLE } else { (first + i as u8) & 7 }));
    };
    if elements == 1 {
        return Ok([scalar(selector)?, 0, 0, 0]);
    }

    let limit = 2 * elements;
    let fits = selector.bytes == (elements == 4)
        && selector.digits.len() == usize::from(elements)
        && selector.digits.iter().all(|&digit| digit < limit);
    if !fits {
        return Err(format!("a selector that does not name {elements} parts of two words"));
    }
    // The highest comes first in the text.
    let mut parts = [0; 4];
    parts.iter_mut().zip(selector.digits.iter().rev()).for_each(|(part, &digit)| *part = digit);
    Ok(parts)
}

/// Which part of the result is written, or which parts.
fn target(elements: u8, selector: Option<&Selector>) -> Result<u8, String> {
    let Some(selector) = selector else { return Ok(if elements == 1 { WHOLE } else { (1 << elements) - 1 }) };
    if elements == 1 {
        return scalar(selector);
    }
    let falling = selector.digits.windows(2).all(|pair| pair[0] > pair[1]);
    if selector.bytes != (elements == 4) || !falling || selector.digits.iter().any(|&digit| digit >= elements) {
        return Err(format!("a mask that does not name some of {elements} parts"));
    }
    Ok(selector.digits.iter().fold(0, |mask, &digit| mask | 1 << digit))
}

fn scalar(selector: &Selector) -> Result<u8, String> {
    match (selector.bytes, selector.digits.as_slice()) {
        (true, &[byte @ 0..4]) => Ok(byte),
        (false, &[half @ 0..2]) => Ok(4 + half),
        _ => Err("a selector that is neither .b0 to .b3 nor .h0 or .h1".into()),
    }
}

fn variant(form: &Form, operation: Operation, operands: &[Operand]) -> u8 {
    let has = |modifier| form.has(modifier);
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    match operation {
        Operation::Left | Operation::Right => u8::from(has(Modifier::Wrap)),
        Operation::Compare => {
            let order = [Modifier::Eq, Modifier::Ne, Modifier::Lt, Modifier::Le, Modifier::Gt, Modifier::Ge];
            order.iter().position(|&modifier| has(modifier)).unwrap_or(0) as u8
        }
        Operation::MultiplyAdd => {
            let negated = |place: usize| match operands.get(place) {
                Some(Operand::Part(_, selector)) => selector.negated,
                _ => false,
            };
            flag(has(Modifier::Shr7), Video::SHIFT_7)
                | flag(has(Modifier::Shr15), Video::SHIFT_15)
                | flag(has(Modifier::Po), Video::PLUS_ONE)
                | flag(negated(1) != negated(2), Video::NEGATE_PRODUCT)
                | flag(negated(3), Video::NEGATE_ADDEND)
        }
        _ => 0,
    }
}
