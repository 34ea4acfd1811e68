//! `min`, `max` and the sign and class instructions, every edge against every edge.

use cudasim::numerics::minmax::*;
use cudasim::numerics::{NAN_F16, NAN_F32, NAN_F64, flush_f32};

use crate::exact::{edges_f32, edges_f64};

/// The ISA's pseudo-code for two f32, on values.
fn expected(how: Select, a: f32, b: f32) -> f32 {
    let flush = |x| if how.ftz { flush_f32(x) } else { x };
    let (mut a, mut b) = (flush(a), flush(b));
    let negative = a.is_sign_negative() != b.is_sign_negative();

    if how.xorsign_abs {
        (a, b) = (a.abs(), b.abs());
    }

    let nan = f32::from_bits(NAN_F32);
    let result = if a.is_nan() && b.is_nan() || how.nan && (a.is_nan() || b.is_nan()) {
        return nan;
    } else if a.is_nan() {
        b
    } else if b.is_nan() {
        a
    } else {
        // total_cmp orders -0 below +0, as PTX does.
        let (low, high) = if a.total_cmp(&b).is_lt() { (a, b) } else { (b, a) };
        if how.max { high } else { low }
    };

    match (how.xorsign_abs, negative) {
        (false, _) => result,
        (true, false) => result.abs(),
        (true, true) => -result.abs(),
    }
}

fn every_modifier() -> impl Iterator<Item = Select> {
    (0..16).map(|i| Select { max: i & 1 != 0, ftz: i & 2 != 0, nan: i & 4 != 0, xorsign_abs: i & 8 != 0 })
}

#[test]
fn f32_as_the_isa_words_it() {
    let edges = edges_f32();
    for how in every_modifier() {
        for &a in &edges {
            for &b in &edges {
                let result = select_f32(how, a.to_bits(), b.to_bits());
                assert_eq!(result, expected(how, a, b).to_bits(), "{how:?} {a:e} {b:e}");
            }
        }
    }
}

