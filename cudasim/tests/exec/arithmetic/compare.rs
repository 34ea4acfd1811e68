// What a comparison that fails for NaN means is clearest as its negation.
#![allow(clippy::neg_cmp_op_on_partial_ord)]

use super::{check, doubles, integers, singles};

macro_rules! flag {
    ($setp:literal) => {
        concat!($setp, " {q}, {a}, {b}; selp.u32 {d}, 1, 0, {q};")
    };
}

fn f(x: u64) -> f32 {
    f32::from_bits(x as u32)
}

fn d(x: u64) -> f64 {
    f64::from_bits(x)
}

#[test]
fn integers_are_compared() {
    check(
        [32; 4],
        &integers(),
        &[
            (flag!("setp.eq.s32"), |a, b, _| u64::from(a == b)),
            (flag!("setp.ne.b32"), |a, b, _| u64::from(a != b)),
            (flag!("setp.lt.s32"), |a, b, _| u64::from((a as i32) < b as i32)),
            (flag!("setp.le.s32"), |a, b, _| u64::from(a as i32 <= b as i32)),
            (flag!("setp.gt.s32"), |a, b, _| u64::from(a as i32 > b as i32)),
            (flag!("setp.ge.s32"), |a, b, _| u64::from(a as i32 >= b as i32)),
            (flag!("setp.lt.u32"), |a, b, _| u64::from(a < b)),
            (flag!("setp.lo.u32"), |a, b, _| u64::from(a < b)),
            (flag!("setp.ls.u32"), |a, b, _| u64::from(a <= b)),
            (flag!("setp.hi.u32"), |a, b, _| u64::from(a > b)),
            (flag!("setp.hs.u32"), |a, b, _| u64::from(a >= b)),
            ("setp.lt.and.u32 {q}, {a}, {b}, !{p}; selp.u32 {d}, 1, 0, {q};", |a, b, c| u64::from(a < b && c & 1 == 0)),
            ("setp.lt.or.s32 {q}, {a}, {b}, {p}; selp.u32 {d}, 1, 0, {q};", |a, b, c| {
                u64::from((a as i32) < b as i32 || c & 1 != 0)
            }),
            ("setp.eq.xor.s32 {q}, {a}, {b}, {p}; selp.u32 {d}, 1, 0, {q};", |a, b, c| {
                u64::from((a == b) != (c & 1 != 0))
            }),
            // The second predicate is of the negated comparison.
            (
                "setp.lt.and.u32 {q}|{p}, {a}, {b}, {p}; selp.u32 {d}, 1, 0, {p}; @{q} add.u32 {d}, {d}, 2;",
                |a, b, c| u64::from(a >= b && c & 1 != 0) + 2 * u64::from(a < b && c & 1 != 0),
            ),
            ("set.lt.u32.s32 {d}, {a}, {b};", |a, b, _| if (a as i32) < b as i32 { u64::MAX } else { 0 }),
            ("set.ge.f32.u32 {d}, {a}, {b};", |a, b, _| if a >= b { 1.0_f32.to_bits().into() } else { 0 }),
            ("set.eq.and.s32.u32 {d}, {a}, {b}, {p};", |a, b, c| if a == b && c & 1 != 0 { u64::MAX } else { 0 }),
            ("selp.b32 {d}, {a}, {b}, {p};", |a, b, c| if c & 1 != 0 { a } else { b }),
            ("slct.u32.s32 {d}, {a}, {b}, {c};", |a, b, c| if c as i32 >= 0 { a } else { b }),
        ],
    );

    check(
        [32, 64, 64, 64],
        &integers(),
        &[
            (flag!("setp.eq.b64"), |a, b, _| u64::from(a == b)),
            (flag!("setp.lt.s64"), |a, b, _| u64::from((a as i64) < b as i64)),
            (flag!("setp.ge.u64"), |a, b, _| u64::from(a >= b)),
            ("set.gt.u32.s64 {d}, {a}, {b};", |a, b, _| if a as i64 > b as i64 { u64::MAX } else { 0 }),
        ],
    );

    check(
        [32, 16, 16, 16],
        &integers(),
        &[
            (flag!("setp.ne.s16"), |a, b, _| u64::from(a != b)),
            (flag!("setp.lt.s16"), |a, b, _| u64::from((a as i16) < b as i16)),
            (flag!("setp.gt.u16"), |a, b, _| u64::from(a > b)),
        ],
    );

    check([64; 4], &integers(), &[("selp.b64 {d}, {a}, {b}, {p};", |a, b, c| if c & 1 != 0 { a } else { b })]);
    check([16; 4], &integers(), &[("selp.u16 {d}, {a}, {b}, {p};", |a, b, c| if c & 1 != 0 { a } else { b })]);
}

