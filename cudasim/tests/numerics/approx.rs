//! The `.approx` instructions: the ISA's tables of special values, and errors of at most half an ulp between them.

use cudasim::numerics::approx::*;
use cudasim::numerics::formats::{bf16_to_f32, f16_to_f32};
use cudasim::numerics::{NAN_F16, NAN_F32};

use crate::exact::Bits;

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::from_bits(NAN_F32);

/// An instruction and a table of inputs and results.
type Table<'a> = (&'a str, fn(f32) -> f32, &'a [(f32, f32)]);

/// A subnormal number, which `.ftz` flushes to zero.
const TINY: f32 = f32::from_bits(0x0000_0100);

/// Results to the bit.
fn check_special_values(tables: &[Table]) {
    for (name, function, table) in tables {
        for &(x, expected) in *table {
            assert_eq!(function(x).to_bits(), expected.to_bits(), "{name} of {x:e}: {:e}", function(x));
        }
    }
}

#[test]
fn special_values_of_exponentials_and_logarithms() {
    check_special_values(&[
        (
            "ex2.ftz",
            |x| ex2_f32(true, x),
            &[
                (-INF, 0.0),
                (-TINY, 1.0),
                (-0.0, 1.0),
                (0.0, 1.0),
                (TINY, 1.0),
                (INF, INF),
                (NAN, NAN),
                (-127.0, 0.0),
                (128.0, INF),
                (-1e30, 0.0),
                (3.0, 8.0),
                (-126.0, f32::MIN_POSITIVE),
            ],
        ),
        (
            "ex2",
            |x| ex2_f32(false, x),
            &[
                (-127.0, 0.5 * f32::MIN_POSITIVE),
                (-149.0, f32::from_bits(1)),
                (-151.0, 0.0),
                (127.0, 1.701_411_8e38),
                (-INF, 0.0),
                (INF, INF),
                (NAN, NAN),
                (1e38, INF),
            ],
        ),
        (
            "lg2.ftz",
            |x| lg2_f32(true, x),
            &[
                (-INF, NAN),
                (-1.0, NAN),
                (-TINY, -INF),
                (-0.0, -INF),
                (0.0, -INF),
                (TINY, -INF),
                (INF, INF),
                (NAN, NAN),
                (8.0, 3.0),
                (1.0, 0.0),
            ],
        ),
        ("lg2", |x| lg2_f32(false, x), &[(TINY, -141.0), (-TINY, NAN), (0.0, -INF), (0.125, -3.0)]),
    ]);
}

#[test]
fn special_values_of_sin_cos_and_tanh() {
    check_special_values(&[
        (
            "sin.ftz",
            |x| sin_f32(true, x),
            &[(-INF, NAN), (-TINY, -0.0), (-0.0, -0.0), (0.0, 0.0), (TINY, 0.0), (INF, NAN), (NAN, NAN)],
        ),
        ("sin", |x| sin_f32(false, x), &[(TINY, TINY), (-0.0, -0.0), (INF, NAN)]),
        ("cos.ftz", |x| cos_f32(true, x), &[(-INF, NAN), (TINY, 1.0), (-0.0, 1.0), (INF, NAN), (NAN, NAN)]),
        (
            "tanh",
            tanh_f32,
            &[(-INF, -1.0), (-TINY, -TINY), (-0.0, -0.0), (0.0, 0.0), (INF, 1.0), (NAN, NAN), (20.0, 1.0)],
        ),
    ]);
}

