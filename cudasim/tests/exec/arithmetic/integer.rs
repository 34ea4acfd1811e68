use super::{check, integers};

#[test]
fn words() {
    check(
        [32; 4],
        &integers(),
        &[
            ("add.u32 {d}, {a}, {b};", |a, b, _| a + b),
            ("add.s32 {d}, {a}, {b};", |a, b, _| a + b),
            ("add.sat.s32 {d}, {a}, {b};", |a, b, _| {
                (a as i32 as i64 + b as i32 as i64).clamp(i32::MIN.into(), i32::MAX.into()) as u64
            }),
            ("sub.u32 {d}, {a}, {b};", |a, b, _| a.wrapping_sub(b)),
            ("sub.sat.s32 {d}, {a}, {b};", |a, b, _| {
                (a as i32 as i64 - b as i32 as i64).clamp(i32::MIN.into(), i32::MAX.into()) as u64
            }),
            ("mul.lo.s32 {d}, {a}, {b};", |a, b, _| a * b),
            ("mul.hi.u32 {d}, {a}, {b};", |a, b, _| (a * b) >> 32),
            ("mul.hi.s32 {d}, {a}, {b};", |a, b, _| ((a as i32 as i64 * b as i32 as i64) >> 32) as u64),
            ("mad.lo.u32 {d}, {a}, {b}, {c};", |a, b, c| (a * b).wrapping_add(c)),
            ("mad.hi.u32 {d}, {a}, {b}, {c};", |a, b, c| ((a * b) >> 32) + c),
            ("mad.hi.s32 {d}, {a}, {b}, {c};", |a, b, c| {
                (((a as i32 as i64 * b as i32 as i64) >> 32) as u64).wrapping_add(c)
            }),
            ("mad.hi.sat.s32 {d}, {a}, {b}, {c};", |a, b, c| {
                let high = (a as i32 as i64 * b as i32 as i64) >> 32;
                (high + c as i32 as i64).clamp(i32::MIN.into(), i32::MAX.into()) as u64
            }),
            ("mul24.lo.u32 {d}, {a}, {b};", |a, b, _| (a & 0xff_ffff) * (b & 0xff_ffff)),
            ("mul24.hi.u32 {d}, {a}, {b};", |a, b, _| ((a & 0xff_ffff) * (b & 0xff_ffff)) >> 16),
            ("mul24.lo.s32 {d}, {a}, {b};", |a, b, _| (signed24(a) * signed24(b)) as u64),
            ("mul24.hi.s32 {d}, {a}, {b};", |a, b, _| ((signed24(a) * signed24(b)) >> 16) as u64),
            ("mad24.lo.u32 {d}, {a}, {b}, {c};", |a, b, c| ((a & 0xff_ffff) * (b & 0xff_ffff)).wrapping_add(c)),
            ("mad24.hi.s32 {d}, {a}, {b}, {c};", |a, b, c| {
                (((signed24(a) * signed24(b)) >> 16) as u64).wrapping_add(c)
            }),
            ("mad24.hi.sat.s32 {d}, {a}, {b}, {c};", |a, b, c| {
                let high = ((signed24(a) * signed24(b)) >> 16) as i32 as i64;
                (high + c as i32 as i64).clamp(i32::MIN.into(), i32::MAX.into()) as u64
            }),
            ("sad.u32 {d}, {a}, {b}, {c};", |a, b, c| a.abs_diff(b) + c),
            ("sad.s32 {d}, {a}, {b}, {c};", |a, b, c| (a as i32).abs_diff(b as i32) as u64 + c),
        ],
    );
}

#[test]
fn division_and_extremes_of_words() {
    check(
        [32; 4],
        &integers(),
        &[
            // By zero all bits are set; not by what the ISA says but by what hardware does.
            ("div.u32 {d}, {a}, {b};", |a, b, _| a.checked_div(b).unwrap_or(u64::MAX)),
            (
                "div.s32 {d}, {a}, {b};",
                |a, b, _| if b == 0 { u64::MAX } else { (a as i32 as i64 / b as i32 as i64) as u64 },
            ),
            ("rem.u32 {d}, {a}, {b};", |a, b, _| a.checked_rem(b).unwrap_or(u64::MAX)),
            (
                "rem.s32 {d}, {a}, {b};",
                |a, b, _| if b == 0 { u64::MAX } else { (a as i32 as i64 % b as i32 as i64) as u64 },
            ),
            ("abs.s32 {d}, {a};", |a, _, _| (a as i32 as i64).unsigned_abs()),
            ("neg.s32 {d}, {a};", |a, _, _| a.wrapping_neg()),
            ("min.u32 {d}, {a}, {b};", |a, b, _| a.min(b)),
            ("max.u32 {d}, {a}, {b};", |a, b, _| a.max(b)),
            ("min.s32 {d}, {a}, {b};", |a, b, _| (a as i32).min(b as i32) as u64),
            ("max.s32 {d}, {a}, {b};", |a, b, _| (a as i32).max(b as i32) as u64),
            ("max.s32.relu {d}, {a}, {b};", |a, b, _| (a as i32).max(b as i32).max(0) as u64),
            ("min.relu.s32 {d}, {a}, {b};", |a, b, _| (a as i32).min(b as i32).max(0) as u64),
        ],
    );
}