#[test]
fn floats_are_compared() {
    check(
        [32; 4],
        &singles(),
        &[
            (flag!("setp.eq.f32"), |a, b, _| u64::from(f(a) == f(b))),
            (flag!("setp.ne.f32"), |a, b, _| u64::from(f(a) < f(b) || f(a) > f(b))),
            (flag!("setp.lt.f32"), |a, b, _| u64::from(f(a) < f(b))),
            (flag!("setp.le.f32"), |a, b, _| u64::from(f(a) <= f(b))),
            (flag!("setp.gt.f32"), |a, b, _| u64::from(f(a) > f(b))),
            (flag!("setp.ge.f32"), |a, b, _| u64::from(f(a) >= f(b))),
            (flag!("setp.equ.f32"), |a, b, _| u64::from(!(f(a) < f(b) || f(a) > f(b)))),
            (flag!("setp.neu.f32"), |a, b, _| u64::from(f(a) != f(b))),
            (flag!("setp.ltu.f32"), |a, b, _| u64::from(!(f(a) >= f(b)))),
            (flag!("setp.leu.f32"), |a, b, _| u64::from(!(f(a) > f(b)))),
            (flag!("setp.gtu.f32"), |a, b, _| u64::from(!(f(a) <= f(b)))),
            (flag!("setp.geu.f32"), |a, b, _| u64::from(!(f(a) < f(b)))),
            (flag!("setp.num.f32"), |a, b, _| u64::from(!f(a).is_nan() && !f(b).is_nan())),
            (flag!("setp.nan.f32"), |a, b, _| u64::from(f(a).is_nan() || f(b).is_nan())),
            (flag!("setp.eq.ftz.f32"), |a, b, _| {
                let flushed = |x: u64| if f(x).is_subnormal() { 0.0 } else { f(x) };
                u64::from(flushed(a) == flushed(b))
            }),
            ("set.ltu.u32.f32 {d}, {a}, {b};", |a, b, _| if f(a) >= f(b) { 0 } else { u64::MAX }),
            ("set.lt.ftz.f32.f32 {d}, {a}, {b};", |a, b, _| {
                let flushed = |x: u64| if f(x).is_subnormal() { 0.0 } else { f(x) };
                if flushed(a) < flushed(b) { 1.0_f32.to_bits().into() } else { 0 }
            }),
            ("slct.f32.f32 {d}, {a}, {b}, {c};", |a, b, c| if f(c) >= 0.0 { a } else { b }),
            ("testp.finite.f32 {q}, {a}; selp.u32 {d}, 1, 0, {q};", |a, _, _| u64::from(f(a).is_finite())),
            ("testp.infinite.f32 {q}, {a}; selp.u32 {d}, 1, 0, {q};", |a, _, _| u64::from(f(a).is_infinite())),
            ("testp.number.f32 {q}, {a}; selp.u32 {d}, 1, 0, {q};", |a, _, _| u64::from(!f(a).is_nan())),
            ("testp.notanumber.f32 {q}, {a}; selp.u32 {d}, 1, 0, {q};", |a, _, _| u64::from(f(a).is_nan())),
            ("testp.subnormal.f32 {q}, {a}; selp.u32 {d}, 1, 0, {q};", |a, _, _| u64::from(f(a).is_subnormal())),
        ],
    );
    check(
        [32, 64, 64, 64],
        &doubles(),
        &[
            (flag!("setp.lt.f64"), |a, b, _| u64::from(d(a) < d(b))),
            (flag!("setp.neu.f64"), |a, b, _| u64::from(d(a) != d(b))),
            (flag!("setp.geu.f64"), |a, b, _| u64::from(!(d(a) < d(b)))),
            ("testp.normal.f64 {q}, {a}; selp.u32 {d}, 1, 0, {q};", |a, _, _| {
                u64::from(d(a).is_normal() || d(a) == 0.0)
            }),
        ],
    );
}

#[test]
fn packed_halves_are_compared_each() {
    check(
        [32; 4],
        &integers(),
        &[
            ("setp.lt.f16x2 {q}|{p}, {a}, {b}; selp.u32 {d}, 1, 0, {q}; @{p} add.u32 {d}, {d}, 2;", |a, b, _| {
                let less = |shift: u32| {
                    let value = |x: u64| cudasim::numerics::formats::f16_to_f32((x >> shift) as u16);
                    u64::from(value(a) < value(b))
                };

                less(0) + 2 * less(16)
            }),
            ("set.ge.bf16x2.bf16x2 {d}, {a}, {b};", |a, b, _| {
                let part = |shift: u32| {
                    let value = |x: u64| f32::from_bits(((x >> shift) as u32) << 16);
                    if value(a) >= value(b) { 0x3f80 << shift } else { 0 }
                };

                part(0) | part(16)
            }),
        ],
    );
}
