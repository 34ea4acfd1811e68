//! Integer arithmetic.

use crate::exec::operands::decoded::Decode;
use crate::exec::operands::decoder::Decoder;
use crate::exec::program::lanes::compute;
use crate::exec::program::step::Compute;
use crate::numerics::{integer as n, minmax};
use crate::ptx::module::Instruction;
use crate::ptx::opcode::{Modifier, Opcode};
use crate::ptx::types::ScalarType::{self, *};

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let ty = form.types[0];
    let has = |modifier| form.has(modifier);
    let high = has(Modifier::Hi);

    let (function, constant) = match form.opcode {
        Opcode::Add if has(Modifier::Cc) => (add_with_carry(ty), 2),
        Opcode::Addc => (add_with_carry(ty), 1 | u64::from(has(Modifier::Cc)) << 1),
        Opcode::Sub if has(Modifier::Cc) => (subtract_with_borrow(ty), 2 | 4),
        Opcode::Subc => (subtract_with_borrow(ty), 1 | u64::from(has(Modifier::Cc)) << 1),
        Opcode::Mad if has(Modifier::Cc) => (mad_with_carry(ty, high), 2),
        Opcode::Madc => (mad_with_carry(ty, high), 1 | u64::from(has(Modifier::Cc)) << 1),
        Opcode::Add if has(Modifier::Sat) => (Some(compute!(|a: i32, b: i32| -> i32 { n::add_sat_s32(a, b) })), 0),
        Opcode::Sub if has(Modifier::Sat) => (Some(compute!(|a: i32, b: i32| -> i32 { n::sub_sat_s32(a, b) })), 0),
        Opcode::Add => (add(ty), 0),
        Opcode::Sub => (subtract(ty), 0),
        Opcode::Mul if has(Modifier::Wide) => (multiply_wide(ty), 0),
        Opcode::Mul => (if high { multiply_high(ty) } else { multiply_low(ty) }, 0),
        Opcode::Mad if has(Modifier::Wide) => (mad_wide(ty), 0),
        Opcode::Mad if has(Modifier::Sat) => {
            (Some(compute!(|a: i32, b: i32, c: i32| -> i32 { n::mad_hi_sat_s32(a, b, c) })), 0)
        }
        Opcode::Mad => (if high { mad_high(ty) } else { mad_low(ty) }, 0),
        Opcode::Mul24 => (multiply_24(ty, high), 0),
        Opcode::Mad24 if has(Modifier::Sat) => {
            (Some(compute!(|a: i32, b: i32, c: i32| -> i32 { n::mad24_hi_sat_s32(a, b, c) })), 0)
        }
        Opcode::Mad24 => (mad_24(ty, high), 0),
        Opcode::Sad => (sad(ty), 0),
        Opcode::Div => (divide(ty), 0),
        Opcode::Rem => (remainder(ty), 0),
        Opcode::Abs => (absolute(ty), 0),
        Opcode::Neg => (negate(ty), 0),
        Opcode::Min | Opcode::Max => {
            let max = form.opcode == Opcode::Max;
            (select(ty, max, has(Modifier::Relu)), u64::from(max) | u64::from(has(Modifier::Relu)) << 1)
        }
        Opcode::Dp4a | Opcode::Dp2a => {
            let signed = |nth: usize| u64::from(form.types.get(nth).is_some_and(|ty| ty.is_signed()));
            let function = match form.opcode {
                Opcode::Dp4a => compute!(|o; a: u32, b: u32, c: u32| -> u32 {
                    n::dp4a(o.constant & 1 != 0, o.constant & 2 != 0, a, b, c)
                }),
                _ => compute!(|o; a: u32, b: u32, c: u32| -> u32 {
                    n::dp2a(o.constant & 4 != 0, o.constant & 1 != 0, o.constant & 2 != 0, a, b, c)
                }),
            };
            (Some(function), signed(0) | signed(1) << 1 | u64::from(high) << 2)
        }
        _ => (None, 0),
    };

    let function = function.ok_or_else(|| super::unsupported(instruction))?;
    super::compute_of_values(decoder, instruction, function, constant)
}

/// A compute over unsigned lanes: signed operations whose bits are the same.
macro_rules! by_width {
    ($ty:expr, |$($a:ident),+| $body:block) => {
        match $ty {
            U16 | S16 | B16 => Some(compute!(|$($a: u16),+| -> u16 $body)),
            U32 | S32 | B32 => Some(compute!(|$($a: u32),+| -> u32 $body)),
            U64 | S64 | B64 => Some(compute!(|$($a: u64),+| -> u64 $body)),
            _ => None,
        }
    };
}

/// A compute with a function for each of the six types.
macro_rules! by_type {
    ($ty:expr, $u16:path, $s16:path, $u32:path, $s32:path, $u64:path, $s64:path, |$($a:ident),+|) => {
        match $ty {
            U16 => Some(compute!(|$($a: u16),+| -> u16 { $u16($($a),+) })),
            S16 => Some(compute!(|$($a: i16),+| -> i16 { $s16($($a),+) })),
            U32 => Some(compute!(|$($a: u32),+| -> u32 { $u32($($a),+) })),
            S32 => Some(compute!(|$($a: i32),+| -> i32 { $s32($($a),+) })),
            U64 => Some(compute!(|$($a: u64),+| -> u64 { $u64($($a),+) })),
            S64 => Some(compute!(|$($a: i64),+| -> i64 { $s64($($a),+) })),
            _ => None,
        }
    };
}

