//! Integer arithmetic (PTX ISA, "Integer Arithmetic Instructions" and the carry forms of "Extended-Precision").
//!
//! `add`, `sub`, `mul.lo` and `mad.lo` without modifiers are Rust's `wrapping_*`; here is what differs from them.

/// `add.sat.s32`.
#[inline(always)]
pub fn add_sat_s32(a: i32, b: i32) -> i32 {
    a.saturating_add(b)
}

/// `sub.sat.s32`.
#[inline(always)]
pub fn sub_sat_s32(a: i32, b: i32) -> i32 {
    a.saturating_sub(b)
}

/// Writes the carry and wide-product functions for one width.
macro_rules! extended {
    ($add:ident, $mad_lo:ident, $mad_hi:ident, $mulhi_u:ident, $mulhi_s:ident,
     $u:ty, $s:ty, $wide_u:ty, $wide_s:ty, $bits:literal) => {
        #[doc = concat!("`add.cc` and `addc{.cc}` of ", $bits, " bits: `a + b + carry` and the carry out.")]
        ///
        /// `sub.cc` and `subc{.cc}` add the complement of `b`: a borrow is a carry that is not set.
        #[inline(always)]
        pub fn $add(a: $u, b: $u, carry: bool) -> ($u, bool) {
            let (sum, first) = a.overflowing_add(b);
            let (sum, second) = sum.overflowing_add(<$u>::from(carry));
            (sum, first | second)
        }

        #[doc = concat!("`mad.lo.cc` and `madc.lo{.cc}` of ", $bits, " bits: low half of `a · b`, plus `c` and the carry.")]
        #[inline(always)]
        pub fn $mad_lo(a: $u, b: $u, c: $u, carry: bool) -> ($u, bool) {
            $add(a.wrapping_mul(b), c, carry)
        }

        #[doc = concat!("`mad.hi.cc` and `madc.hi{.cc}` of ", $bits, " bits: high half of `a · b`, plus `c` and the carry.")]
        #[inline(always)]
        pub fn $mad_hi(signed: bool, a: $u, b: $u, c: $u, carry: bool) -> ($u, bool) {
            let high = if signed { $mulhi_s(a as $s, b as $s) as $u } else { $mulhi_u(a, b) };
            $add(high, c, carry)
        }

        #[doc = concat!("`mul.hi.u", $bits, "`: the upper half of the product.")]
        #[inline(always)]
        pub fn $mulhi_u(a: $u, b: $u) -> $u {
            ((<$wide_u>::from(a) * <$wide_u>::from(b)) >> <$u>::BITS) as $u
        }

        #[doc = concat!("`mul.hi.s", $bits, "`: the upper half of the product.")]
        #[inline(always)]
        pub fn $mulhi_s(a: $s, b: $s) -> $s {
            ((<$wide_s>::from(a) * <$wide_s>::from(b)) >> <$s>::BITS) as $s
        }
    };
}

extended!(add_carry_32, mad_lo_carry_32, mad_hi_carry_32, mul_hi_u32, mul_hi_s32, u32, i32, u64, i64, 32);
extended!(add_carry_64, mad_lo_carry_64, mad_hi_carry_64, mul_hi_u64, mul_hi_s64, u64, i64, u128, i128, 64);

/// `mul.hi.u16`: the upper half of the product.
#[inline(always)]
pub fn mul_hi_u16(a: u16, b: u16) -> u16 {
    ((u32::from(a) * u32::from(b)) >> 16) as u16
}

/// `mul.hi.s16`: the upper half of the product.
#[inline(always)]
pub fn mul_hi_s16(a: i16, b: i16) -> i16 {
    ((i32::from(a) * i32::from(b)) >> 16) as i16
}

/// `mul.wide.u16`.
#[inline(always)]
pub fn mul_wide_u16(a: u16, b: u16) -> u32 {
    u32::from(a) * u32::from(b)
}

/// `mul.wide.s16`.
#[inline(always)]
pub fn mul_wide_s16(a: i16, b: i16) -> i32 {
    i32::from(a) * i32::from(b)
}