#[test]
fn special_values_of_reciprocals() {
    check_special_values(&[
        (
            "rcp.ftz",
            |x| rcp_f32(true, x),
            &[
                (-INF, -0.0),
                (-TINY, -INF),
                (-0.0, -INF),
                (0.0, INF),
                (TINY, INF),
                (INF, 0.0),
                (NAN, NAN),
                (f32::MAX, 0.0),
                (-4.0, -0.25),
            ],
        ),
        (
            "rcp",
            |x| rcp_f32(false, x),
            &[
                (-INF, -0.0),
                (-0.0, -INF),
                (0.0, INF),
                (INF, 0.0),
                (NAN, NAN),
                (f32::MIN_POSITIVE * 0.5, 1.701_411_8e38),
                (TINY, INF),
                (1.701_411_8e38, f32::MIN_POSITIVE * 0.5),
            ],
        ),
    ]);
}

#[test]
fn special_values_of_roots() {
    check_special_values(&[
        (
            "rsqrt.ftz",
            |x| rsqrt_f32(true, x),
            &[
                (-INF, NAN),
                (-1.0, NAN),
                (-TINY, -INF),
                (-0.0, -INF),
                (0.0, INF),
                (TINY, INF),
                (INF, 0.0),
                (NAN, NAN),
                (4.0, 0.5),
            ],
        ),
        (
            "rsqrt",
            |x| rsqrt_f32(false, x),
            &[(-TINY, NAN), (f32::from_bits(0x0000_0200), 1_180_591_620_717_411_303_424.0)],
        ),
        (
            "sqrt.ftz",
            |x| sqrt_approx_f32(true, x),
            &[
                (-INF, NAN),
                (-1.0, NAN),
                (-TINY, -0.0),
                (-0.0, -0.0),
                (0.0, 0.0),
                (TINY, 0.0),
                (INF, INF),
                (NAN, NAN),
                (9.0, 3.0),
            ],
        ),
    ]);
}

#[test]
fn special_values_of_quotients() {
    check_special_values(&[
        (
            "2^127 / x",
            |x| div_approx_f32(false, 1.701_411_8e38, x),
            &[
                // Past 2^126 the divisor's reciprocal is gone; at 2^126 and at infinity it is not.
                (8.507_059e37, 2.0),
                (8.507_06e37, 0.0),
                (-f32::MAX, -0.0),
                (INF, 0.0),
                (0.0, INF),
                (NAN, NAN),
                (2.0, 8.507_059e37),
            ],
        ),
        ("inf / x", |x| div_approx_f32(true, INF, x), &[(1e38, NAN), (-2.0, -INF), (TINY, INF), (INF, NAN)]),
    ]);
    assert_eq!(div_full_f32(false, 8.507_059e37, 1.701_411_8e38), 0.5);
    assert_eq!(div_full_f32(true, -1e-30, 1e30).to_bits(), 0x8000_0000);
}

/// How far `result` is from `exact`, in units of the last place of the nearest f32.
fn ulps(result: f32, exact: f64) -> f64 {
    let near = exact as f32;
    let ulp = f64::from(near.abs().next_up()) - f64::from(near.abs());
    (f64::from(result) - exact).abs() / ulp
}

#[test]
fn correctly_rounded_but_for_f64_error() {
    let mut bits = Bits(10);
    for _ in 0..50_000 {
        let unit = (bits.next() >> 11) as f64 / 2_f64.powi(53);
        let x = ((unit - 0.5) * 250.0) as f32;
        let (wide, positive) = (f64::from(x), f64::from(x.abs()));

        // Half an ulp, and a little for the reference's own rounding.
        for (name, result, exact) in [
            ("ex2", ex2_f32(false, x), wide.exp2()),
            ("lg2", lg2_f32(false, x.abs()), positive.log2()),
            ("sin", sin_f32(false, x), wide.sin()),
            ("cos", cos_f32(false, x), wide.cos()),
            ("tanh", tanh_f32(x / 32.0), (wide / 32.0).tanh()),
            ("rcp", rcp_f32(false, x), 1.0 / wide),
            ("rsqrt", rsqrt_f32(false, x.abs()), 1.0 / positive.sqrt()),
            ("sqrt", sqrt_approx_f32(false, x.abs()), positive.sqrt()),
            ("div", div_approx_f32(false, x, 3.7), wide / f64::from(3.7_f32)),
        ] {
            assert!(ulps(result, exact) < 0.500_01, "{name} of {x:e}: {result:e}, {exact:e}");
        }
    }
    for n in -149..=127 {
        assert_eq!(ex2_f32(false, n as f32), 2_f64.powi(n) as f32, "2^{n}");
    }
}