fn add(ty: ScalarType) -> Option<Compute> {
    match ty {
        U16x2 | S16x2 => Some(compute!(|a: u32, b: u32| -> u32 { n::add_16x2(a, b) })),
        _ => by_width!(ty, |a, b| { a.wrapping_add(b) }),
    }
}

fn subtract(ty: ScalarType) -> Option<Compute> {
    by_width!(ty, |a, b| { a.wrapping_sub(b) })
}

fn multiply_low(ty: ScalarType) -> Option<Compute> {
    by_width!(ty, |a, b| { a.wrapping_mul(b) })
}

fn multiply_high(ty: ScalarType) -> Option<Compute> {
    by_type!(ty, n::mul_hi_u16, n::mul_hi_s16, n::mul_hi_u32, n::mul_hi_s32, n::mul_hi_u64, n::mul_hi_s64, |a, b|)
}

fn multiply_wide(ty: ScalarType) -> Option<Compute> {
    Some(match ty {
        U16 => compute!(|a: u16, b: u16| -> u32 { n::mul_wide_u16(a, b) }),
        S16 => compute!(|a: i16, b: i16| -> i32 { n::mul_wide_s16(a, b) }),
        U32 => compute!(|a: u32, b: u32| -> u64 { n::mul_wide_u32(a, b) }),
        S32 => compute!(|a: i32, b: i32| -> i64 { n::mul_wide_s32(a, b) }),
        _ => return None,
    })
}

fn mad_low(ty: ScalarType) -> Option<Compute> {
    by_width!(ty, |a, b, c| { a.wrapping_mul(b).wrapping_add(c) })
}

fn mad_high(ty: ScalarType) -> Option<Compute> {
    Some(match ty {
        U16 => compute!(|a: u16, b: u16, c: u16| -> u16 { n::mul_hi_u16(a, b).wrapping_add(c) }),
        S16 => compute!(|a: i16, b: i16, c: i16| -> i16 { n::mul_hi_s16(a, b).wrapping_add(c) }),
        U32 => compute!(|a: u32, b: u32, c: u32| -> u32 { n::mul_hi_u32(a, b).wrapping_add(c) }),
        S32 => compute!(|a: i32, b: i32, c: i32| -> i32 { n::mul_hi_s32(a, b).wrapping_add(c) }),
        U64 => compute!(|a: u64, b: u64, c: u64| -> u64 { n::mul_hi_u64(a, b).wrapping_add(c) }),
        S64 => compute!(|a: i64, b: i64, c: i64| -> i64 { n::mul_hi_s64(a, b).wrapping_add(c) }),
        _ => return None,
    })
}

fn mad_wide(ty: ScalarType) -> Option<Compute> {
    Some(match ty {
        U16 => compute!(|a: u16, b: u16, c: u32| -> u32 { n::mul_wide_u16(a, b).wrapping_add(c) }),
        S16 => compute!(|a: i16, b: i16, c: i32| -> i32 { n::mul_wide_s16(a, b).wrapping_add(c) }),
        U32 => compute!(|a: u32, b: u32, c: u64| -> u64 { n::mul_wide_u32(a, b).wrapping_add(c) }),
        S32 => compute!(|a: i32, b: i32, c: i64| -> i64 { n::mul_wide_s32(a, b).wrapping_add(c) }),
        _ => return None,
    })
}

fn multiply_24(ty: ScalarType, high: bool) -> Option<Compute> {
    Some(match (ty, high) {
        (U32, false) => compute!(|a: u32, b: u32| -> u32 { n::mul24_lo_u32(a, b) }),
        (U32, true) => compute!(|a: u32, b: u32| -> u32 { n::mul24_hi_u32(a, b) }),
        (S32, false) => compute!(|a: i32, b: i32| -> i32 { n::mul24_lo_s32(a, b) }),
        (S32, true) => compute!(|a: i32, b: i32| -> i32 { n::mul24_hi_s32(a, b) }),
        _ => return None,
    })
}

fn mad_24(ty: ScalarType, high: bool) -> Option<Compute> {
    Some(match (ty, high) {
        (U32, false) => compute!(|a: u32, b: u32, c: u32| -> u32 { n::mul24_lo_u32(a, b).wrapping_add(c) }),
        (U32, true) => compute!(|a: u32, b: u32, c: u32| -> u32 { n::mul24_hi_u32(a, b).wrapping_add(c) }),
        (S32, false) => compute!(|a: i32, b: i32, c: i32| -> i32 { n::mul24_lo_s32(a, b).wrapping_add(c) }),
        (S32, true) => compute!(|a: i32, b: i32, c: i32| -> i32 { n::mul24_hi_s32(a, b).wrapping_add(c) }),
        _ => return None,
    })
}

