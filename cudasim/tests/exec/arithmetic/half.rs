use super::{check, triples};

/// Value of an f16, from its definition.
fn f16(x: u16) -> f64 {
    let (sign, exponent, fraction) =
        (if x >> 15 != 0 { -1.0 } else { 1.0 }, i32::from(x >> 10 & 31), f64::from(x & 0x3ff));
    sign * match exponent {
        0 => fraction * 2.0_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2.0_f64.powi(exponent - 25),
    }
}

/// Bits of the f16 nearest to a sum or product that f64 holds exactly: found by search among all of them.
fn to_f16(x: f64) -> u16 {
    if x.is_nan() {
        return 0x7fff;
    }
    let sign = if x.is_sign_negative() { 0x8000 } else { 0 };
    let x = x.abs();
    // Non-negative f16 are ordered as their bits; 65520 is where rounding reaches infinity.
    if x >= 65520.0 {
        return sign | 0x7c00;
    }
    let (mut low, mut high) = (0_u16, 0x7c00);
    while high - low > 1 {
        let middle = low.midpoint(high);
        if f16(middle) <= x { low = middle } else { high = middle }
    }
    let upper = if high == 0x7c00 { 65536.0 } else { f16(high) };
    let (below, above) = (x - f16(low), upper - x);
    sign | if below < above || below == above && low % 2 == 0 { low } else { high }
}

fn bf16(x: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(x) << 16))
}

/// Bits of the bf16 nearest to a value that f64 holds exactly.
fn to_bf16(x: f64) -> u16 {
    if x.is_nan() {
        return 0x7fff;
    }
    let sign = if x.is_sign_negative() { 0x8000 } else { 0 };
    let x = x.abs();
    if x >= 2.0_f64.powi(127) * (2.0 - 2.0_f64.powi(-8)) {
        return sign | 0x7f80;
    }
    let (mut low, mut high) = (0_u16, 0x7f80);
    while high - low > 1 {
        let middle = low.midpoint(high);
        if bf16(middle) <= x { low = middle } else { high = middle }
    }
    let upper = if high == 0x7f80 { 2.0_f64.powi(128) } else { bf16(high) };
    let (below, above) = (x - bf16(low), upper - x);
    sign | if below < above || below == above && low % 2 == 0 { low } else { high }
}

fn each(a: u64, b: u64, c: u64, f: impl Fn(u16, u16, u16) -> u16) -> u64 {
    let part = |shift: u32| u64::from(f((a >> shift) as u16, (b >> shift) as u16, (c >> shift) as u16)) << shift;
    part(0) | part(16)
}

fn inputs() -> Vec<[u64; 3]> {
    let edges = [
        0,
        0x8000,
        1,
        0x3c00,
        0xbc00,
        0x7bff,
        0x7c00,
        0xfc00,
        0x7e00,
        0x0400,
        0x03ff,
        0x3f80,
        0x7f80,
        0x6801,
        0x3555_4248,
    ];
    // Exponents near one another, so that sums matter; both halves.
    triples(&edges, |random| random & 0x8fff_8fff | 0x3000_3000)
}

#[test]
fn f16_is_rounded_once() {
    check(
        [16; 4],
        &inputs(),
        &[
            ("add.f16 {d}, {a}, {b};", |a, b, _| to_f16(f16(a as u16) + f16(b as u16)).into()),
            ("sub.rn.f16 {d}, {a}, {b};", |a, b, _| to_f16(f16(a as u16) - f16(b as u16)).into()),
            ("mul.f16 {d}, {a}, {b};", |a, b, _| to_f16(f16(a as u16) * f16(b as u16)).into()),
            // Products have 22 bits and the sum at most 80 from end to end, but not with these exponents: exact in f64.
            ("fma.rn.f16 {d}, {a}, {b}, {c};", |a, b, c| {
                to_f16(f16(a as u16).mul_add(f16(b as u16), f16(c as u16))).into()
            }),
            ("neg.f16 {d}, {a};", |a, _, _| a ^ 0x8000),
            ("abs.f16 {d}, {a};", |a, _, _| a & 0x7fff),
        ],
    );
}

