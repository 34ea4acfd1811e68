//! Approximations that err: inside the bounds that the ISA states, in both directions, and exact where it says so.

use cudasim::numerics::approx_error::Approx;
use cudasim::numerics::formats::{bf16_to_f32, f16_to_f32};

/// An instruction: its result, the exact one, and how far the two may be apart.
type Function<'a> = (&'a str, fn(Approx, f32) -> f32, fn(f64) -> f64, &'a dyn Fn(f64, f64) -> f64, &'a [f32]);

/// Numbers of both signs and many sizes between two powers of two.
fn numbers(least: i32, most: i32, negative: bool) -> Vec<f32> {
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let exponent = (127 + least) as u32 + (state >> 8) % (most - least) as u32;
        f32::from_bits((state & if negative { 0x807f_ffff } else { 0x007f_ffff }) | exponent << 23)
    };
    std::iter::repeat_with(&mut next).take(4000).collect()
}

fn ulp(x: f64) -> f64 {
    let near = (x.abs() as f32).max(f32::MIN_POSITIVE);
    f64::from(f32::from_bits(near.to_bits() & 0x7f80_0000)) * f64::from(f32::EPSILON)
}

/// That errors fill the bound and no more.
#[track_caller]
fn check(functions: &[Function]) {
    for (name, function, exact, bound, inputs) in functions {
        let mut parts = Vec::new();
        for how in [Approx::Low, Approx::High, Approx::Spread] {
            let mut least = f64::INFINITY;
            let mut most = f64::NEG_INFINITY;
            for &x in *inputs {
                let (got, exact) = (function(how, x), exact(x.into()));
                assert_eq!(got.to_bits(), function(how, x).to_bits(), "{name}: the same input gives the same result");
                let error = (f64::from(got) - exact) / bound(x.into(), exact);
                assert!(error.abs() <= 1.0, "{name} {how:?} of {x:e}: {got:e}, {exact:e}, {error} of the bound");
                (least, most) = (least.min(error), most.max(error));
            }
            parts.push((least, most));
        }
        let [low, high, spread] = parts[..] else { unreachable!() };
        assert!(low.1 <= 1e-6 && low.0 < -0.7, "{name} low: {low:?}");
        assert!(high.0 >= -1e-6 && high.1 > 0.7, "{name} high: {high:?}");
        assert!(spread.0 < -0.5 && spread.1 > 0.5, "{name} spread: {spread:?}");
    }
}

#[test]
fn errors_fill_the_documented_bounds() {
    let (any, positive, small) = (numbers(-20, 20, true), numbers(-20, 20, false), numbers(-6, 3, true));
    let within = numbers(-6, 2, true);
    let relative = |part: f64| move |_: f64, exact: f64| part * exact.abs();
    let one_ulp = |_: f64, exact: f64| ulp(exact);
    let logarithm = |x: f64, exact: f64| 2.0_f64.powi(-22) * if x > 0.5 && x < 2.0 { 1.0 } else { exact.abs() };

    check(&[
        ("ex2", |how, x| how.ex2_f32(true, x), f64::exp2, &relative(2.0_f64.powi(-22)), &small),
        ("lg2", |how, x| how.lg2_f32(true, x), f64::log2, &logarithm, &positive),
        ("sin", |how, x| how.sin_f32(false, x), f64::sin, &|_, _| 2.0_f64.powf(-20.5), &within),
        ("cos", |how, x| how.cos_f32(false, x), f64::cos, &|_, _| 2.0_f64.powf(-20.5), &within),
        ("rcp", |how, x| how.rcp_f32(true, x), |x| 1.0 / x, &one_ulp, &any),
        ("rsqrt", |how, x| how.rsqrt_f32(true, x), |x| 1.0 / x.sqrt(), &relative(2.0_f64.powf(-22.9)), &positive),
        ("sqrt", |how, x| how.sqrt_f32(true, x), f64::sqrt, &relative(2.0_f64.powi(-23)), &positive),
        ("div", |how, x| how.quotient(true, 3.0, x, 3.0 / x), |x| 3.0 / x, &|_, exact| 2.0 * ulp(exact), &any),
    ]);
}

#[test]
fn tanh_and_halves_stay_inside_their_bounds() {
    for how in [Approx::Low, Approx::High, Approx::Spread] {
        for x in numbers(-8, 4, true) {
            let exact = f64::from(x).tanh();
            assert!((f64::from(how.tanh_f32(x)) - exact).abs() <= 2.0_f64.powi(-11) * exact.abs(), "{x}");
        }
        for bits in (0..0x7c00_u16).chain(0x8000..0xfc00) {
            let x = f64::from(f16_to_f32(bits));
            let got = |result: u16| f64::from(f16_to_f32(result));
            assert!((got(how.tanh_f16(bits)) - x.tanh()).abs() <= 2.0_f64.powf(-10.987), "tanh.f16 {x}");
            if x.abs() < 13.0 {
                assert!((got(how.ex2_f16(bits)) / x.exp2() - 1.0).abs() <= 2.0_f64.powf(-9.9), "ex2.f16 {x}");
            }
        }
        for bits in (0x0080..0x7f80_u16).chain(0x8080..0xff80) {
            let x = f64::from(bf16_to_f32(bits));
            let got = |result: u16| f64::from(bf16_to_f32(result));
            assert!((got(how.tanh_bf16(bits)) - x.tanh()).abs() <= 2.0_f64.powi(-8), "tanh.bf16 {x}");
            if x.abs() < 120.0 {
                assert!((got(how.ex2_bf16(bits)) / x.exp2() - 1.0).abs() <= 2.0_f64.powi(-7), "ex2.bf16 {x}");
            }
        }
    }
}

#[test]
fn the_tables_of_the_isa_hold() {
    for how in [Approx::Low, Approx::High, Approx::Spread] {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        assert_eq!([how.ex2_f32(true, 0.0), how.ex2_f32(true, -1e-40), how.ex2_f32(false, -0.0)], [1.0; 3]);
        assert_eq!([how.ex2_f32(true, inf), how.ex2_f32(true, -inf)], [inf, 0.0]);
        assert_eq!([how.lg2_f32(true, 0.0), how.lg2_f32(true, inf)], [-inf, inf]);
        assert_eq!([how.rcp_f32(true, inf), how.rcp_f32(true, 0.0), how.rcp_f32(true, -0.0)], [0.0, inf, -inf]);
        assert_eq!([how.sqrt_f32(true, 0.0), how.sqrt_f32(true, inf), how.rsqrt_f32(true, inf)], [0.0, inf, 0.0]);
        assert_eq!([how.sin_f32(true, 0.0), how.cos_f32(true, 0.0), how.tanh_f32(0.0)], [0.0, 1.0, 0.0]);
        assert_eq!([how.tanh_f32(inf), how.tanh_f32(-inf)].map(f32::abs).map(|x| x <= 1.0), [true; 2]);
        assert!(how.lg2_f32(true, -1.0).is_nan() && how.ex2_f32(true, nan).is_nan() && how.sin_f32(true, inf).is_nan());
        assert!(how.quotient(true, 1.0, nan, nan).is_nan());
    }
    assert_eq!(Approx::Exact.ex2_f32(true, 0.3).to_bits(), cudasim::numerics::approx::ex2_f32(true, 0.3).to_bits());
}
