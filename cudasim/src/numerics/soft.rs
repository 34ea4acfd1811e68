//! Rounding of exact values with integers: the one place that knows how a binary format overflows and underflows.
//!
//! An exact value is a sign, a 64-bit integer and a power of two; bits that did not fit are "jammed" into the lowest
//! bit (set if any lost bit was set). With at least two bits below the last one kept, that rounds as the exact value
//! would, in every mode.

use super::Rounding;

/// A binary floating-point format, by its encoding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    /// Bits of the significand, the hidden one included.
    pub precision: u32,
    /// Exponent of the smallest normal number.
    pub min_exponent: i32,
    /// Encoding of the largest finite number.
    pub max_finite: u64,
    /// Encoding of infinity; `max_finite` where the format has none, so that overflow saturates.
    pub infinity: u64,
    /// The sign bit.
    pub sign: u64,
}

/// IEEE binary64.
pub(super) const F64: Format = Format {
    precision: 53,
    min_exponent: -1022,
    max_finite: 0x7fef_ffff_ffff_ffff,
    infinity: 0x7ff0_0000_0000_0000,
    sign: 1 << 63,
};

/// IEEE binary32.
pub(super) const F32: Format =
    Format { precision: 24, min_exponent: -126, max_finite: 0x7f7f_ffff, infinity: 0x7f80_0000, sign: 1 << 31 };

impl Format {
    /// The encoding nearest to `±magnitude · 2^exponent` in the given mode, denormals kept. Overflow gives infinity or
    /// the largest finite number, as the mode says. `magnitude` 0 gives a zero.
    #[inline]
    pub fn round(self, rounding: Rounding, negative: bool, magnitude: u64, exponent: i32) -> u64 {
        let sign = if negative { self.sign } else { 0 };
        if magnitude == 0 {
            return sign;
        }

        // The last bit that is kept is the one of the format's precision, or of the smallest subnormal number.
        let leading = exponent + 63 - magnitude.leading_zeros() as i32;
        let binade = leading.max(self.min_exponent);
        let shift = binade - (self.precision as i32 - 1) - exponent;

        let away = match rounding {
            Rounding::Rn | Rounding::Rz => false,
            Rounding::Rm => negative,
            Rounding::Rp => !negative,
        };

        let significand = if shift <= 0 {
            magnitude << -shift
        } else {
            let (kept, lost, half) = if shift < 64 {
                (magnitude >> shift, magnitude & ((1 << shift) - 1), 1 << (shift - 1))
            } else {
                // Less than half of the smallest number, except that shift 64 may reach it exactly.
                (0, if shift == 64 { magnitude } else { 1 }, 1 << 63)
            };
            let up = match rounding {
                Rounding::Rn => lost > half || (lost == half && kept & 1 == 1),
                _ => away && lost != 0,
            };
            kept + u64::from(up)
        };

        // Adding, not or-ing, the hidden bit carries a significand that rounded up into the exponent. Past 0x7ff every
        // format has overflowed.
        let binades = (binade - self.min_exponent).min(0x7ff) as u64;
        let encoding = (binades << (self.precision - 1)) + significand;
        if encoding > self.max_finite {
            let overflow = if rounding == Rounding::Rn || away { self.infinity } else { self.max_finite };
            return sign | overflow;
        }
        sign | encoding
    }

    /// The encoding of a finite f64 in this format, rounded once.
    #[inline]
    pub fn round_f64(self, rounding: Rounding, x: f64) -> u64 {
        let x = Exact::of(x);
        self.round(rounding, x.negative, x.magnitude, x.exponent)
    }
}

/// `±magnitude · 2^exponent`.
#[derive(Clone, Copy)]
struct Exact {
    negative: bool,
    magnitude: u64,
    exponent: i32,
}

impl Exact {
    /// A finite f64 as it is.
    #[inline]
    fn of(x: f64) -> Self {
        let bits = x.to_bits();
        let biased = (bits >> 52 & 0x7ff) as i32;
        let fraction = bits & ((1 << 52) - 1);
        let hidden = u64::from(biased != 0) << 52;
        Self { negative: x.is_sign_negative(), magnitude: fraction | hidden, exponent: biased.max(1) - 1075 }
    }
}