#[test]
fn the_other_formats_order_alike() {
    // Encodings of the same classes in each format: order and NaN handling must agree with f32's.
    let f32s = [0_u32, 1, 0x0080_0000, 0x3f80_0000, 0x7f7f_ffff, 0x7f80_0000, 0x7fc0_0000, 0x7f80_0001];
    let f64s = [0_u64, 1, 1 << 52, 1023 << 52, (0x7ff << 52) - 1, 0x7ff << 52, 0x7ff8 << 48, (0x7ff << 52) + 1];
    let f16s = [0_u16, 1, 0x0400, 0x3c00, 0x7bff, 0x7c00, 0x7e00, 0x7c01];
    let bf16s = [0_u16, 1, 0x0080, 0x3f80, 0x7f7f, 0x7f80, 0x7fc0, 0x7f81];

    for how in every_modifier() {
        for i in 0..16 {
            for j in 0..16 {
                let (i_sign, j_sign) = (i >= 8, j >= 8);
                let (i, j) = (i % 8, j % 8);
                let expected = select_f32(how, f32s[i] | u32::from(i_sign) << 31, f32s[j] | u32::from(j_sign) << 31);
                let class = f32s.iter().position(|&x| x == expected & 0x7fff_ffff);
                let negative = expected >> 31 != 0;
                let wide = select_f64(how, f64s[i] | u64::from(i_sign) << 63, f64s[j] | u64::from(j_sign) << 63);
                let half = select_f16(how, f16s[i] | u16::from(i_sign) << 15, f16s[j] | u16::from(j_sign) << 15);
                let brain = select_bf16(how, bf16s[i] | u16::from(i_sign) << 15, bf16s[j] | u16::from(j_sign) << 15);
                match class {
                    None => {
                        assert_eq!(expected, NAN_F32);
                        assert_eq!((wide, half, brain), (NAN_F64, NAN_F16, NAN_F16));
                    }
                    Some(class) => {
                        assert_eq!(wide, f64s[class] | u64::from(negative) << 63, "{how:?}");
                        assert_eq!(half, f16s[class] | u16::from(negative) << 15, "{how:?}");
                        assert_eq!(brain, bf16s[class] | u16::from(negative) << 15, "{how:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn three_operands() {
    let (one, two, minus_three, nan) = (1_f32.to_bits(), 2_f32.to_bits(), (-3_f32).to_bits(), f32::NAN.to_bits());
    let propagate = Select { nan: true, ..Select::MAX };
    assert_eq!(select3_f32(Select::MAX, false, one, minus_three, two), two);
    assert_eq!(select3_f32(Select::MIN, false, one, minus_three, two), minus_three);
    assert_eq!(select3_f32(Select::MAX, true, one, minus_three, two), 3_f32.to_bits());
    assert_eq!(select3_f32(Select::MAX, false, nan, nan, two), two);
    assert_eq!(select3_f32(propagate, false, one, two, nan), NAN_F32);
    assert_eq!(select3_f32(propagate, false, nan, one, two), NAN_F32);
    assert_eq!(select3_f64(Select::MAX, true, 5_f64.to_bits(), (-6_f64).to_bits(), 0), 6_f64.to_bits());
    assert_eq!(select3_f16(Select::MIN, false, 0x0000, 0x8000, 0x3c00), 0x8000);
    assert_eq!(select3_bf16(Select::MAX, false, 0x8000, 0x0000, 0xbf80), 0x0000);
}

#[test]
fn signs() {
    for a in edges_f32().into_iter().map(f32::to_bits) {
        let subnormal = f32::from_bits(a).is_subnormal();
        assert_eq!(abs_f32(false, a), a & 0x7fff_ffff);
        assert_eq!(neg_f32(false, a), a ^ 0x8000_0000);
        assert_eq!(abs_f32(true, a), if subnormal { 0 } else { a & 0x7fff_ffff });
        assert_eq!(neg_f32(true, a), if subnormal { !a & 0x8000_0000 } else { a ^ 0x8000_0000 });
        for b in edges_f32() {
            let result = f32::from_bits(copysign_f32(a, b.to_bits()));
            assert_eq!(result.to_bits(), b.copysign(f32::from_bits(a)).to_bits());
        }
    }
    for a in edges_f64() {
        assert_eq!(abs_f64(a.to_bits()), a.abs().to_bits());
        assert_eq!(neg_f64(a.to_bits()), (-a).to_bits());
        assert_eq!(copysign_f64(a.to_bits(), 2_f64.to_bits()), 2_f64.copysign(a).to_bits());
    }
    assert_eq!((abs_f16(0xfc00), neg_f16(0x0001)), (0x7c00, 0x8001));
}

#[test]
fn properties() {
    use Property::{Finite, Infinite, Normal, NotANumber, Number, Subnormal};
    // Rows: value, then finite, infinite, number, notanumber, normal, subnormal. Zeros count as normal.
    for (x, row) in [
        (0.0, [true, false, true, false, true, false]),
        (-0.0, [true, false, true, false, true, false]),
        (1.5, [true, false, true, false, true, false]),
        (-1e-45, [true, false, true, false, false, true]),
        (f32::NEG_INFINITY, [false, true, true, false, false, false]),
        (f32::NAN, [false, false, false, true, false, false]),
    ] {
        for (property, expected) in [Finite, Infinite, Number, NotANumber, Normal, Subnormal].into_iter().zip(row) {
            assert_eq!(testp_f32(property, x), expected, "{property:?} {x}");
            let wide = if x == -1e-45 { -5e-324 } else { f64::from(x) };
            assert_eq!(testp_f64(property, wide), expected, "{property:?}.f64 {wide}");
        }
    }
}

#[test]
fn integers() {
    assert_eq!(select_s32(true, false, -5, -3), -3);
    assert_eq!(select_s32(true, true, -5, -3), 0);
    assert_eq!(select_s32(false, true, 5, 3), 3);
    assert_eq!(select_s16x2(true, false, 0x8000_0001, 0x7fff_ffff), 0x7fff_0001);
    assert_eq!(select_s16x2(false, false, 0x8000_0001, 0x7fff_ffff), 0x8000_ffff);
    assert_eq!(select_s16x2(false, true, 0x8000_0001, 0x7fff_ffff), 0);
    assert_eq!(select_u16x2(true, 0x8000_0001, 0x7fff_ffff), 0x8000_ffff);
    assert_eq!(select_u16x2(false, 0x8000_0001, 0x7fff_ffff), 0x7fff_0001);
}
