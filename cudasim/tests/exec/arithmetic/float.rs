use super::{check, doubles, singles};

fn f(x: u64) -> f32 {
    f32::from_bits(x as u32)
}

fn d(x: u64) -> f64 {
    f64::from_bits(x)
}

/// Bits of an f32 result: NaN is 0x7fffffff.
fn single(x: f32) -> u64 {
    if x.is_nan() { 0x7fff_ffff } else { x.to_bits().into() }
}

/// The same with subnormals flushed.
fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0.0_f32.copysign(x) } else { x }
}

/// Bits of an f64 result: of NaN only that it is one.
fn double(x: f64) -> u64 {
    if x.is_nan() { 0xfff8_0000_0000_0000 } else { x.to_bits() }
}

/// An f64 that is exact, or has no tie with an f32 near, rounded towards zero.
fn towards_zero(x: f64) -> f32 {
    let near = x as f32;
    if near.is_infinite() && x.is_finite() {
        return f32::MAX.copysign(near);
    }
    if f64::from(near).abs() > x.abs() { f32::from_bits(near.to_bits() - 1) } else { near }
}

#[test]
fn singles_are_rounded() {
    check(
        [32; 4],
        &singles(),
        &[
            ("add.f32 {d}, {a}, {b};", |a, b, _| single(f(a) + f(b))),
            ("add.rn.ftz.f32 {d}, {a}, {b};", |a, b, _| single(flushed(flushed(f(a)) + flushed(f(b))))),
            ("add.sat.f32 {d}, {a}, {b};", |a, b, _| {
                let sum = f(a) + f(b);
                if sum > 0.0 { single(sum.min(1.0)) } else { 0 }
            }),
            ("sub.f32 {d}, {a}, {b};", |a, b, _| single(f(a) - f(b))),
            ("mul.f32 {d}, {a}, {b};", |a, b, _| single(f(a) * f(b))),
            ("mul.rn.ftz.f32 {d}, {a}, {b};", |a, b, _| single(flushed(flushed(f(a)) * flushed(f(b))))),
            // A product of two f32 is exact in f64.
            ("mul.rz.f32 {d}, {a}, {b};", |a, b, _| single(towards_zero(f64::from(f(a)) * f64::from(f(b))))),
            ("fma.rn.f32 {d}, {a}, {b}, {c};", |a, b, c| single(f(a).mul_add(f(b), f(c)))),
            ("mad.rn.f32 {d}, {a}, {b}, {c};", |a, b, c| single(f(a).mul_add(f(b), f(c)))),
            ("fma.rn.ftz.f32 {d}, {a}, {b}, {c};", |a, b, c| {
                single(flushed(flushed(f(a)).mul_add(flushed(f(b)), flushed(f(c)))))
            }),
            ("div.rn.f32 {d}, {a}, {b};", |a, b, _| single(f(a) / f(b))),
            ("rcp.rn.f32 {d}, {a};", |a, _, _| single(1.0 / f(a))),
            ("sqrt.rn.f32 {d}, {a};", |a, _, _| single(f(a).sqrt())),
            // Of a NaN the ISA leaves the bits open.
            ("abs.f32 {d}, {a}; setp.nan.f32 {q}, {d}, {d}; @{q} mov.b32 {d}, 0x7fffffff;", |a, _, _| {
                single(f(a).abs())
            }),
            ("neg.f32 {d}, {a}; setp.nan.f32 {q}, {d}, {d}; @{q} mov.b32 {d}, 0x7fffffff;", |a, _, _| single(-f(a))),
            ("min.f32 {d}, {a}, {b};", |a, b, _| single(least(f(a), f(b)))),
            ("max.f32 {d}, {a}, {b};", |a, b, _| single(-least(-f(a), -f(b)))),
            ("max.NaN.f32 {d}, {a}, {b};", |a, b, _| {
                if f(a).is_nan() || f(b).is_nan() { 0x7fff_ffff } else { single(-least(-f(a), -f(b))) }
            }),
            ("min.xorsign.abs.f32 {d}, {a}, {b};", |a, b, _| {
                let magnitude = least(f(a).abs(), f(b).abs());
                if magnitude.is_nan() { 0x7fff_ffff } else { u64::from(magnitude.to_bits()) | (a ^ b) & 0x8000_0000 }
            }),
            ("copysign.f32 {d}, {a}, {b};", |a, b, _| b & 0x7fff_ffff | a & 0x8000_0000),
        ],
    );
}

