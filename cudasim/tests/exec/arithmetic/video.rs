//! Video instructions against the same written for one element at a time.

use super::{check, integers};

/// Byte or half-word `place` of the pair of words `[b:a]`.
fn element(a: u64, b: u64, bits: u64, place: u64, signed: bool) -> i64 {
    let cut = (b << 32 | a) >> (bits * place) & ((1 << bits) - 1);
    let sign = 1 << (bits - 1);
    if signed && cut & sign != 0 { cut as i64 - (1 << bits) } else { cut as i64 }
}

/// All elements of a and b, in their places, put together again.
fn each(a: u64, b: u64, bits: u64, signed: (bool, bool), f: impl Fn(i64, i64) -> i64) -> u64 {
    (0..32 / bits).fold(0, |all, i| {
        let value = f(element(a, 0, bits, i, signed.0), element(b, 0, bits, i, signed.1));
        all | (value as u64 & ((1 << bits) - 1)) << (bits * i)
    })
}

fn sum(a: u64, b: u64, bits: u64, signed: (bool, bool), f: impl Fn(i64, i64) -> i64) -> i64 {
    (0..32 / bits).map(|i| f(element(a, 0, bits, i, signed.0), element(b, 0, bits, i, signed.1))).sum()
}

const UNSIGNED: (bool, bool) = (false, false);
const SIGNED: (bool, bool) = (true, true);

fn average(a: i64, b: i64) -> i64 {
    // To the nearest; halves away from zero where the sum is positive, else down.
    let sum = a + b;
    if sum >= 0 { (sum + 1).div_euclid(2) } else { sum.div_euclid(2) }
}

fn word(x: u64) -> i64 {
    i64::from(x as u32 as i32)
}

#[test]
fn four_bytes() {
    check(
        [32; 4],
        &integers(),
        &[
            ("vadd4.u32.u32.u32 {d}, {a}, {b}, {c};", |a, b, _| each(a, b, 8, UNSIGNED, |a, b| a + b)),
            ("vadd4.u32.u32.u32.sat {d}, {a}, {b}, {c};", |a, b, _| each(a, b, 8, UNSIGNED, |a, b| (a + b).min(255))),
            ("vadd4.s32.s32.s32.sat {d}, {a}, {b}, {c};", |a, b, _| {
                each(a, b, 8, SIGNED, |a, b| (a + b).clamp(-128, 127))
            }),
            ("vsub4.u32.u32.u32.sat {d}, {a}, {b}, {c};", |a, b, _| each(a, b, 8, UNSIGNED, |a, b| (a - b).max(0))),
            ("vsub4.s32.u32.s32.sat {d}, {a}, {b}, {c};", |a, b, _| {
                each(a, b, 8, (false, true), |a, b| (a - b).clamp(-128, 127))
            }),
            ("vavrg4.u32.u32.u32 {d}, {a}, {b}, {c};", |a, b, _| each(a, b, 8, UNSIGNED, average)),
            ("vavrg4.s32.s32.s32 {d}, {a}, {b}, {c};", |a, b, _| each(a, b, 8, SIGNED, average)),
            ("vabsdiff4.u32.u32.u32 {d}, {a}, {b}, {c};", |a, b, _| each(a, b, 8, UNSIGNED, |a, b| (a - b).abs())),
            ("vabsdiff4.s32.s32.s32.sat {d}, {a}, {b}, {c};", |a, b, _| {
                each(a, b, 8, SIGNED, |a, b| (a - b).abs().min(127))
            }),
            ("vmin4.s32.s32.s32 {d}, {a}, {b}, {c};", |a, b, _| each(a, b, 8, SIGNED, i64::min)),
            ("vmax4.u32.u32.u32 {d}, {a}, {b}, {c};", |a, b, _| each(a, b, 8, UNSIGNED, i64::max)),
            ("vset4.u32.u32.lt {d}, {a}, {b}, {c};", |a, b, _| each(a, b, 8, UNSIGNED, |a, b| i64::from(a < b))),
            ("vset4.s32.u32.ge {d}, {a}, {b}, {c};", |a, b, _| each(a, b, 8, (true, false), |a, b| i64::from(a >= b))),
            // Sums over the bytes: the sum of absolute differences of codecs.
            ("vabsdiff4.u32.u32.u32.add {d}, {a}, {b}, {c};", |a, b, c| {
                c.wrapping_add(sum(a, b, 8, UNSIGNED, |a, b| (a - b).abs()) as u64)
            }),
            ("vsub4.s32.s32.s32.add {d}, {a}, {b}, {c};", |a, b, c| {
                c.wrapping_add(sum(a, b, 8, SIGNED, |a, b| a - b) as u64)
            }),
            ("vset4.s32.s32.ne.add {d}, {a}, {b}, {c};", |a, b, c| {
                c.wrapping_add(sum(a, b, 8, SIGNED, |a, b| i64::from(a != b)) as u64)
            }),
        ],
    );
}