#[test]
fn packed_words_and_carries() {
    check(
        [32; 4],
        &integers(),
        &[
            ("add.u16x2 {d}, {a}, {b};", |a, b, _| pairs(a, b, |a, b| a.wrapping_add(b))),
            ("min.u16x2 {d}, {a}, {b};", |a, b, _| pairs(a, b, u16::min)),
            ("max.u16x2 {d}, {a}, {b};", |a, b, _| pairs(a, b, u16::max)),
            ("min.s16x2 {d}, {a}, {b};", |a, b, _| pairs(a, b, |a, b| (a as i16).min(b as i16) as u16)),
            ("max.s16x2 {d}, {a}, {b};", |a, b, _| pairs(a, b, |a, b| (a as i16).max(b as i16) as u16)),
            ("max.s16x2.relu {d}, {a}, {b};", |a, b, _| pairs(a, b, |a, b| (a as i16).max(b as i16).max(0) as u16)),
            ("dp4a.u32.u32 {d}, {a}, {b}, {c};", |a, b, c| bytes(a, b, false, false) as u64 + c),
            ("dp4a.s32.u32 {d}, {a}, {b}, {c};", |a, b, c| (bytes(a, b, true, false) as u64).wrapping_add(c)),
            ("dp4a.s32.s32 {d}, {a}, {b}, {c};", |a, b, c| (bytes(a, b, true, true) as u64).wrapping_add(c)),
            ("dp2a.lo.u32.u32 {d}, {a}, {b}, {c};", |a, b, c| {
                (a & 0xffff) * (b & 0xff) + (a >> 16) * (b >> 8 & 0xff) + c
            }),
            ("dp2a.hi.u32.u32 {d}, {a}, {b}, {c};", |a, b, c| {
                (a & 0xffff) * (b >> 16 & 0xff) + (a >> 16) * (b >> 24) + c
            }),
            ("add.cc.u32 {d}, {a}, {b}; addc.u32 {d}, 0, 0;", |a, b, _| (a + b) >> 32),
            ("add.cc.u32 {d}, {a}, {b}; addc.cc.u32 {d}, {c}, {b}; addc.u32 {d}, 7, 0;", |a, b, c| {
                ((((a + b) >> 32) + b + c) >> 32) + 7
            }),
            ("sub.cc.u32 {d}, {a}, {b}; subc.u32 {d}, {c}, 0;", |a, b, c| c.wrapping_sub(u64::from(a < b))),
            ("mad.lo.cc.u32 {d}, {a}, {b}, {c}; madc.hi.u32 {d}, {a}, {b}, {c};", |a, b, c| {
                ((((a * b) & 0xffff_ffff) + c) >> 32) + ((a * b) >> 32) + c
            }),
        ],
    );
}

fn signed24(x: u64) -> i64 {
    (x << 40) as i64 >> 40
}

fn pairs(a: u64, b: u64, f: impl Fn(u16, u16) -> u16) -> u64 {
    u64::from(f(a as u16, b as u16)) | u64::from(f((a >> 16) as u16, (b >> 16) as u16)) << 16
}

fn bytes(a: u64, b: u64, a_signed: bool, b_signed: bool) -> i64 {
    let byte = |x: u64, place: u32, signed: bool| {
        let byte = (x >> (8 * place)) as u8;
        if signed { i64::from(byte as i8) } else { i64::from(byte) }
    };
    (0..4).map(|place| byte(a, place, a_signed) * byte(b, place, b_signed)).sum()
}

#[test]
fn wide_products() {
    check(
        [64, 32, 32, 64],
        &integers(),
        &[
            ("mul.wide.u32 {d}, {a}, {b};", |a, b, _| a * b),
            ("mul.wide.s32 {d}, {a}, {b};", |a, b, _| (a as i32 as i64 * b as i32 as i64) as u64),
            ("mad.wide.u32 {d}, {a}, {b}, {c};", |a, b, c| (a * b).wrapping_add(c)),
            ("mad.wide.s32 {d}, {a}, {b}, {c};", |a, b, c| {
                ((a as i32 as i64 * b as i32 as i64) as u64).wrapping_add(c)
            }),
        ],
    );
    check(
        [32, 16, 16, 32],
        &integers(),
        &[
            ("mul.wide.u16 {d}, {a}, {b};", |a, b, _| a * b),
            ("mul.wide.s16 {d}, {a}, {b};", |a, b, _| (a as i16 as i64 * b as i16 as i64) as u64),
            ("mad.wide.u16 {d}, {a}, {b}, {c};", |a, b, c| a * b + c),
            ("mad.wide.s16 {d}, {a}, {b}, {c};", |a, b, c| {
                ((a as i16 as i64 * b as i16 as i64) as u64).wrapping_add(c)
            }),
        ],
    );
}