fn sad(ty: ScalarType) -> Option<Compute> {
    by_type!(ty, n::sad_u16, n::sad_s16, n::sad_u32, n::sad_s32, n::sad_u64, n::sad_s64, |a, b, c|)
}

fn divide(ty: ScalarType) -> Option<Compute> {
    by_type!(ty, n::div_u16, n::div_s16, n::div_u32, n::div_s32, n::div_u64, n::div_s64, |a, b|)
}

fn remainder(ty: ScalarType) -> Option<Compute> {
    by_type!(ty, n::rem_u16, n::rem_s16, n::rem_u32, n::rem_s32, n::rem_u64, n::rem_s64, |a, b|)
}

fn absolute(ty: ScalarType) -> Option<Compute> {
    Some(match ty {
        S16 => compute!(|a: i16| -> i16 { a.wrapping_abs() }),
        S32 => compute!(|a: i32| -> i32 { a.wrapping_abs() }),
        S64 => compute!(|a: i64| -> i64 { a.wrapping_abs() }),
        _ => return None,
    })
}

fn negate(ty: ScalarType) -> Option<Compute> {
    by_width!(ty, |a| { a.wrapping_neg() })
}

/// `min` and `max`; the constant says which: bit 0 `max`, bit 1 `.relu`.
fn select(ty: ScalarType, max: bool, relu: bool) -> Option<Compute> {
    Some(match (ty, max) {
        (S32, _) if relu => {
            compute!(|o; a: i32, b: i32| -> i32 { minmax::select_s32(o.constant & 1 != 0, true, a, b) })
        }
        (S16x2, _) => compute!(|o; a: u32, b: u32| -> u32 {
            minmax::select_s16x2(o.constant & 1 != 0, o.constant & 2 != 0, a, b)
        }),
        (U16x2, _) => compute!(|o; a: u32, b: u32| -> u32 { minmax::select_u16x2(o.constant & 1 != 0, a, b) }),
        (_, false) => return by_type!(ty, u16::min, i16::min, u32::min, i32::min, u64::min, i64::min, |a, b|),
        (_, true) => return by_type!(ty, u16::max, i16::max, u32::max, i32::max, u64::max, i64::max, |a, b|),
    })
}

/// A compute with carry: `op(a, b.., carry in) -> (result, carry out)`. The constant: bit 0 takes the carry that is there,
/// bit 1 leaves one, bit 2 starts from a carry that is set.
macro_rules! carry {
    ($ty:ty, |$($a:ident $place:literal),+; $carry:ident| $body:expr) => {
        compute!(|r, o, mask| {
            $(let $a = r.get::<$ty>(o.slots[$place]);)+
            let carry_in = match o.constant & 5 {
                0 => 0,
                4 => u32::MAX,
                _ => r.carry,
            };
            let mut carry_out = 0;
            let mut result = [0; 32];
            for lane in 0..32 {
                $(let $a = $a[lane];)+
                let $carry = carry_in >> lane & 1 != 0;
                let (value, carry) = $body;
                result[lane] = value;
                carry_out |= u32::from(carry) << lane;
            }
            r.set(o.slots[0], mask, &result);
            if o.constant & 2 != 0 {
                r.carry = r.carry & !mask | carry_out & mask;
            }
        })
    };
}

fn add_with_carry(ty: ScalarType) -> Option<Compute> {
    Some(match ty.bits() {
        32 => carry!(u32, |a 1, b 2; carry| n::add_carry_32(a, b, carry)),
        64 => carry!(u64, |a 1, b 2; carry| n::add_carry_64(a, b, carry)),
        _ => return None,
    })
}

/// A subtraction adds the complement, so the carry that it takes and leaves is set where nothing is borrowed. The ISA speaks
/// of a borrow and does not say how it is kept, but 128-bit division by nvcc reads it with `addc` after `subc.cc`.
fn subtract_with_borrow(ty: ScalarType) -> Option<Compute> {
    Some(match ty.bits() {
        32 => carry!(u32, |a 1, b 2; carry| n::add_carry_32(a, !b, carry)),
        64 => carry!(u64, |a 1, b 2; carry| n::add_carry_64(a, !b, carry)),
        _ => return None,
    })
}

fn mad_with_carry(ty: ScalarType, high: bool) -> Option<Compute> {
    Some(match (ty, high) {
        (U32 | S32, false) => carry!(u32, |a 1, b 2, c 3; carry| n::mad_lo_carry_32(a, b, c, carry)),
        (U64 | S64, false) => carry!(u64, |a 1, b 2, c 3; carry| n::mad_lo_carry_64(a, b, c, carry)),
        (U32, true) => carry!(u32, |a 1, b 2, c 3; carry| n::mad_hi_carry_32(false, a, b, c, carry)),
        (S32, true) => carry!(u32, |a 1, b 2, c 3; carry| n::mad_hi_carry_32(true, a, b, c, carry)),
        (U64, true) => carry!(u64, |a 1, b 2, c 3; carry| n::mad_hi_carry_64(false, a, b, c, carry)),
        (S64, true) => carry!(u64, |a 1, b 2, c 3; carry| n::mad_hi_carry_64(true, a, b, c, carry)),
        _ => return None,
    })
}