/// `mul.wide.u32` (`mad.wide` adds `c` to it, wrapping).
#[inline(always)]
pub fn mul_wide_u32(a: u32, b: u32) -> u64 {
    u64::from(a) * u64::from(b)
}

/// `mul.wide.s32` (`mad.wide` adds `c` to it, wrapping).
#[inline(always)]
pub fn mul_wide_s32(a: i32, b: i32) -> i64 {
    i64::from(a) * i64::from(b)
}

/// `mad.hi.sat.s32`: the upper half of `a · b`, plus `c`, clamped to the range of s32.
#[inline(always)]
pub fn mad_hi_sat_s32(a: i32, b: i32, c: i32) -> i32 {
    mul_hi_s32(a, b).saturating_add(c)
}

/// The lower 24 bits as a signed number.
#[inline(always)]
fn signed_24(x: i32) -> i64 {
    i64::from(x << 8 >> 8)
}

/// `mul24.lo.s32`: bits 31 to 0 of the 48-bit product of the operands' lower 24 bits.
#[inline(always)]
pub fn mul24_lo_s32(a: i32, b: i32) -> i32 {
    (signed_24(a) * signed_24(b)) as i32
}

/// `mul24.hi.s32`: bits 47 to 16 of the 48-bit product.
#[inline(always)]
pub fn mul24_hi_s32(a: i32, b: i32) -> i32 {
    ((signed_24(a) * signed_24(b)) >> 16) as i32
}

/// `mul24.lo.u32`: bits 31 to 0 of the 48-bit product of the operands' lower 24 bits.
#[inline(always)]
pub fn mul24_lo_u32(a: u32, b: u32) -> u32 {
    (u64::from(a & 0xff_ffff) * u64::from(b & 0xff_ffff)) as u32
}

/// `mul24.hi.u32`: bits 47 to 16 of the 48-bit product.
#[inline(always)]
pub fn mul24_hi_u32(a: u32, b: u32) -> u32 {
    ((u64::from(a & 0xff_ffff) * u64::from(b & 0xff_ffff)) >> 16) as u32
}

/// `mad24.hi.sat.s32` (the other `mad24` forms are `mul24` and a wrapping addition).
#[inline(always)]
pub fn mad24_hi_sat_s32(a: i32, b: i32, c: i32) -> i32 {
    mul24_hi_s32(a, b).saturating_add(c)
}

/// Writes `div`, `rem`, `sad` and `abs` for one pair of types.
macro_rules! division {
    ($div_u:ident, $rem_u:ident, $sad_u:ident, $u:ty, $div_s:ident, $rem_s:ident, $sad_s:ident, $s:ty) => {
        #[doc = concat!("`div.", stringify!($u), "`. By zero all bits are set: unspecified in the ISA, seen on hardware.")]
        #[inline(always)]
        pub fn $div_u(a: $u, b: $u) -> $u {
            a.checked_div(b).unwrap_or(<$u>::MAX)
        }

        #[doc = concat!("`rem.", stringify!($u), "`. By zero all bits are set: unspecified in the ISA, seen on hardware.")]
        #[inline(always)]
        pub fn $rem_u(a: $u, b: $u) -> $u {
            a.checked_rem(b).unwrap_or(<$u>::MAX)
        }

        #[doc = concat!("`sad` of ", stringify!($u), ": `c + |a - b|`, wrapping.")]
        #[inline(always)]
        pub fn $sad_u(a: $u, b: $u, c: $u) -> $u {
            c.wrapping_add(a.abs_diff(b))
        }

        #[doc = concat!("`div` of ", stringify!($s), ", towards zero. By zero -1; the smallest number by -1 wraps to itself.")]
        #[inline(always)]
        pub fn $div_s(a: $s, b: $s) -> $s {
            if b == 0 { -1 } else { a.wrapping_div(b) }
        }

        #[doc = concat!("`rem` of ", stringify!($s), ", with the sign of `a`. By zero -1; of the smallest number by -1, 0.")]
        #[inline(always)]
        pub fn $rem_s(a: $s, b: $s) -> $s {
            if b == 0 { -1 } else { a.wrapping_rem(b) }
        }

        #[doc = concat!("`sad` of ", stringify!($s), ": `c + |a - b|`, wrapping.")]
        #[inline(always)]
        pub fn $sad_s(a: $s, b: $s, c: $s) -> $s {
            c.wrapping_add(a.abs_diff(b) as $s)
        }
    };
}