#[test]
fn double_words() {
    check(
        [64; 4],
        &integers(),
        &[
            ("add.s64 {d}, {a}, {b};", |a, b, _| a.wrapping_add(b)),
            ("sub.u64 {d}, {a}, {b};", |a, b, _| a.wrapping_sub(b)),
            ("mul.lo.u64 {d}, {a}, {b};", |a, b, _| a.wrapping_mul(b)),
            ("mul.hi.u64 {d}, {a}, {b};", |a, b, _| ((u128::from(a) * u128::from(b)) >> 64) as u64),
            ("mul.hi.s64 {d}, {a}, {b};", |a, b, _| ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64),
            ("mad.lo.s64 {d}, {a}, {b}, {c};", |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
            ("mad.hi.u64 {d}, {a}, {b}, {c};", |a, b, c| {
                (((u128::from(a) * u128::from(b)) >> 64) as u64).wrapping_add(c)
            }),
            ("sad.s64 {d}, {a}, {b}, {c};", |a, b, c| (a as i64).abs_diff(b as i64).wrapping_add(c)),
            ("div.u64 {d}, {a}, {b};", |a, b, _| a.checked_div(b).unwrap_or(u64::MAX)),
            ("div.s64 {d}, {a}, {b};", |a, b, _| {
                if b == 0 { u64::MAX } else { (i128::from(a as i64) / i128::from(b as i64)) as u64 }
            }),
            ("rem.u64 {d}, {a}, {b};", |a, b, _| a.checked_rem(b).unwrap_or(u64::MAX)),
            ("rem.s64 {d}, {a}, {b};", |a, b, _| {
                if b == 0 { u64::MAX } else { (i128::from(a as i64) % i128::from(b as i64)) as u64 }
            }),
            ("abs.s64 {d}, {a};", |a, _, _| (a as i64).unsigned_abs()),
            ("neg.s64 {d}, {a};", |a, _, _| a.wrapping_neg()),
            ("min.s64 {d}, {a}, {b};", |a, b, _| (a as i64).min(b as i64) as u64),
            ("max.u64 {d}, {a}, {b};", |a, b, _| a.max(b)),
            ("add.cc.u64 {d}, {a}, {b}; addc.u64 {d}, {c}, 0;", |a, b, c| {
                c.wrapping_add(((u128::from(a) + u128::from(b)) >> 64) as u64)
            }),
            ("sub.cc.s64 {d}, {a}, {b}; subc.cc.s64 {d}, {c}, {a};", |a, b, c| {
                c.wrapping_sub(a).wrapping_sub(u64::from(a < b))
            }),
            ("mad.lo.cc.u64 {d}, {a}, {b}, {c}; madc.hi.u64 {d}, {a}, {b}, 0;", |a, b, c| {
                ((u128::from(a) * u128::from(b) + u128::from(c)) >> 64) as u64
            }),
        ],
    );
}

#[test]
fn half_words() {
    check(
        [16; 4],
        &integers(),
        &[
            ("add.u16 {d}, {a}, {b};", |a, b, _| a + b),
            ("sub.s16 {d}, {a}, {b};", |a, b, _| a.wrapping_sub(b)),
            ("mul.lo.u16 {d}, {a}, {b};", |a, b, _| a * b),
            ("mul.hi.u16 {d}, {a}, {b};", |a, b, _| (a * b) >> 16),
            ("mul.hi.s16 {d}, {a}, {b};", |a, b, _| ((a as i16 as i64 * b as i16 as i64) >> 16) as u64),
            ("mad.lo.s16 {d}, {a}, {b}, {c};", |a, b, c| a * b + c),
            (
                "div.s16 {d}, {a}, {b};",
                |a, b, _| if b == 0 { u64::MAX } else { (a as i16 as i64 / b as i16 as i64) as u64 },
            ),
            ("rem.u16 {d}, {a}, {b};", |a, b, _| a.checked_rem(b).unwrap_or(u64::MAX)),
            ("abs.s16 {d}, {a};", |a, _, _| (a as i16 as i64).unsigned_abs()),
            ("neg.s16 {d}, {a};", |a, _, _| a.wrapping_neg()),
            ("min.s16 {d}, {a}, {b};", |a, b, _| (a as i16).min(b as i16) as u64),
            ("max.s16 {d}, {a}, {b};", |a, b, _| (a as i16).max(b as i16) as u64),
            ("sad.u16 {d}, {a}, {b}, {c};", |a, b, c| a.abs_diff(b) + c),
        ],
    );
}