#[test]
fn selected_and_masked_bytes() {
    check(
        [32; 4],
        &integers(),
        &[
            ("vadd4.u32.u32.u32 {d}.b20, {a}, {b}, {c};", |a, b, c| {
                let all = each(a, b, 8, UNSIGNED, |a, b| a + b);
                all & 0x00ff_00ff | c & 0xff00_ff00
            }),
            ("vabsdiff4.u32.u32.u32.add {d}.b31, {a}, {b}, {c};", |a, b, c| {
                let of = |i| (element(a, 0, 8, i, false) - element(b, 0, 8, i, false)).unsigned_abs();
                c + of(1) + of(3)
            }),
            // A from the bytes of both words, B reversed.
            ("vsub4.s32.s32.u32.sat {d}, {a}.b7351, {b}.b4567, {c};", |a, b, _| {
                let from = [(1, 7), (5, 6), (3, 5), (7, 4)];
                from.iter().enumerate().fold(0, |all, (i, &(x, y))| {
                    let value = element(a, b, 8, x, true) - element(a, b, 8, y, false);
                    all | (value.clamp(-128, 127) as u64 & 255) << (8 * i)
                })
            }),
            ("vmax2.s32.s32.s32 {d}.h1, {a}.h30, {b}.h12, {c};", |a, b, c| {
                let value = element(a, b, 16, 3, true).max(element(a, b, 16, 1, true));
                c & 0xffff | (value as u64 & 0xffff) << 16
            }),
        ],
    );
}

#[test]
fn two_half_words() {
    check(
        [32; 4],
        &integers(),
        &[
            ("vadd2.s32.s32.s32.sat {d}, {a}, {b}, {c};", |a, b, _| {
                each(a, b, 16, SIGNED, |a, b| (a + b).clamp(-32768, 32767))
            }),
            ("vadd2.u32.u32.u32 {d}, {a}, {b}, {c};", |a, b, _| each(a, b, 16, UNSIGNED, |a, b| a + b)),
            ("vsub2.u32.u32.u32.sat {d}, {a}, {b}, {c};", |a, b, _| each(a, b, 16, UNSIGNED, |a, b| (a - b).max(0))),
            ("vavrg2.u32.u32.u32 {d}, {a}, {b}, {c};", |a, b, _| each(a, b, 16, UNSIGNED, average)),
            ("vavrg2.s32.s32.s32 {d}, {a}, {b}, {c};", |a, b, _| each(a, b, 16, SIGNED, average)),
            ("vabsdiff2.s32.s32.s32 {d}, {a}, {b}, {c};", |a, b, _| each(a, b, 16, SIGNED, |a, b| (a - b).abs())),
            ("vabsdiff2.s32.u32.u32.add {d}, {a}, {b}, {c};", |a, b, c| {
                c.wrapping_add(sum(a, b, 16, UNSIGNED, |a, b| (a - b).abs()) as u64)
            }),
            ("vmin2.u32.u32.u32 {d}, {a}, {b}, {c};", |a, b, _| each(a, b, 16, UNSIGNED, i64::min)),
            ("vmax2.s32.s32.s32.add {d}, {a}, {b}, {c};", |a, b, c| {
                c.wrapping_add(sum(a, b, 16, SIGNED, i64::max) as u64)
            }),
            ("vset2.s32.s32.gt {d}, {a}, {b}, {c};", |a, b, _| each(a, b, 16, SIGNED, |a, b| i64::from(a > b))),
            ("vset2.u32.u32.eq.add {d}, {a}, {b}, {c};", |a, b, c| {
                c.wrapping_add(sum(a, b, 16, UNSIGNED, |a, b| i64::from(a == b)) as u64)
            }),
        ],
    );
}