division!(div_u16, rem_u16, sad_u16, u16, div_s16, rem_s16, sad_s16, i16);
division!(div_u32, rem_u32, sad_u32, u32, div_s32, rem_s32, sad_s32, i32);
division!(div_u64, rem_u64, sad_u64, u64, div_s64, rem_s64, sad_s64, i64);

/// Byte `index` of `x`, sign-extended where `signed`.
#[inline(always)]
fn byte(x: u32, index: u32, signed: bool) -> i32 {
    let byte = (x >> (8 * index)) as u8;
    if signed { (byte as i8).into() } else { byte.into() }
}

/// `dp4a.atype.btype d, a, b, c`: `c` plus the four products of bytes, wrapping. Each `signed` flag says whether that
/// operand is `.s32`.
#[inline]
pub fn dp4a(a_signed: bool, b_signed: bool, a: u32, b: u32, c: u32) -> u32 {
    (0..4).fold(c, |sum, i| sum.wrapping_add((byte(a, i, a_signed) * byte(b, i, b_signed)) as u32))
}

/// `dp2a.lo` and `dp2a.hi` `.atype.btype d, a, b, c`: `c` plus the products of `a`'s two halves with the two lower (or,
/// `high`, the two upper) bytes of `b`, wrapping.
#[inline]
pub fn dp2a(high: bool, a_signed: bool, b_signed: bool, a: u32, b: u32, c: u32) -> u32 {
    let first = if high { 2 } else { 0 };
    (0..2).fold(c, |sum, i| {
        let half = (a >> (16 * i)) as u16;
        let half = if a_signed { i32::from(half as i16) } else { i32::from(half) };
        sum.wrapping_add((half * byte(b, first + i, b_signed)) as u32)
    })
}

