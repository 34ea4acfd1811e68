//! f16 and bf16 arithmetic: rounded once from the exact value, checked by exact signs against the neighbours.

use std::cmp::Ordering::{Equal, Greater, Less};

use cudasim::numerics::formats::{bf16_to_f32, f16_to_f32};
use cudasim::numerics::fp16x2::*;
use cudasim::numerics::{NAN_F16, flush_f16};

use crate::exact::{Bits, sign_of};

/// Checks that `result` is `a·b + c` to nearest even, where `decode` and `infinity` are those of the format.
fn check_nearest(decode: fn(u16) -> f32, infinity: u16, result: u16, a: f64, b: f64, c: f64) {
    let what = format!("{a:e} * {b:e} + {c:e} = {result:#x}");
    let exact = sign_of(&[(a, b), (c, 1.0)]);
    let (magnitude, negative) = (result & 0x7fff, result & 0x8000 != 0);

    assert!(exact == Equal || negative == (exact == Less), "sign of {what}");
    assert!(magnitude <= infinity, "{what}");
    let sign = if negative { -1.0 } else { 1.0 };

    // Twice the exact magnitude against the sum of two neighbours' magnitudes.
    let against = |x: f64, y: f64| sign_of(&[(a, 2.0 * b * sign), (c, 2.0 * sign), (x, -1.0), (y, -1.0)]);
    let value = |bits: u16| {
        // Overflow begins where the next number would be.
        if bits == infinity { 2.0 * f64::from(decode(infinity & (infinity << 1))) } else { decode(bits).into() }
    };

    if magnitude > 0 {
        let below = against(value(magnitude - 1), value(magnitude));
        assert!(below == Greater || below == Equal && magnitude & 1 == 0, "{what} is too large");
    } else {
        assert!(exact == Equal || against(0.0, 0.0) == Greater, "{what}");
    }

    if magnitude < infinity {
        let above = against(value(magnitude), value(magnitude + 1));
        assert!(above == Less || above == Equal && magnitude & 1 == 0, "{what} is too small");
    }
}

/// Random finite operands, close enough in size for their sums to matter, and far apart.
fn operands(bits: &mut Bits, infinity: u16) -> [u16; 3] {
    std::array::from_fn(|_| {
        loop {
            let x = bits.next() as u16;
            let x = if bits.next().is_multiple_of(3) { x & 0xfff0 } else { x };
            if x & 0x7fff < infinity {
                return x;
            }
        }
    })
}

#[test]
fn f16_is_rounded_once() {
    let mut bits = Bits(4);
    let plain = Half::default();
    for _ in 0..60_000 {
        let [a, b, c] = operands(&mut bits, 0x7c00);
        let [x, y, z] = [a, b, c].map(|x| f64::from(f16_to_f32(x)));
        check_nearest(f16_to_f32, 0x7c00, add_f16(plain, a, b), x, 1.0, y);
        check_nearest(f16_to_f32, 0x7c00, sub_f16(plain, a, b), x, 1.0, -y);
        check_nearest(f16_to_f32, 0x7c00, mul_f16(plain, a, b), x, y, 0.0);
        check_nearest(f16_to_f32, 0x7c00, fma_f16(plain, a, b, c), x, y, z);
    }
}

#[test]
fn bf16_is_rounded_once() {
    let mut bits = Bits(5);
    for _ in 0..60_000 {
        let [a, b, c] = operands(&mut bits, 0x7f80);
        let [x, y, z] = [a, b, c].map(|x| f64::from(bf16_to_f32(x)));
        check_nearest(bf16_to_f32, 0x7f80, add_bf16(a, b), x, 1.0, y);
        check_nearest(bf16_to_f32, 0x7f80, sub_bf16(a, b), x, 1.0, -y);
        check_nearest(bf16_to_f32, 0x7f80, mul_bf16(a, b), x, y, 0.0);
        check_nearest(bf16_to_f32, 0x7f80, fma_bf16(false, a, b, c), x, y, z);
    }
}