/// The lesser of two, -0 below +0; of a number and NaN the number.
fn least(a: f32, b: f32) -> f32 {
    match (a.is_nan(), b.is_nan()) {
        (true, _) => b,
        (_, true) => a,
        _ if a == 0.0 && b == 0.0 => {
            if a.is_sign_negative() {
                a
            } else {
                b
            }
        }
        _ => {
            if a < b {
                a
            } else {
                b
            }
        }
    }
}

#[test]
fn directed_rounding_brackets_the_exact_result() {
    // rm <= exact <= rp, and they are neighbours unless the result is exact.
    check(
        [32; 4],
        &singles(),
        &[
            (
                "add.rm.f32 {d}, {a}, {b}; { .reg .b32 %up; add.rp.f32 %up, {a}, {b}; setp.gt.f32 {q}, {d}, %up; } selp.u32 {d}, 1, 0, {q};",
                |_, _, _| 0,
            ),
            ("fma.rm.f32 {d}, {a}, {b}, 0f00000000;", |a, b, _| {
                let exact = f64::from(f(a)) * f64::from(f(b)) + 0.0;
                if exact == 0.0 {
                    // Signed zeros: minus zero only from minus zero products plus nothing, as .rm gives -0 for x - x.
                    let product = f(a) * f(b);
                    return if exact.is_nan() {
                        0x7fff_ffff
                    } else if product.is_sign_negative() {
                        0x8000_0000
                    } else {
                        0
                    };
                }

                let near = exact as f32;
                single(match near {
                    x if x.is_nan() => x,
                    x if x.is_infinite() && exact.is_finite() && x > 0.0 => f32::MAX,
                    x if f64::from(x) > exact => x.next_down(),
                    x => x,
                })
            }),
        ],
    );
}

#[test]
fn doubles_are_rounded() {
    check(
        [64; 4],
        &doubles(),
        &[
            (
                concat!("add.f64 {d}, {a}, {b};", " setp.nan.f64 {q}, {d}, {d}; @{q} mov.b64 {d}, 0xfff8000000000000;"),
                |a, b, _| double(d(a) + d(b)),
            ),
            (
                concat!(
                    "sub.rn.f64 {d}, {a}, {b};",
                    " setp.nan.f64 {q}, {d}, {d}; @{q} mov.b64 {d}, 0xfff8000000000000;"
                ),
                |a, b, _| double(d(a) - d(b)),
            ),
            (
                concat!("mul.f64 {d}, {a}, {b};", " setp.nan.f64 {q}, {d}, {d}; @{q} mov.b64 {d}, 0xfff8000000000000;"),
                |a, b, _| double(d(a) * d(b)),
            ),
            (
                concat!(
                    "fma.rn.f64 {d}, {a}, {b}, {c};",
                    " setp.nan.f64 {q}, {d}, {d}; @{q} mov.b64 {d}, 0xfff8000000000000;"
                ),
                |a, b, c| double(d(a).mul_add(d(b), d(c))),
            ),
            (
                concat!(
                    "div.rn.f64 {d}, {a}, {b};",
                    " setp.nan.f64 {q}, {d}, {d}; @{q} mov.b64 {d}, 0xfff8000000000000;"
                ),
                |a, b, _| double(d(a) / d(b)),
            ),
            (
                concat!("rcp.rn.f64 {d}, {a};", " setp.nan.f64 {q}, {d}, {d}; @{q} mov.b64 {d}, 0xfff8000000000000;"),
                |a, _, _| double(1.0 / d(a)),
            ),
            (
                concat!("sqrt.rn.f64 {d}, {a};", " setp.nan.f64 {q}, {d}, {d}; @{q} mov.b64 {d}, 0xfff8000000000000;"),
                |a, _, _| double(d(a).sqrt()),
            ),
        ],
    );
}