/// `add.u16x2` and `add.s16x2`: both halves, each wrapping.
#[inline(always)]
pub fn add_16x2(a: u32, b: u32) -> u32 {
    (a.wrapping_add(b) & 0xffff) | ((a & 0xffff_0000).wrapping_add(b & 0xffff_0000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn division_by_zero_and_overflow_do_not_trap() {
        assert_eq!((div_u32(7, 0), rem_u32(7, 0)), (u32::MAX, u32::MAX));
        assert_eq!((div_s64(7, 0), rem_s64(7, 0)), (-1, -1));
        assert_eq!((div_s32(i32::MIN, -1), rem_s32(i32::MIN, -1)), (i32::MIN, 0));
        assert_eq!((div_s16(-7, 2), rem_s16(-7, 2)), (-3, -1));
        assert_eq!((div_u64(u64::MAX, 10), rem_u16(65535, 10)), (u64::MAX / 10, 5));
    }

    #[test]
    fn carries_chain_like_wider_integers() {
        let values = [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff_u32];
        let wide = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);

        for a in values {
            for b in values {
                for c in values {
                    for d in values {
                        let (low, carry) = add_carry_32(a, b, false);
                        let (high, _) = add_carry_32(c, d, carry);
                        assert_eq!(wide(low, high), wide(a, c).wrapping_add(wide(b, d)));
                        let (low, carry_not_borrow) = add_carry_32(a, !b, true);
                        let (high, _) = add_carry_32(c, !d, carry_not_borrow);
                        assert_eq!(wide(low, high), wide(a, c).wrapping_sub(wide(b, d)));
                        // A 64-bit multiply-add from halves, as nvcc writes it.
                        let (low, carry) = mad_lo_carry_32(a, b, c, false);
                        let (high, _) = mad_hi_carry_32(false, a, b, d, carry);
                        let product = u64::from(a) * u64::from(b);
                        assert_eq!(wide(low, high), product.wrapping_add(wide(c, d)));
                        let product = i64::from(a as i32) * i64::from(b as i32);
                        let (high, _) = mad_hi_carry_32(true, a, b, d, carry);
                        assert_eq!(wide(low, high), (product as u64).wrapping_add(wide(c, d)));
                    }
                }
            }
        }

        // A carry that comes of the carry in alone.
        assert_eq!(add_carry_32(u32::MAX, 0, true), (0, true));
        assert_eq!(add_carry_32(5, !5, false), (u32::MAX, false), "5 - 5 - 1 borrows");
        assert_eq!(add_carry_64(u64::MAX, u64::MAX, true), (u64::MAX, true));
    }

    #[test]
    fn upper_halves() {
        assert_eq!(mul_hi_u16(0xffff, 0xffff), 0xfffe);
        assert_eq!(mul_hi_s16(-1, 1), -1);
        assert_eq!(mul_hi_u64(u64::MAX, u64::MAX), u64::MAX - 1);
        assert_eq!(mul_hi_s64(i64::MIN, i64::MIN), 1 << 62);
        assert_eq!((mul_wide_s16(-300, 300), mul_wide_u16(65535, 65535)), (-90_000, 4_294_836_225));
        assert_eq!((mul_wide_s32(-1, i32::MAX), mul_wide_u32(u32::MAX, 2)), (-0x7fff_ffff, 0x1_ffff_fffe));
        assert_eq!(mad_hi_sat_s32(i32::MIN, i32::MIN, i32::MAX), i32::MAX);
        assert_eq!(mad_hi_sat_s32(i32::MIN, i32::MAX, i32::MIN), i32::MIN);
        assert_eq!((add_sat_s32(i32::MAX, 1), sub_sat_s32(i32::MIN, 1)), (i32::MAX, i32::MIN));
    }

    #[test]
    fn products_of_24_bits() {
        // The upper byte of an operand is ignored; 0x800000 is -2^23 signed, 2^23 unsigned.
        assert_eq!(mul24_lo_s32(0x12ff_ffff, 5), -5);
        assert_eq!(mul24_hi_s32(0x80_0000, 0x80_0000), 1 << 30);
        assert_eq!(mul24_hi_s32(0x80_0000, 0x7f_ffff), -((1 << 30) - (1 << 7)));
        assert_eq!(mul24_lo_u32(0xffff_ffff, 2), 0x1ff_fffe);
        assert_eq!(mul24_hi_u32(0xff_ffff, 0xff_ffff), 0xffff_fe00);
        assert_eq!(mad24_hi_sat_s32(0x80_0000, 0x80_0000, i32::MAX), i32::MAX);
    }

    #[test]
    fn differences_and_dot_products() {
        assert_eq!((sad_u32(3, 10, 1), sad_s32(i32::MIN, i32::MAX, 0)), (8, -1));
        assert_eq!((sad_s16(-2, 3, 10), sad_u64(0, u64::MAX, 1)), (15, 0));
        // Bytes 0x80, 0xff, 0x02, 0x01 from the top; against 1, 2, 3, 4.
        let (a, b) = (0x80ff_0201, 0x0102_0304);
        assert_eq!(dp4a(false, false, a, b, 10), 128 + 255 * 2 + 2 * 3 + 4 + 10);
        assert_eq!(dp4a(true, false, a, b, 10) as i32, -128 - 2 + 6 + 4 + 10);
        assert_eq!(dp4a(true, true, 0x8080_8080, 0x8080_8080, 0), 65536);
        assert_eq!(dp4a(false, true, 0xff, 0xff, 0) as i32, -255);
        assert_eq!(dp2a(false, false, false, 0x0002_ffff, b, 0), 65535 * 4 + 2 * 3);
        assert_eq!(dp2a(true, true, false, 0x0002_ffff, b, 0), 2_u32.wrapping_sub(2));
        assert_eq!(dp2a(true, true, true, 0x0002_8000, 0xff80_0000, 1) as i32, 32768 * 128 - 2 + 1);
        assert_eq!(add_16x2(0x0001_ffff, 0xffff_0001), 0);
        assert_eq!(add_16x2(0x8001_00ff, 0x8001_0001), 0x0002_0100);
    }
}