/// Shifts right, setting the lowest bit if any bit was lost.
#[inline]
fn shift_right_jam(x: u128, by: u32) -> u128 {
    match x.checked_shr(by) {
        Some(kept) => kept | u128::from(kept << by != x),
        None => u128::from(x != 0),
    }
}

/// Rounds `±magnitude · 2^exponent` to f64, with 128 bits of magnitude.
fn round_wide(rounding: Rounding, negative: bool, magnitude: u128, exponent: i32) -> f64 {
    let surplus = 64_u32.saturating_sub(magnitude.leading_zeros());
    let jammed = shift_right_jam(magnitude, surplus) as u64;
    f64::from_bits(F64.round(rounding, negative, jammed, exponent + surplus as i32))
}

/// `a · b + c` for finite operands, rounded once.
pub(super) fn fma(rounding: Rounding, a: f64, b: f64, c: f64) -> f64 {
    let (a, b, c) = (Exact::of(a), Exact::of(b), Exact::of(c));
    let product = u128::from(a.magnitude) * u128::from(b.magnitude);
    let (product_negative, product_exponent) = (a.negative != b.negative, a.exponent + b.exponent);
    let addend = u128::from(c.magnitude);
    if product == 0 && addend == 0 {
        return exact_zero(rounding, product_negative, c.negative);
    }

    // Each with its leading bit at 125: the sum has no carry out, and the 106 bits of a product leave the lowest
    // ones zero, so that the jammed bit of the smaller operand stays visible after a subtraction.
    let align = |magnitude: u128, exponent: i32| {
        if magnitude == 0 {
            return (i32::MIN / 2, 0);
        }
        let by = magnitude.leading_zeros() - 2;
        (exponent - by as i32, magnitude << by)
    };

    // The larger one decides sign and exponent.
    let (pe, pm) = align(product, product_exponent);
    let (ce, cm) = align(addend, c.exponent);
    let ((exponent, large, negative), (small_exponent, small, small_negative)) = if (pe, pm) >= (ce, cm) {
        ((pe, pm, product_negative), (ce, cm, c.negative))
    } else {
        ((ce, cm, c.negative), (pe, pm, product_negative))
    };

    let small = shift_right_jam(small, (exponent - small_exponent) as u32);

    if negative == small_negative {
        return round_wide(rounding, negative, large + small, exponent);
    }
    if large == small {
        return exact_zero(rounding, negative, small_negative);
    }
    round_wide(rounding, negative, large - small, exponent)
}

/// The sign of an exact zero sum: that of the addends where they agree, else negative in `.rm` only (IEEE 754, 6.3).
fn exact_zero(rounding: Rounding, negative: bool, other_negative: bool) -> f64 {
    let negative = if negative == other_negative { negative } else { rounding == Rounding::Rm };
    if negative { -0.0 } else { 0.0 }
}

/// `a / b` for finite operands and nonzero `b`, rounded once.
pub(super) fn div(rounding: Rounding, a: f64, b: f64) -> f64 {
    let (a, b) = (Exact::of(a), Exact::of(b));
    let negative = a.negative != b.negative;
    if a.magnitude == 0 {
        return if negative { -0.0 } else { 0.0 };
    }
    // 128-bit dividend over a 53-bit divisor with its leading bit set: at least 64 bits of quotient.
    let widen = u128::from(a.magnitude).leading_zeros();
    let dividend = u128::from(a.magnitude) << widen;
    let divisor = u128::from(b.magnitude);
    let quotient = (dividend / divisor) | u128::from(dividend % divisor != 0);
    round_wide(rounding, negative, quotient, a.exponent - widen as i32 - b.exponent)
}

/// The square root of a finite positive operand, rounded once.
pub(super) fn sqrt(rounding: Rounding, a: f64) -> f64 {
    let a = Exact::of(a);
    // An even exponent, and 64 bits of root.
    let mut widen = u128::from(a.magnitude).leading_zeros();
    if (a.exponent - widen as i32) % 2 != 0 {
        widen -= 1;
    }
    let square = u128::from(a.magnitude) << widen;
    let root = square.isqrt();
    round_wide(rounding, false, root | u128::from(root * root != square), (a.exponent - widen as i32) / 2)
}
