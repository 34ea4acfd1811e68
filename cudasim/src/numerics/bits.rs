//! Bit manipulation (PTX ISA, "Logic and Shift Instructions", and the bit-field forms of "Integer Arithmetic").
//!
//! `and`, `or`, `xor`, `not`, `clz`, `popc` and `brev` are Rust's operators, `leading_zeros`, `count_ones` and
//! `reverse_bits`.

/// Writes shifts and bit fields for one width: shift amounts past the width behave as the width.
macro_rules! width {
    ($shl:ident, $shr_u:ident, $shr_s:ident, $u:ty, $s:ty, $bits:literal) => {
        #[doc = concat!("`shl.b", $bits, "`: amounts of ", $bits, " or more give 0.")]
        #[inline(always)]
        pub fn $shl(a: $u, amount: u32) -> $u {
            if amount < $bits { a << amount } else { 0 }
        }

        #[doc = concat!("`shr.u", $bits, "` and `shr.b", $bits, "`: amounts of ", $bits, " or more give 0.")]
        #[inline(always)]
        pub fn $shr_u(a: $u, amount: u32) -> $u {
            if amount < $bits { a >> amount } else { 0 }
        }

        #[doc = concat!("`shr.s", $bits, "`: amounts of ", $bits, " or more fill with the sign.")]
        #[inline(always)]
        pub fn $shr_s(a: $s, amount: u32) -> $s {
            a >> amount.min($bits - 1)
        }
    };
}

width!(shl_b16, shr_u16, shr_s16, u16, i16, 16);
width!(shl_b32, shr_u32, shr_s32, u32, i32, 32);
width!(shl_b64, shr_u64, shr_s64, u64, i64, 64);

/// `.wrap` or `.clamp`, as `shf`, `szext` and `bmsk` take an amount of 32 or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Modulo 32.
    Wrap,
    /// At most 32.
    Clamp,
}

impl Amount {
    #[inline(always)]
    fn of(self, amount: u32) -> u32 {
        match self {
            Self::Wrap => amount & 31,
            Self::Clamp => amount.min(32),
        }
    }
}

/// `shf.l.mode.b32 d, a, b, c`: the upper word of `[b:a]` shifted left by `c`.
#[inline(always)]
pub fn shf_l(mode: Amount, a: u32, b: u32, c: u32) -> u32 {
    let pair = u64::from(b) << 32 | u64::from(a);
    (pair << mode.of(c) >> 32) as u32
}

/// `shf.r.mode.b32 d, a, b, c`: the lower word of `[b:a]` shifted right by `c`.
#[inline(always)]
pub fn shf_r(mode: Amount, a: u32, b: u32, c: u32) -> u32 {
    let pair = u64::from(b) << 32 | u64::from(a);
    (pair >> mode.of(c)) as u32
}

/// Ones at the bits below `count`; all of them from 64 on.
#[inline(always)]
fn ones(count: u32) -> u64 {
    if count < 64 { (1 << count) - 1 } else { u64::MAX }
}

/// `bfe` over a register of `width` bits held in the low bits of `a`; the sign of the field extends it if `signed`.
#[inline(always)]
fn bit_field_extract(signed: bool, width: u32, a: u64, position: u32, length: u32) -> u64 {
    let (position, length) = (position & 0xff, length & 0xff);
    let field = if position < 64 { a >> position & ones(length) } else { 0 };
    if !signed || length == 0 {
        return field;
    }
    // Above the field, and above the register where the field reaches past it, stands the field's highest bit.
    let highest = (position + length - 1).min(width - 1);
    let known = length.min((width).saturating_sub(position));
    if a >> highest & 1 != 0 { field | !ones(known) } else { field }
}

/// `bfe.u32` (`signed` false) and `bfe.s32 d, a, position, length`; of the last two the low eight bits count.
#[inline]
pub fn bfe_32(signed: bool, a: u32, position: u32, length: u32) -> u32 {
    bit_field_extract(signed, 32, a.into(), position, length) as u32
}

/// `bfe.u64` (`signed` false) and `bfe.s64 d, a, position, length`.
#[inline]
pub fn bfe_64(signed: bool, a: u64, position: u32, length: u32) -> u64 {
    bit_field_extract(signed, 64, a, position, length)
}

/// `bfi.b64 d, a, b, position, length`: `b` with a field of `length` bits at `position` taken from the low bits of `a`.
#[inline]
pub fn bfi_64(a: u64, b: u64, position: u32, length: u32) -> u64 {
    let (position, length) = (position & 0xff, length & 0xff);
    if position >= 64 {
        return b;
    }
    let mask = ones(length) << position;
    b & !mask | a << position & mask
}

/// `bfi.b32 d, a, b, position, length`.
#[inline]
pub fn bfi_32(a: u32, b: u32, position: u32, length: u32) -> u32 {
    bfi_64(a.into(), b.into(), position, length) as u32
}

