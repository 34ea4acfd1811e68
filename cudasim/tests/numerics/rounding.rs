//! Rounded arithmetic: every result is checked to be the one representable number that its mode allows.

use std::cmp::Ordering::{self, Equal, Greater, Less};

use cudasim::numerics::Rounding::{self, Rm, Rn, Rp, Rz};
use cudasim::numerics::rounding::*;
use cudasim::numerics::{Mode, NAN_F32, NAN_F64};

use crate::exact::{Bits, edges_f32, edges_f64, sign_of};

pub const MODES: [Rounding; 4] = [Rn, Rz, Rm, Rp];

/// f32 or f64, as far as checking needs it.
trait Float: Copy + Into<f64> + std::fmt::Debug {
    fn up(self) -> f64;
    fn down(self) -> f64;
    fn odd(self) -> bool;
}

impl Float for f32 {
    fn up(self) -> f64 {
        self.next_up().into()
    }
    fn down(self) -> f64 {
        self.next_down().into()
    }
    fn odd(self) -> bool {
        self.to_bits() & 1 == 1
    }
}

impl Float for f64 {
    fn up(self) -> f64 {
        self.next_up()
    }
    fn down(self) -> f64 {
        self.next_down()
    }
    fn odd(self) -> bool {
        self.to_bits() & 1 == 1
    }
}

/// Checks the result of an operation on finite operands. `order(x, y)` is the order of the exact result against the
/// mean of `x` and `y`.
fn check<F: Float>(rounding: Rounding, result: F, what: &str, order: impl Fn(f64, f64) -> Ordering) {
    let exact = |x: f64| match x {
        f64::INFINITY => Less,
        f64::NEG_INFINITY => Greater,
        x => order(x, x),
    };

    let value: f64 = result.into();
    let (low, high) = match exact(value) {
        Equal => return,
        Greater => (value, result.up()),
        Less => (result.down(), value),
    };

    // The exact value lies between neighbours, and the result is the one that the mode names.
    assert!(exact(low) == Greater && exact(high) == Less, "{what} {rounding:?}: {result:?} is not a neighbour");
    let choice = match rounding {
        Rm => low,
        Rp => high,
        Rz if exact(0.0) == Less => high,
        Rz => low,
        // The hardware's overflow in .rn is trusted; the edges below have it as a table.
        Rn if low.is_infinite() || high.is_infinite() => value,
        Rn => match order(low, high) {
            Less => low,
            Greater => high,
            Equal if result.odd() => f64::NAN,
            Equal => value,
        },
    };

    assert!(value == choice, "{what} {rounding:?}: {result:?}, not {choice:?}");
    assert!(value != 0.0 || value.is_sign_negative() == (exact(0.0) == Less), "{what} {rounding:?}: sign of zero");
}

fn twice(a: f64, b: f64) -> [(f64, f64); 2] {
    [(a, b), (a, b)]
}

/// The order of `a·b + c` against the mean of `x` and `y`.
fn fma_order(a: f64, b: f64, c: f64) -> impl Fn(f64, f64) -> Ordering {
    move |x, y| {
        let [first, second] = twice(a, b);
        sign_of(&[first, second, (c, 2.0), (x, -1.0), (y, -1.0)])
    }
}

/// The order of `a/b` against the mean of `x` and `y`.
fn div_order(a: f64, b: f64) -> impl Fn(f64, f64) -> Ordering {
    move |x, y| {
        let order = sign_of(&[(a, 2.0), (-b, x), (-b, y)]);
        if b < 0.0 { order.reverse() } else { order }
    }
}

/// The order of the root of `a` against the mean of `x` and `y`, which are not negative.
fn sqrt_order(a: f64) -> impl Fn(f64, f64) -> Ordering {
    move |x, y| sign_of(&[(a, 4.0), (-x, x), (-x, y), (-x, y), (-y, y)])
}

