//! Approximations that err as far as the ISA lets them.
//!
//! [`super::approx`] rounds once, and hardware does not: its tables are good to a few ulps. Here each result is moved by as much
//! as its instruction's documentation allows (PTX ISA 9.0, the section of each), less what the rounding of the moved value may
//! add. Zeros, infinities, NaN, and what the ISA's tables give exactly (2^0, cos 0) stay as they are. The same input gives
//! the same result.

use super::approx::{exp2, tanh};
use super::formats::{Narrow, bf16_from_f64, bf16_to_f32, f16_from_f64, f16_to_f32};
use super::{Mode, flush_f32};

/// How approximations err.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Approx {
    /// Rounded once.
    #[default]
    Exact,
    /// Below, by the whole bound.
    Low,
    /// Above, by the whole bound.
    High,
    /// Either way, by a part of the bound that the input's bits decide.
    Spread,
}

/// How far a result may be off.
#[derive(Clone, Copy)]
enum Bound {
    /// This much of its size.
    Relative(f64),
    /// This much.
    Absolute(f64),
    /// So many ulps of f32.
    Ulps(f64),
}

/// 2^-24: what rounding to f32 may add, of a result's size.
const HALF_ULP: f64 = f32::EPSILON as f64 / 2.0;
/// 2^-22
const TWO_ULPS: f64 = 2.0 * f32::EPSILON as f64;