#[test]
fn scalars() {
    check(
        [32; 4],
        &integers(),
        &[
            ("vadd.u32.u32.u32 {d}, {a}, {b};", |a, b, _| a + b),
            ("vadd.s32.s32.s32.sat {d}, {a}, {b};", |a, b, _| {
                (word(a) + word(b)).clamp(i32::MIN.into(), i32::MAX.into()) as u64
            }),
            ("vadd.u32.s32.u32.sat {d}, {a}.b2, {b}.h1;", |a, b, _| {
                (element(a, 0, 8, 2, true) + element(b, 0, 16, 1, false)).max(0) as u64
            }),
            ("vsub.s32.u32.u32.sat {d}, {a}, {b};", |a, b, _| {
                (a as i64 - b as i64).clamp(i32::MIN.into(), i32::MAX.into()) as u64
            }),
            ("vsub.s32.s32.s32.sat.add {d}, {a}.h0, {b}.h1, {c};", |a, b, c| {
                c.wrapping_add((element(a, 0, 16, 0, true) - element(b, 0, 16, 1, true)) as u64)
            }),
            ("vabsdiff.u32.u32.u32 {d}, {a}, {b};", |a, b, _| a.abs_diff(b)),
            ("vabsdiff.u32.u32.u32.add {d}, {a}.b0, {b}.b3, {c};", |a, b, c| {
                c + element(a, 0, 8, 0, false).abs_diff(element(b, 0, 8, 3, false))
            }),
            ("vmin.s32.s32.s32 {d}, {a}, {b};", |a, b, _| word(a).min(word(b)) as u64),
            ("vmin.s32.s32.s32.max {d}, {a}, {b}, {c};", |a, b, c| word(a).min(word(b)).max(word(c)) as u64),
            ("vmax.u32.u32.u32.min {d}, {a}, {b}, {c};", |a, b, c| a.max(b).min(c)),
            // Parts of the result.
            ("vadd.u32.u32.u32.sat {d}.b1, {a}.b3, {b}.b3, {c};", |a, b, c| {
                c & 0xffff_00ff | ((a >> 24) + (b >> 24)).min(255) << 8
            }),
            ("vsub.s32.s32.s32.sat {d}.h1, {a}, {b}, {c};", |a, b, c| {
                c & 0xffff | ((word(a) - word(b)).clamp(-32768, 32767) as u64 & 0xffff) << 16
            }),
            ("vmax.u32.u32.u32 {d}.h0, {a}.h0, {b}.h0, {c};", |a, b, c| c & 0xffff_0000 | (a & 0xffff).max(b & 0xffff)),
            ("vshl.u32.u32.u32.clamp {d}, {a}, {b};", |a, b, _| a << b.min(32)),
            ("vshl.u32.u32.u32.sat.clamp {d}, {a}, {b};", |a, b, _| (a << b.min(32)).min(u32::MAX.into())),
            ("vshl.u32.u32.u32.wrap.add {d}, {a}, {b}, {c};", |a, b, c| (a << (b & 31)).wrapping_add(c)),
            ("vshr.s32.s32.u32.clamp {d}, {a}, {b};", |a, b, _| (word(a) >> b.min(32)) as u64),
            ("vshr.u32.u32.u32.wrap.max {d}, {a}.h1, {b}.b0, {c};", |a, b, c| (a >> 16 >> (b & 31)).max(c)),
            ("vset.s32.s32.lt {d}, {a}, {b};", |a, b, _| u64::from(word(a) < word(b))),
            ("vset.u32.s32.ge.add {d}, {a}, {b}, {c};", |a, b, c| c + u64::from(a as i64 >= word(b))),
            ("vset.u32.u32.ne {d}.b2, {a}.b0, {b}.b0, {c};", |a, b, c| {
                c & 0xff00_ffff | u64::from((a ^ b) & 255 != 0) << 16
            }),
        ],
    );
}

#[test]
fn multiply_add() {
    check(
        [32; 4],
        &integers(),
        &[
            ("vmad.u32.u32.u32 {d}, {a}, {b}, {c};", |a, b, c| (a * b).wrapping_add(c)),
            ("vmad.s32.s32.u32 {d}, {a}.h0, {b}.b3, {c};", |a, b, c| {
                (element(a, 0, 16, 0, true) * element(b, 0, 8, 3, false)).wrapping_add(word(c)) as u64
            }),
            ("vmad.u32.u32.u32.sat {d}, {a}, {b}, {c};", |a, b, c| {
                (u128::from(a) * u128::from(b) + u128::from(c)).min(u32::MAX.into()) as u64
            }),
            ("vmad.s32.s32.s32.sat.shr7 {d}, {a}, {b}, {c};", |a, b, c| {
                let sum = i128::from(word(a)) * i128::from(word(b)) + i128::from(word(c));
                (sum >> 7).clamp(i32::MIN.into(), i32::MAX.into()) as u64
            }),
            ("vmad.u32.u32.u32.shr15 {d}, {a}, {b}, {c};", |a, b, c| {
                ((u128::from(a) * u128::from(b) + u128::from(c)) >> 15) as u64
            }),
            ("vmad.u32.u32.u32.po.shr7 {d}, {a}.b1, {b}.b1, {c};", |a, b, c| {
                ((a >> 8 & 255) * (b >> 8 & 255) + c + 1) >> 7
            }),
            ("vmad.s32.u32.u32.sat {d}, -{a}, {b}, {c};", |a, b, c| {
                let sum = i128::from(word(c)) - i128::from(a) * i128::from(b);
                sum.clamp(i32::MIN.into(), i32::MAX.into()) as u64
            }),
            ("vmad.s32.s32.s32 {d}, {a}, -{b}.h1, {c};", |a, b, c| {
                word(c).wrapping_sub(word(a) * element(b, 0, 16, 1, true)) as u64
            }),
            ("vmad.s32.s32.s32.sat {d}, {a}, {b}, -{c};", |a, b, c| {
                let sum = i128::from(word(a)) * i128::from(word(b)) - i128::from(word(c));
                sum.clamp(i32::MIN.into(), i32::MAX.into()) as u64
            }),
        ],
    );
}