fn same_f32(what: &str, result: f32, native: f32) {
    let native = if native.is_nan() { NAN_F32 } else { native.to_bits() };
    assert_eq!(result.to_bits(), native, "{what}: {result:?}");
}

fn check_f32(a: f32, b: f32, c: f32) {
    let (wide_a, wide_b, wide_c) = (a.into(), b.into(), c.into());
    for rounding in MODES {
        let mode = Mode::of(rounding);
        let what = format!("{a:?} {b:?} {c:?}");
        let finite = a.is_finite() && b.is_finite();

        if finite {
            check(rounding, add_f32(mode, a, b), &what, fma_order(wide_a, 1.0, wide_b));
            check(rounding, sub_f32(mode, a, b), &what, fma_order(wide_a, 1.0, -wide_b));
            check(rounding, mul_f32(mode, a, b), &what, fma_order(wide_a, wide_b, 0.0));
        } else {
            same_f32(&what, add_f32(mode, a, b), a + b);
            same_f32(&what, sub_f32(mode, a, b), a - b);
            same_f32(&what, mul_f32(mode, a, b), a * b);
        }

        if finite && c.is_finite() {
            check(rounding, fma_f32(mode, a, b, c), &what, fma_order(wide_a, wide_b, wide_c));
        } else {
            same_f32(&what, fma_f32(mode, a, b, c), a.mul_add(b, c));
        }

        if finite && b != 0.0 {
            check(rounding, div_f32(mode, a, b), &what, div_order(wide_a, wide_b));
        } else {
            same_f32(&what, div_f32(mode, a, b), a / b);
        }

        if b.is_finite() && b != 0.0 {
            check(rounding, rcp_f32(mode, b), &what, div_order(1.0, wide_b));
        } else {
            same_f32(&what, rcp_f32(mode, b), 1.0 / b);
        }

        if a.is_finite() && a > 0.0 {
            check(rounding, sqrt_f32(mode, a), &what, sqrt_order(wide_a));
        } else {
            same_f32(&what, sqrt_f32(mode, a), a.sqrt());
        }
    }
}

fn same_f64(what: &str, result: f64, native: f64) {
    assert!(result == native || result.is_nan() && native.is_nan(), "{what}: {result:?}");
    assert!(native.is_nan() || result.is_sign_negative() == native.is_sign_negative(), "{what}: sign of {result:?}");
}

fn check_f64(a: f64, b: f64, c: f64) {
    for rounding in MODES {
        let what = format!("{a:?} {b:?} {c:?}");
        let finite = a.is_finite() && b.is_finite();

        if finite {
            check(rounding, add_f64(rounding, a, b), &what, fma_order(a, 1.0, b));
            check(rounding, sub_f64(rounding, a, b), &what, fma_order(a, 1.0, -b));
            check(rounding, mul_f64(rounding, a, b), &what, fma_order(a, b, 0.0));
        } else {
            same_f64(&what, add_f64(rounding, a, b), a + b);
            same_f64(&what, sub_f64(rounding, a, b), a - b);
            same_f64(&what, mul_f64(rounding, a, b), a * b);
        }

        if finite && c.is_finite() {
            check(rounding, fma_f64(rounding, a, b, c), &what, fma_order(a, b, c));
        } else {
            same_f64(&what, fma_f64(rounding, a, b, c), a.mul_add(b, c));
        }

        if finite && b != 0.0 {
            check(rounding, div_f64(rounding, a, b), &what, div_order(a, b));
        } else {
            same_f64(&what, div_f64(rounding, a, b), a / b);
        }

        if b.is_finite() && b != 0.0 {
            check(rounding, rcp_f64(rounding, b), &what, div_order(1.0, b));
        } else {
            same_f64(&what, rcp_f64(rounding, b), 1.0 / b);
        }

        if a.is_finite() && a > 0.0 {
            check(rounding, sqrt_f64(rounding, a), &what, sqrt_order(a));
        } else {
            same_f64(&what, sqrt_f64(rounding, a), a.sqrt());
        }
    }
}