#[test]
fn signs_of_doubles() {
    check(
        [64; 4],
        &doubles(),
        &[
            (
                concat!("neg.f64 {d}, {a};", " setp.nan.f64 {q}, {d}, {d}; @{q} mov.b64 {d}, 0xfff8000000000000;"),
                |a, _, _| double(-d(a)),
            ),
            (
                concat!("abs.f64 {d}, {a};", " setp.nan.f64 {q}, {d}, {d}; @{q} mov.b64 {d}, 0xfff8000000000000;"),
                |a, _, _| double(d(a).abs()),
            ),
            (
                concat!(
                    "copysign.f64 {d}, {a}, {b};",
                    " setp.nan.f64 {q}, {d}, {d}; @{q} mov.b64 {d}, 0xfff8000000000000;"
                ),
                |a, b, _| double(d(b).copysign(d(a))),
            ),
            (
                concat!(
                    "fma.rn.f64 {d}, {a}, 0d3FF0000000000000, 0d0000000000000000;",
                    " setp.nan.f64 {q}, {d}, {d}; @{q} mov.b64 {d}, 0xfff8000000000000;"
                ),
                |a, _, _| double(d(a) + 0.0),
            ),
        ],
    );
}

#[test]
fn approximations_are_near() {
    // The ISA's bounds; numerics/approx.rs rounds once, so a relative error of 2^-21 is generous.
    fn near(result: f64) -> u64 {
        u64::from((result as f32).to_bits())
    }

    let positive: Vec<[u64; 3]> =
        (1..400).map(|i| [u64::from((i as f32 * 0.173).to_bits()), u64::from((i as f32 + 0.5).to_bits()), 0]).collect();
    check(
        [32; 4],
        &positive,
        &[
            ("rcp.approx.f32 {d}, {a};", |a, _, _| near(1.0 / f64::from(f(a)))),
            ("rsqrt.approx.f32 {d}, {a};", |a, _, _| near(1.0 / f64::from(f(a)).sqrt())),
            ("sqrt.approx.ftz.f32 {d}, {a};", |a, _, _| near(f64::from(f(a)).sqrt())),
            ("lg2.approx.f32 {d}, {a};", |a, _, _| near(f64::from(f(a)).log2())),
            ("ex2.approx.ftz.f32 {d}, {a};", |a, _, _| near(f64::from(f(a)).exp2())),
            ("div.full.f32 {d}, {a}, {b};", |a, b, _| near(f64::from(f(a)) / f64::from(f(b)))),
            ("div.approx.f32 {d}, {a}, {b};", |a, b, _| near(f64::from(f(a)) / f64::from(f(b)))),
            ("sin.approx.f32 {d}, {a};", |a, _, _| near(f64::from(f(a)).sin())),
            ("cos.approx.f32 {d}, {a};", |a, _, _| near(f64::from(f(a)).cos())),
            ("tanh.approx.f32 {d}, {a};", |a, _, _| near(f64::from(f(a)).tanh())),
        ],
    );

    check(
        [32; 4],
        &[[0x7f80_0000, 0, 0], [0xff80_0000, 0, 0], [0, 0, 0], [0x8000_0000, 0, 0], [0x7fc0_0000, 0, 0]],
        &[
            ("ex2.approx.f32 {d}, {a};", |a, _, _| single(f(a).exp2())),
            ("rcp.approx.ftz.f32 {d}, {a};", |a, _, _| single(1.0 / f(a))),
            ("lg2.approx.f32 {d}, {a};", |a, _, _| single(if f(a) == 0.0 { f32::NEG_INFINITY } else { f(a).log2() })),
        ],
    );
}