#[test]
fn a_tie_is_decided_by_an_addend_that_f64_cannot_hold() {
    let [seven, nine, twenty_nine, thirty_seven] = [0x40e0, 0x4110, 0x41e8, 0x4214];
    let [of_258, of_260, of_262] = [0x4381, 0x4382, 0x4383];
    let (tiny, minus_tiny) = (0x0001, 0x8001);
    // 259 lies halfway between 258 and 260, 261 between 260 and 262; 260 has the even significand.
    for (c, expected) in [(0, of_260), (tiny, of_260), (minus_tiny, of_258)] {
        assert_eq!(fma_bf16(false, seven, thirty_seven, c), expected, "259 + {c:#x}");
    }
    for (c, expected) in [(0, of_260), (tiny, of_262), (minus_tiny, of_260)] {
        assert_eq!(fma_bf16(false, nine, twenty_nine, c), expected, "261 + {c:#x}");
    }
}

#[test]
fn products_of_bf16_that_underflow() {
    // Every pair of significands, with exponents that put the product around the smallest subnormals.
    for a in 0x3f80..=0x3fff_u16 {
        for b in 0x0080..=0x00ff_u16 {
            for scale in [4, 6, 7, 8] {
                let a = a - (scale << 7);
                let (x, y) = (f64::from(bf16_to_f32(a)), f64::from(bf16_to_f32(b)));
                check_nearest(bf16_to_f32, 0x7f80, mul_bf16(a, b), x, y, 0.0);
            }
        }
    }
}

#[test]
fn modifiers() {
    let (relu, sat) = (Half { relu: true, ..Half::default() }, Half { sat: true, ..Half::default() });
    let ftz = Half { ftz: true, ..Half::default() };
    let one = 0x3c00;

    assert_eq!(fma_f16(relu, one, 0xbc00, 0x0000), 0);
    assert_eq!(fma_f16(relu, one, 0x8000, 0x8000), 0);
    assert_eq!(fma_f16(relu, one, 0x7e01, 0x0000), NAN_F16);
    assert_eq!(fma_bf16(true, 0x3f80, 0xbf80, 0x0000), 0);
    assert_eq!(fma_bf16(true, 0x3f80, 0x4000, 0x3f80), 0x4040);
    assert_eq!(add_f16(sat, one, one), one);
    assert_eq!(add_f16(sat, 0xfc00, one), 0);
    assert_eq!(add_f16(sat, 0x7e00, one), 0);
    assert_eq!(mul_f16(sat, 0x3800, 0x3800), 0x3400);
    assert_eq!(mul_f16(ftz, 0x8400, 0x3800), 0x8000);
    assert_eq!(mul_f16(Half::default(), 0x8400, 0x3800), 0x8200);
    assert_eq!(add_f16(ftz, 0x03ff, 0x0001), 0);
    assert_eq!((flush_f16(0x83ff), flush_f16(0x8400)), (0x8000, 0x8400));

    // Invalid operations, and infinities.
    assert_eq!(sub_f16(Half::default(), 0x7c00, 0x7c00), NAN_F16);
    assert_eq!(mul_bf16(0x7f80, 0x0000), NAN_F16);
    assert_eq!(fma_f16(Half::default(), 0x7c00, 0xbc00, 0x7bff), 0xfc00);
    assert_eq!(add_bf16(0xff80, 0x7f7f), 0xff80);
    assert_eq!(add_f16(Half::default(), one, 0xbc00), 0);
    assert_eq!(add_bf16(0x8000, 0x8000), 0x8000);
}

#[test]
fn halves_stay_in_their_places() {
    let plain = Half::default();
    // (1, 2) + (3, 0.5), upper half first.
    assert_eq!(map2(0x3c00_4000, 0x4200_3800, |a, b| add_f16(plain, a, b)), 0x4400_4100);
    assert_eq!(map3(0x3f80_4000, 0x4000_4040, 0x0000_3f80, |a, b, c| fma_bf16(false, a, b, c)), 0x4000_40e0);
    assert_eq!(map1(0x8001_7fff, |x| x & 0x7fff), 0x0001_7fff);
    assert_eq!(pack(0x1234, 0xabcd), 0xabcd_1234);
}