#[test]
fn every_half() {
    for x in 0..=u16::MAX {
        // Half a unit in the last place of f16 and bf16 relative to the result, or of the smallest subnormal.
        let near = |result: u16, decode: fn(u16) -> f32, exact: f64, relative: f64, absolute: f64, what: &str| {
            let result = f64::from(decode(result));
            assert!(result == exact || (result - exact).abs() <= absolute.max(relative * exact.abs()), "{what} {x:#x}");
        };

        let (f16, bf16) = (f64::from(f16_to_f32(x)), f64::from(bf16_to_f32(x)));
        if f16.is_nan() {
            assert_eq!((ex2_f16(x), tanh_f16(x)), (NAN_F16, NAN_F16));
        } else if f16.exp2() < 65520.0 {
            near(ex2_f16(x), f16_to_f32, f16.exp2(), 2_f64.powi(-11), 2_f64.powi(-25), "ex2.f16");
            near(tanh_f16(x), f16_to_f32, f16.tanh(), 2_f64.powi(-11), 2_f64.powi(-25), "tanh.f16");
        } else {
            assert_eq!(ex2_f16(x), 0x7c00);
        }

        if bf16.is_nan() {
            assert_eq!((ex2_bf16(x), tanh_bf16(x)), (NAN_F16, NAN_F16));
            continue;
        }

        near(tanh_bf16(x), bf16_to_f32, bf16.tanh(), 2_f64.powi(-8), 2_f64.powi(-134), "tanh.bf16");
        if bf16 >= 128.0 {
            assert_eq!(ex2_bf16(x), 0x7f80);
        } else if bf16 < -126.0 {
            assert_eq!(ex2_bf16(x), 0, "subnormal results are flushed");
        } else {
            near(ex2_bf16(x), bf16_to_f32, bf16.exp2(), 2_f64.powi(-8), 0.0, "ex2.bf16");
        }
    }
}

#[test]
fn gross_f64_approximations() {
    let inf = f64::INFINITY;
    let tiny = f64::from_bits(1 << 40);

    for (x, expected) in [
        (-inf, -0.0),
        (-tiny, -inf),
        (-0.0, -inf),
        (0.0, inf),
        (tiny, inf),
        (inf, 0.0),
        (4.0, 0.25),
        (f64::MAX, 0.0),
        // Only the upper word is read: 2 and a little is 2.
        (2_f64.next_up(), 0.5),
    ] {
        assert_eq!(rcp_approx_ftz_f64(x).to_bits(), expected.to_bits(), "{x:e}");
    }

    for (x, expected) in [(-0.0, -inf), (0.0, inf), (tiny, inf), (inf, 0.0), (4.0, 0.5), (-tiny, -inf)] {
        assert_eq!(rsqrt_approx_ftz_f64(x).to_bits(), expected.to_bits(), "{x:e}");
    }

    assert!(rsqrt_approx_ftz_f64(-1.0).is_nan() && rcp_approx_ftz_f64(f64::NAN).is_nan());
    assert_eq!(rcp_approx_ftz_f64(3.0).to_bits() & 0xffff_ffff, 0);
    assert!((rcp_approx_ftz_f64(3.0) * 3.0 - 1.0).abs() < 2_f64.powi(-19));
    assert_eq!((rsqrt_approx_f64(0.25), rsqrt_approx_f64(inf)), (2.0, 0.0));
    assert!(rsqrt_approx_f64(tiny).is_finite() && rsqrt_approx_f64(-1.0).is_nan());
}