/// The position of the highest set bit among the low `width` bits, or (`shift_amount`) how far a left shift must move
/// it to the top; all ones if no bit is set.
#[inline(always)]
fn find_highest(shift_amount: bool, width: u32, a: u64) -> u32 {
    match a.checked_ilog2() {
        None => u32::MAX,
        Some(position) => {
            if shift_amount {
                width - 1 - position
            } else {
                position
            }
        }
    }
}

/// `bfind{.shiftamt}.u32`.
#[inline]
pub fn bfind_u32(shift_amount: bool, a: u32) -> u32 {
    find_highest(shift_amount, 32, a.into())
}

/// `bfind{.shiftamt}.s32`: the highest bit that differs from the sign.
#[inline]
pub fn bfind_s32(shift_amount: bool, a: i32) -> u32 {
    bfind_u32(shift_amount, (a ^ a >> 31) as u32)
}

/// `bfind{.shiftamt}.u64`.
#[inline]
pub fn bfind_u64(shift_amount: bool, a: u64) -> u32 {
    find_highest(shift_amount, 64, a)
}

/// `bfind{.shiftamt}.s64`: the highest bit that differs from the sign.
#[inline]
pub fn bfind_s64(shift_amount: bool, a: i64) -> u32 {
    bfind_u64(shift_amount, (a ^ a >> 63) as u64)
}

/// `fns.b32 d, mask, base, offset`: the position of the `|offset|`-th set bit of `mask`, counted from `base` (taken
/// along) upwards for a positive `offset`, downwards for a negative one; with `offset` 0, `base` itself if its bit is
/// set. All ones if there is none.
#[inline]
pub fn fns(mask: u32, base: u32, offset: i32) -> u32 {
    if base > 31 {
        return u32::MAX;
    }
    let bit = |&position: &u32| mask >> position & 1 != 0;
    let skip = offset.unsigned_abs().saturating_sub(1) as usize;
    let found = match offset.signum() {
        0 => Some(base).filter(bit),
        1 => (base..32).filter(bit).nth(skip),
        _ => (0..=base).rev().filter(bit).nth(skip),
    };
    found.unwrap_or(u32::MAX)
}

/// The modes of `prmt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permute {
    /// No mode: each nibble of the selector names a byte (3 bits) and whether to replicate its sign.
    Index,
    /// `.f4e`: four bytes forward from the selected one.
    Forward4,
    /// `.b4e`: four bytes backward from the selected one.
    Backward4,
    /// `.rc8`: the selected byte of `a` four times.
    Replicate8,
    /// `.ecl`: edge clamp, left.
    EdgeLeft,
    /// `.ecr`: edge clamp, right.
    EdgeRight,
    /// `.rc16`: the selected half of `a` twice.
    Replicate16,
}

/// `prmt.b32{.mode} d, a, b, c`: four of the eight bytes `[b:a]`, as the selector `c` says.
#[inline]
pub fn prmt(mode: Permute, a: u32, b: u32, c: u32) -> u32 {
    let pair = u64::from(b) << 32 | u64::from(a);
    let selected = c & 3;
    let mut result = 0;

    for i in 0..4 {
        let index = match mode {
            Permute::Index => c >> (4 * i) & 7,
            Permute::Forward4 => selected + i,
            Permute::Backward4 => (8 + selected - i) & 7,
            Permute::Replicate8 => selected,
            Permute::EdgeLeft => i.max(selected),
            Permute::EdgeRight => i.min(selected),
            Permute::Replicate16 => 2 * (selected & 1) + (i & 1),
        };
        let byte = (pair >> (8 * index)) as u8;
        let replicate = mode == Permute::Index && c >> (4 * i) & 8 != 0;
        let byte = if replicate { (byte as i8 >> 7) as u8 } else { byte };
        result |= u32::from(byte) << (8 * i);
    }

    result
}

/// `lop3.b32 d, a, b, c, table`: any function of three bits, its value for (a, b, c) at bit `4a + 2b + c` of `table`.
#[inline(always)]
pub fn lop3(a: u32, b: u32, c: u32, table: u8) -> u32 {
    // Sums the minterms; an optimiser that knows the table leaves the few operations it takes.
    let mut result = 0;
    for term in 0..8 {
        if table >> term & 1 != 0 {
            let pick = |x: u32, bit: u8| if term >> bit & 1 != 0 { x } else { !x };
            result |= pick(a, 2) & pick(b, 1) & pick(c, 0);
        }
    }
    result
}

/// `szext.mode.u32` and (`signed`) `.s32 d, a, b`: the low `b` bits of `a`, zero- or sign-extended.
#[inline]
pub fn szext(mode: Amount, signed: bool, a: u32, b: u32) -> u32 {
    bfe_32(signed, a, 0, mode.of(b))
}

/// `bmsk.mode.b32 d, a, b`: `b` ones from bit `a` upwards.
#[inline]
pub fn bmsk(mode: Amount, a: u32, b: u32) -> u32 {
    (ones(mode.of(b)) << mode.of(a)) as u32
}