#[test]
fn f32_edges_crossed() {
    let edges = edges_f32();
    for &a in &edges {
        for &b in &edges {
            for &c in &edges {
                check_f32(a, b, c);
            }
        }
    }
}

#[test]
fn f64_edges_crossed() {
    let edges = edges_f64();
    for &a in &edges {
        for &b in &edges {
            for &c in &edges {
                check_f64(a, b, c);
            }
        }
    }
}

#[test]
fn random_operands() {
    let mut bits = Bits(1);
    for _ in 0..20_000 {
        check_f32(bits.f32(), bits.f32(), bits.f32());
        check_f64(bits.f64(), bits.f64(), bits.f64());
    }
}

#[test]
fn near_cancellation() {
    let mut bits = Bits(2);
    for _ in 0..10_000 {
        let (a, b) = (bits.f32(), bits.f32());
        check_f32(a, b, -(a * b));
        check_f32(a, (-a).next_up(), a.next_down());
        let (a, b) = (bits.f64(), bits.f64());
        check_f64(a, b, -(a * b));
        check_f64(a, (-a).next_up(), a.next_down());
    }
}

#[test]
fn exact_zeros_are_negative_in_rm_only() {
    for rounding in MODES {
        let mode = Mode::of(rounding);
        let cancelled = if rounding == Rm { -0.0_f32 } else { 0.0 };

        // Operands, and the sum.
        for (a, b, sum) in [
            (1.5, -1.5, cancelled),
            (-1.5, 1.5, cancelled),
            (0.0, -0.0, cancelled),
            (-0.0, 0.0, cancelled),
            (0.0, 0.0, 0.0),
            (-0.0, -0.0, -0.0),
        ] {
            let (wide_a, wide_b) = (f64::from(a), f64::from(b));
            assert_eq!(add_f32(mode, a, b).to_bits(), sum.to_bits(), "{a} + {b} {rounding:?}");
            assert_eq!(sub_f32(mode, a, -b).to_bits(), sum.to_bits(), "{a} - -{b} {rounding:?}");
            assert_eq!(fma_f32(mode, a, 1.0, b).to_bits(), sum.to_bits(), "fma {a} {b} {rounding:?}");
            let sum = f64::from(sum).to_bits();
            assert_eq!(add_f64(rounding, wide_a, wide_b).to_bits(), sum, "{a} + {b} {rounding:?}");
            assert_eq!(sub_f64(rounding, wide_a, -wide_b).to_bits(), sum, "{a} - -{b} {rounding:?}");
            assert_eq!(fma_f64(rounding, -wide_a, -1.0, wide_b).to_bits(), sum, "fma {a} {b} {rounding:?}");
        }

        assert_eq!(mul_f32(mode, -0.0, 5.0).to_bits(), 0x8000_0000);
        assert_eq!(mul_f64(rounding, -5.0, 0.0).to_bits(), 1 << 63);
        assert_eq!(div_f64(rounding, -0.0, 5.0).to_bits(), 1 << 63);
        assert_eq!(div_f32(mode, 0.0, -5.0).to_bits(), 0x8000_0000);
        assert_eq!(sqrt_f32(mode, -0.0).to_bits(), 0x8000_0000);
    }
}