impl Approx {
    /// Which part of the bound is used, from -1 to 1.
    fn share(self, input: u64) -> f64 {
        match self {
            Self::Exact => 0.0,
            Self::Low => -1.0,
            Self::High => 1.0,
            Self::Spread => {
                let mut x = input.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                (x >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
            }
        }
    }

    /// Moves an exact result.
    fn moved(self, input: u64, exact: f64, bound: Bound) -> f64 {
        if exact == 0.0 || !exact.is_finite() {
            return exact;
        }
        let ulp = || {
            let near = (exact.abs() as f32).max(f32::MIN_POSITIVE);
            f64::from(f32::from_bits(near.to_bits() & 0x7f80_0000)) * f64::from(f32::EPSILON)
        };
        let most = match bound {
            Bound::Relative(part) => (part - HALF_ULP) * exact.abs(),
            Bound::Absolute(most) => most - HALF_ULP * exact.abs(),
            Bound::Ulps(count) => (count - 0.5) * ulp(),
        };
        exact + self.share(input) * most.max(0.0)
    }

    fn single(self, ftz: bool, a: f32, function: impl Fn(f64) -> f64, bound: impl Fn(f64) -> Bound) -> f32 {
        let mode = Mode { ftz, ..Mode::RN };
        let x = f64::from(mode.input(a));
        mode.output(self.moved(a.to_bits().into(), function(x), bound(x)) as f32)
    }

    /// `ex2.approx.f32`: 2^-22 of the result.
    pub fn ex2_f32(self, ftz: bool, a: f32) -> f32 {
        let one = (if ftz { flush_f32(a) } else { a }) == 0.0;
        if one { 1.0 } else { self.single(ftz, a, exp2, |_| Bound::Relative(TWO_ULPS)) }
    }

    /// `lg2.approx.f32`: 2^-22 between 1/2 and 2, else 2^-22 of the result.
    pub fn lg2_f32(self, ftz: bool, a: f32) -> f32 {
        let near_one = |x: f64| x > 0.5 && x < 2.0;
        self.single(ftz, a, f64::log2, |x| match near_one(x) {
            true => Bound::Absolute(TWO_ULPS),
            false => Bound::Relative(TWO_ULPS),
        })
    }

    /// `sin.approx.f32`: 2^-20.5 from -2π to 2π, 2^-14.7 to ±100π; of what is beyond the ISA says nothing.
    pub fn sin_f32(self, ftz: bool, a: f32) -> f32 {
        self.single(ftz, a, f64::sin, periods).clamp(-1.0, 1.0)
    }

    /// `cos.approx.f32`, as `sin`.
    pub fn cos_f32(self, ftz: bool, a: f32) -> f32 {
        let one = (if ftz { flush_f32(a) } else { a }) == 0.0;
        if one { 1.0 } else { self.single(ftz, a, f64::cos, periods).clamp(-1.0, 1.0) }
    }

    /// `tanh.approx.f32`: 2^-11 of the result.
    pub fn tanh_f32(self, a: f32) -> f32 {
        self.single(false, a, tanh, |_| Bound::Relative(2.0_f64.powi(-11))).clamp(-1.0, 1.0)
    }

    /// `rcp.approx.f32`: 1 ulp.
    pub fn rcp_f32(self, ftz: bool, a: f32) -> f32 {
        self.single(ftz, a, |x| 1.0 / x, |_| Bound::Ulps(1.0))
    }

    /// `rsqrt.approx.f32`: 2^-22.9 of the result.
    pub fn rsqrt_f32(self, ftz: bool, a: f32) -> f32 {
        self.single(ftz, a, |x| 1.0 / x.sqrt(), |_| Bound::Relative(2.0_f64.powf(-22.9)))
    }

    /// `sqrt.approx.f32`: 2^-23 of the result.
    pub fn sqrt_f32(self, ftz: bool, a: f32) -> f32 {
        self.single(ftz, a, f64::sqrt, |_| Bound::Relative(2.0_f64.powi(-23)))
    }

    /// A quotient of `div.approx.f32` or `div.full.f32` that was rounded once: 2 ulps, of which the rounding has used half.
    pub fn quotient(self, ftz: bool, a: f32, b: f32, rounded: f32) -> f32 {
        let input = u64::from(a.to_bits()) << 32 | u64::from(b.to_bits());
        let moved = self.moved(input, rounded.into(), Bound::Ulps(1.5)) as f32;
        if ftz { flush_f32(moved) } else { moved }
    }

    /// `ex2.approx.f16`: 2^-9.9 of the result.
    pub fn ex2_f16(self, a: u16) -> u16 {
        let part = 2.0_f64.powf(-9.9) - 2.0_f64.powi(-11);
        let exact = exp2(f16_to_f32(a).into());
        f16_from_f64(Narrow::RN, self.unless_one(a, exact, Bound::Relative(part)))
    }

    /// `ex2.approx.ftz.bf16`: 2^-7 of the result.
    pub fn ex2_bf16(self, a: u16) -> u16 {
        let part = 2.0_f64.powi(-7) - 2.0_f64.powi(-8);
        let exact = exp2(flush_f32(bf16_to_f32(a)).into());
        let result = bf16_from_f64(Narrow::RN, self.unless_one(a, exact, Bound::Relative(part)));
        if result & 0x7f80 == 0 { result & 0x8000 } else { result }
    }

    fn unless_one(self, a: u16, exact: f64, bound: Bound) -> f64 {
        if exact == 1.0 { 1.0 } else { self.moved(a.into(), exact, bound) }
    }

    /// `tanh.approx.f16`: 2^-10.987.
    pub fn tanh_f16(self, a: u16) -> u16 {
        let most = 2.0_f64.powf(-10.987) - 2.0_f64.powi(-12);
        let moved = self.moved(a.into(), tanh(f16_to_f32(a).into()), Bound::Absolute(most));
        f16_from_f64(Narrow::RN, moved.clamp(-1.0, 1.0))
    }

    /// `tanh.approx.bf16`: 2^-8.
    pub fn tanh_bf16(self, a: u16) -> u16 {
        let most = 2.0_f64.powi(-8) - 2.0_f64.powi(-9);
        let moved = self.moved(a.into(), tanh(bf16_to_f32(a).into()), Bound::Absolute(most));
        bf16_from_f64(Narrow::RN, moved.clamp(-1.0, 1.0))
    }
}

/// The bound of sines and cosines.
fn periods(x: f64) -> Bound {
    let turns = x.abs() / std::f64::consts::TAU;
    Bound::Absolute(if turns <= 1.0 { 2.0_f64.powf(-20.5) } else { 2.0_f64.powf(-14.7) })
}