#[test]
fn packed_halves_are_each_what_one_would_be() {
    check(
        [32; 4],
        &inputs(),
        &[
            ("add.f16x2 {d}, {a}, {b};", |a, b, c| each(a, b, c, |a, b, _| to_f16(f16(a) + f16(b)))),
            ("mul.rn.f16x2 {d}, {a}, {b};", |a, b, c| each(a, b, c, |a, b, _| to_f16(f16(a) * f16(b)))),
            ("fma.rn.f16x2 {d}, {a}, {b}, {c};", |a, b, c| {
                each(a, b, c, |a, b, c| to_f16(f16(a).mul_add(f16(b), f16(c))))
            }),
            ("fma.rn.relu.f16x2 {d}, {a}, {b}, {c};", |a, b, c| {
                each(a, b, c, |a, b, c| {
                    let x = f16(a).mul_add(f16(b), f16(c));
                    if x.is_sign_negative() && !x.is_nan() { 0 } else { to_f16(x) }
                })
            }),
            ("add.bf16x2 {d}, {a}, {b};", |a, b, c| each(a, b, c, |a, b, _| to_bf16(bf16(a) + bf16(b)))),
            ("sub.bf16x2 {d}, {a}, {b};", |a, b, c| each(a, b, c, |a, b, _| to_bf16(bf16(a) - bf16(b)))),
            ("mul.bf16x2 {d}, {a}, {b};", |a, b, c| each(a, b, c, |a, b, _| to_bf16(bf16(a) * bf16(b)))),
            ("neg.bf16x2 {d}, {a};", |a, _, _| a ^ 0x8000_8000),
            ("abs.bf16x2 {d}, {a};", |a, _, _| a & 0x7fff_7fff),
            ("max.bf16x2 {d}, {a}, {b};", |a, b, c| {
                each(a, b, c, |a, b, _| match (bf16(a).is_nan(), bf16(b).is_nan()) {
                    (true, true) => 0x7fff,
                    (true, false) => b,
                    (false, true) => a,
                    _ if bf16(a) == 0.0 && bf16(b) == 0.0 => a & b,
                    _ => {
                        if bf16(a) > bf16(b) {
                            a
                        } else {
                            b
                        }
                    }
                })
            }),
            ("min.f16x2 {d}, {a}, {b};", |a, b, c| {
                each(a, b, c, |a, b, _| match (f16(a).is_nan(), f16(b).is_nan()) {
                    (true, true) => 0x7fff,
                    (true, false) => b,
                    (false, true) => a,
                    _ if f16(a) == 0.0 && f16(b) == 0.0 => a | b,
                    _ => {
                        if f16(a) < f16(b) {
                            a
                        } else {
                            b
                        }
                    }
                })
            }),
        ],
    );
}

#[test]
fn bf16_is_rounded_once() {
    check(
        [16; 4],
        &inputs(),
        &[
            ("add.bf16 {d}, {a}, {b};", |a, b, _| to_bf16(bf16(a as u16) + bf16(b as u16)).into()),
            ("mul.bf16 {d}, {a}, {b};", |a, b, _| to_bf16(bf16(a as u16) * bf16(b as u16)).into()),
            ("fma.rn.bf16 {d}, {a}, {b}, {c};", |a, b, c| {
                to_bf16(bf16(a as u16).mul_add(bf16(b as u16), bf16(c as u16))).into()
            }),
            ("max.NaN.bf16 {d}, {a}, {b};", |a, b, _| {
                let (x, y) = (bf16(a as u16), bf16(b as u16));
                if x.is_nan() || y.is_nan() {
                    return 0x7fff;
                }
                if x == y {
                    a & b
                } else if x > y {
                    a
                } else {
                    b
                }
            }),
        ],
    );
}