#[test]
fn overflow_and_underflow_by_mode() {
    let (max, tiny) = (f32::MAX, f32::from_bits(1));
    let inf = f32::INFINITY;

    // Rows: sum of two, then the results in .rn, .rz, .rm, .rp.
    for (a, b, expected) in
        [(max, max, [inf, max, max, inf]), (-max, -max, [-inf, -max, -inf, -max]), (max, tiny, [max, max, max, inf])]
    {
        for (rounding, expected) in MODES.into_iter().zip(expected) {
            assert_eq!(add_f32(Mode::of(rounding), a, b), expected, "{a} + {b} {rounding:?}");
        }
    }

    for (a, b, expected) in [(tiny, 0.25, [0.0, 0.0, 0.0, tiny]), (-tiny, 0.25, [-0.0, -0.0, -tiny, -0.0])] {
        for (rounding, expected) in MODES.into_iter().zip(expected) {
            assert_eq!(mul_f32(Mode::of(rounding), a, b).to_bits(), expected.to_bits(), "{a} * {b} {rounding:?}");
        }
    }

    let (max, tiny) = (f64::MAX, f64::from_bits(1));
    for (rounding, expected) in MODES.into_iter().zip([f64::INFINITY, max, max, f64::INFINITY]) {
        assert_eq!(mul_f64(rounding, max, 1.5), expected);
        assert_eq!(div_f64(rounding, max, 0.5), expected);
        assert_eq!(fma_f64(rounding, max, 1.0, max), expected);
    }

    for (rounding, expected) in MODES.into_iter().zip([-0.0, -0.0, -tiny, -0.0]) {
        assert_eq!(mul_f64(rounding, tiny, -tiny).to_bits(), expected.to_bits());
        assert_eq!(div_f64(rounding, -tiny, max).to_bits(), expected.to_bits());
    }
}

#[test]
fn nan_results() {
    let payload = f32::from_bits(0xffc1_2345);
    for rounding in MODES {
        let mode = Mode::of(rounding);

        for result in [
            add_f32(mode, payload, 1.0),
            sub_f32(mode, 1.0, payload),
            fma_f32(mode, 0.0, f32::INFINITY, 1.0),
            div_f32(mode, 0.0, 0.0),
            sqrt_f32(mode, -1.0),
        ] {
            assert_eq!(result.to_bits(), NAN_F32);
        }

        let (signaling, other) = (f64::from_bits(0x7ff0_0000_0000_0007), f64::from_bits(0xfff8_0000_0000_0001));
        assert_eq!(add_f64(rounding, signaling, other).to_bits(), 0x7ff8_0000_0000_0007);
        assert_eq!(sub_f64(rounding, 1.0, other).to_bits(), 0xfff8_0000_0000_0001);
        assert_eq!(fma_f64(rounding, 0.0, f64::INFINITY, 1.0).to_bits(), NAN_F64);
        assert_eq!(sqrt_f64(rounding, -1.0).to_bits(), NAN_F64);
    }
}

#[test]
fn flushing_and_saturation() {
    let subnormal = f32::from_bits(0x8000_0123);
    let ftz = Mode::RN_FTZ;
    assert_eq!(add_f32(ftz, subnormal, -0.0).to_bits(), 0x8000_0000);
    assert_eq!(mul_f32(ftz, subnormal, f32::MAX).to_bits(), 0x8000_0000);
    assert_eq!(mul_f32(ftz, f32::MIN_POSITIVE, -0.5).to_bits(), 0x8000_0000);
    assert_eq!(mul_f32(Mode::RN, f32::MIN_POSITIVE, -0.5).to_bits(), 0x8040_0000);
    assert_eq!(div_f32(ftz, 1.0, subnormal), f32::NEG_INFINITY);
    assert_eq!(fma_f32(ftz, subnormal, 1e30, 2.0), 2.0);
    assert_eq!(sqrt_f32(ftz, -subnormal).to_bits(), 0);
    let sat = Mode { sat: true, ..Mode::RN };
    for (x, expected) in [(-3.0, 0.0), (-0.0, 0.0), (0.25, 0.25), (1.5, 1.0), (f32::INFINITY, 1.0), (f32::NAN, 0.0)] {
        assert_eq!(mul_f32(sat, x, 1.0).to_bits(), f32::to_bits(expected), "{x}");
        assert_eq!(fma_f32(sat, x, 1.0, 0.0).to_bits(), f32::to_bits(expected), "{x}");
    }
    // The steps of expf as nvcc writes it: saturated, then a fused multiply-add rounded down.
    assert_eq!(fma_f32(Mode::of(Rm), 0.3, 252.0, 12_582_913.0), 12_582_988.0);
}
