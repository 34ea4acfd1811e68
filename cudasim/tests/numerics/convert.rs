//! `cvt`: integers against wide arithmetic, floats against exact neighbours, packed forms by their places.

use cudasim::numerics::Rounding::{self, Rm, Rn, Rp, Rz};
use cudasim::numerics::convert::*;
use cudasim::numerics::formats::{Narrow, bf16_from_f64, f16_from_f32, f16_from_f64, f16_to_f32};
use cudasim::numerics::{Mode, NAN_F32, NAN_F64};

use crate::exact::{Bits, edges_f32, edges_f64};
use crate::rounding::MODES;

const INTS: [Int; 8] = [Int::s(8), Int::u(8), Int::s(16), Int::u(16), Int::s(32), Int::u(32), Int::s(64), Int::u(64)];

/// The range of a type.
fn range(int: Int) -> (i128, i128) {
    if int.signed { (-1 << (int.bits - 1), (1 << (int.bits - 1)) - 1) } else { (0, (1 << int.bits) - 1) }
}

/// The low bits as a value of the type.
fn value(int: Int, bits: u64) -> i128 {
    let low = i128::from(bits) & ((1 << int.bits) - 1);
    if low > range(int).1 { low - (1 << int.bits) } else { low }
}

/// Integers at and around every power of two, and random ones.
fn integers() -> Vec<u64> {
    let mut bits = Bits(7);
    let powers = (0..64)
        .flat_map(|i| [(1_u64 << i).wrapping_sub(1), 1 << i, (1 << i) + 1, !(1 << i), (1_u64 << i).wrapping_neg()]);
    powers.chain(std::iter::repeat_with(|| bits.next()).take(200)).collect()
}

#[test]
fn integers_to_integers() {
    for from in INTS {
        for to in INTS {
            let (low, high) = range(to);
            for x in integers() {
                let exact = value(from, x);
                assert_eq!(int_to_int(to, from, false, x), value(to, exact as u64) as u64, "{to:?} {from:?} {x:#x}");
                assert_eq!(int_to_int(to, from, true, x), exact.clamp(low, high) as u64, "{to:?} {from:?} {x:#x} sat");
            }
        }
    }
}

/// The integer that a rounding names, for a magnitude that i128 holds with 40 bits of fraction to spare.
fn integral(rounding: Rounding, x: f64) -> i128 {
    let scaled = (x * 2_f64.powi(40)) as i128;
    let (floor, fraction) = (scaled >> 40, scaled & ((1 << 40) - 1));
    let half = 1 << 39;
    let up = match rounding {
        Rn => fraction > half || fraction == half && floor & 1 != 0,
        Rz => x < 0.0 && fraction != 0,
        Rm => false,
        Rp => fraction != 0,
    };
    floor + i128::from(up)
}

#[test]
fn floats_to_integers() {
    let mut bits = Bits(8);
    let near_powers = (-3..70).flat_map(|i| {
        let x = 2_f64.powi(i);
        [x, x.next_up(), x.next_down(), x + 0.5, x - 0.5, x + 0.25, x + 0.75, 1.5 * x, x - 1.0]
    });

    let random = std::iter::repeat_with(|| bits.f64()).filter(|x| x.abs() < 1e20 && x.abs() > 1e-9).take(2000);
    let operands: Vec<f64> = near_powers.chain(random).flat_map(|x| [x, -x]).collect();
    for to in INTS {
        let (low, high) = range(to);
        for &x in &operands {
            for rounding in MODES {
                // Multiples of 2^-40 only, which `integral` holds exactly.
                let x = (x * 2_f64.powi(40)).round() * 2_f64.powi(-40);
                let expected = integral(rounding, x).clamp(low, high) as u64;
                assert_eq!(f64_to_int(to, rounding, x), expected, "{to:?} {rounding:?} {x}");
                let narrow = x as f32;
                let expected = integral(rounding, narrow.into()).clamp(low, high) as u64;
                assert_eq!(f32_to_int(to, rounding, false, narrow), expected, "{to:?} {rounding:?} {narrow}");
            }
        }
        for rounding in MODES {
            assert_eq!(f32_to_int(to, rounding, true, f32::INFINITY), high as u64);
            assert_eq!(f64_to_int(to, rounding, f64::NEG_INFINITY), low as u64);
            assert_eq!(f16_to_int(to, rounding, 0xfc00), low as u64);
        }
    }
}

#[test]
fn nan_and_subnormals_to_integers() {
    // The ISA: 0 from f16 and f32 to at most 32 bits, else the bit pattern 1 << (bits - 1).
    for to in INTS {
        let smallest = if to.signed { range(to).0 as u64 } else { 1 << (to.bits - 1) };
        assert_eq!(f64_to_int(to, Rz, f64::NAN), smallest, "{to:?}");
        assert_eq!(f32_to_int(to, Rz, false, f32::NAN), if to.bits == 64 { smallest } else { 0 }, "{to:?}");
        assert_eq!(f16_to_int(to, Rz, 0x7e00), if to.bits == 64 { smallest } else { 0 }, "{to:?}");
    }
    let tiny = f32::from_bits(1);
    assert_eq!(f32_to_int(Int::s(32), Rp, false, tiny), 1);
    assert_eq!(f32_to_int(Int::s(32), Rp, true, tiny), 0);
    assert_eq!(f32_to_int(Int::s(32), Rm, false, -tiny), u64::MAX);
    assert_eq!(f16_to_int(Int::u(8), Rn, 0x4100), 2);
}

#[test]
fn integers_to_floats() {
    for from in INTS {
        for x in integers() {
            let exact = value(from, x);
            for rounding in MODES {
                // Each result against its neighbours, in integers: f32 and f64 this large are integers themselves.
                let narrow = int_to_f32(rounding, from, x);
                check(
                    rounding,
                    exact,
                    narrow.into(),
                    narrow.next_down().into(),
                    narrow.next_up().into(),
                    narrow.to_bits() & 1 == 0,
                );
                let wide = int_to_f64(rounding, from, x);
                check(rounding, exact, wide, wide.next_down(), wide.next_up(), wide.to_bits() & 1 == 0);
                // f64 holds 53 bits; more than that is far past what a tie of the small formats could see, except
                // through its low bits, which the rounding below keeps away from ties.
                if exact.unsigned_abs() < 1 << 53 {
                    let how = Narrow::of(rounding);
                    assert_eq!(int_to_f16(rounding, from, x), f16_from_f64(how, exact as f64), "{exact} {rounding:?}");
                    assert_eq!(
                        int_to_bf16(rounding, from, x),
                        bf16_from_f64(how, exact as f64),
                        "{exact} {rounding:?}"
                    );
                }
            }
        }
    }

    assert_eq!(int_to_f32(Rm, Int::s(32), 0).to_bits(), 0);
    assert_eq!((int_to_f16(Rn, Int::u(32), 65520), int_to_f16(Rz, Int::u(32), 65520)), (0x7c00, 0x7bff));
    // 2^56 + 2^48 is a tie of bf16, one more is not, and in f64 there is no difference.
    assert_eq!(int_to_bf16(Rn, Int::u(64), (1 << 56) + (1 << 48)), 0x5b80);
    assert_eq!(int_to_bf16(Rn, Int::u(64), (1 << 56) + (1 << 48) + 1), 0x5b81);
}

fn check(rounding: Rounding, exact: i128, result: f64, down: f64, up: f64, even: bool) {
    // Neighbours below 2^24 in f32 have fractions: then the result is exact, and truncation does not hurt.
    let (result, down, up) = (result as i128, down.floor() as i128, up.ceil() as i128);
    let right = result == exact
        || match rounding {
            Rm => result < exact && up > exact,
            Rp => result > exact && down < exact,
            Rz => result.abs() < exact.abs() && (result > exact || up > exact) && (result < exact || down < exact),
            Rn => {
                let other = if result < exact { up } else { down };
                let (near, far) = ((result - exact).abs(), (other - exact).abs());
                near < far || near == far && even
            }
        };
    assert!(right, "{exact} {rounding:?}: {result}");
}

#[test]
fn f64_to_f32_by_mode() {
    let mut bits = Bits(9);
    let edges = edges_f64().into_iter().chain(edges_f32().into_iter().map(f64::from));
    let in_range = std::iter::repeat_with(|| bits.f32()).take(20_000).flat_map(|x| {
        let (x, up) = (f64::from(x), f64::from(x.next_up()));
        [x, x.next_up(), x.next_down(), (x + up) / 2.0, ((x + up) / 2.0).next_up()]
    });

    for x in edges.chain(in_range) {
        let [near, zero, down, up] = MODES.map(|rounding| f64_to_f32(Mode::of(rounding), x));
        if x.is_nan() {
            assert_eq!([near, zero, down, up].map(f32::to_bits), [NAN_F32; 4]);
            continue;
        }
        // The nearest at or below, and the nearest at or above.
        assert!(f64::from(down) <= x && (f64::from(down.next_up()) > x || f64::from(down) == x), "{x:e} rm {down:e}");
        assert!(f64::from(up) >= x && (f64::from(up.next_down()) < x || f64::from(up) == x), "{x:e} rp {up:e}");
        assert_eq!(zero.to_bits(), if x.is_sign_negative() { up } else { down }.to_bits(), "{x:e} rz");
        assert_eq!(near.to_bits(), (x as f32).to_bits(), "{x:e} rn");
        assert_eq!(up.is_sign_negative(), x.is_sign_negative());
        assert_eq!(down.is_sign_negative(), x.is_sign_negative());
    }

    let ftz = Mode { ftz: true, ..Mode::of(Rp) };
    assert_eq!(f64_to_f32(ftz, 1e-40), 0.0);
    assert_eq!(f64_to_f32(Mode { sat: true, ..Mode::RN }, 1e300), 1.0);
    assert_eq!(f32_to_f64(true, false, f32::from_bits(0x8000_0001)).to_bits(), 1 << 63);
    assert_eq!(f32_to_f64(false, false, f32::from_bits(1)), 2_f64.powi(-149));
    assert_eq!(f32_to_f64(false, false, f32::NAN).to_bits(), NAN_F64);
    assert_eq!((f32_to_f64(false, true, -2.0), f32_to_f64(false, true, 7.0)), (0.0, 1.0));
}

#[test]
fn floats_to_integral_floats() {
    // Rows: value, then .rni, .rzi, .rmi, .rpi.
    for (x, row) in [
        (2.5, [2.0, 2.0, 2.0, 3.0]),
        (3.5, [4.0, 3.0, 3.0, 4.0]),
        (-2.5, [-2.0, -2.0, -3.0, -2.0]),
        (-0.3, [-0.0, -0.0, -1.0, -0.0]),
        (0.5, [0.0, 0.0, 0.0, 1.0]),
        (-0.0, [-0.0, -0.0, -0.0, -0.0]),
        (8_388_609.0, [8_388_609.0; 4]),
        (f32::INFINITY, [f32::INFINITY; 4]),
    ] {
        for (rounding, expected) in MODES.into_iter().zip(row) {
            assert_eq!(f32_to_f32(Some(rounding), false, false, x).to_bits(), expected.to_bits(), "{x} {rounding:?}");
            let wide = f64_to_f64(Some(rounding), false, x.into());
            assert_eq!(wide.to_bits(), f64::from(expected).to_bits(), "{x} {rounding:?}");
            let half = f16_to_f16(Some(rounding), false, f16_from_f32(Narrow::RN, x));
            assert_eq!(half, f16_from_f32(Narrow::RN, expected), "{x} {rounding:?}");
        }
    }

    let tiny = f32::from_bits(1);
    assert_eq!(f32_to_f32(Some(Rp), true, false, tiny), 0.0);
    assert_eq!(f32_to_f32(Some(Rp), false, false, tiny), 1.0);
    assert_eq!(f32_to_f32(None, true, false, -tiny).to_bits(), 0x8000_0000);
    assert_eq!(f32_to_f32(None, false, true, 1.5), 1.0);
    assert_eq!(f32_to_f32(None, false, true, f32::NAN).to_bits(), 0);
    assert_eq!(f32_to_f32(None, false, false, f32::from_bits(0xff80_0001)).to_bits(), NAN_F32);
    assert_eq!(f64_to_f64(None, true, -3.0).to_bits(), 0);
    assert_eq!(f16_to_f16(None, true, 0x4000), 0x3c00);
}

#[test]
fn packed_places() {
    let rn = Narrow::RN;
    let relu = Narrow { relu: true, ..rn };

    // cvt.rn.bf16x2.f32 d, a, b: a above.
    assert_eq!(bf16x2_from_f32(rn, 1.0, -2.0), 0x3f80_c000);
    assert_eq!(bf16x2_from_f32(relu, 1.0, -2.0), 0x3f80_0000);
    assert_eq!(f16x2_from_f32(rn, 1.0, -2.0), 0x3c00_c000);
    assert_eq!(f16x2_from_f32(Narrow { satfinite: true, ..rn }, 1e6, -1e6), 0x7bff_fbff);
    assert_eq!(e4m3x2_from_f32(rn, 1.0, -2.0), 0x38c0);
    assert_eq!(e5m2x2_from_f32(rn, 1.0, -2.0), 0x3cc0);
    assert_eq!(e2m1x2_from_f32(rn, 1.0, -2.0), 0x2c);
    assert_eq!(ue8m0x2_from_f32(false, true, 1.0, 3.0), 0x7f80);
    assert_eq!(ue8m0x2_from_f32(true, true, 1.0, 3.0), 0x7f81);
    assert_eq!(e4m3x2_from_f16x2(rn, 0x3c00_c000), 0x38c0);
    assert_eq!(e5m2x2_from_f16x2(relu, 0x3c00_c000), 0x3c00);
    assert_eq!(f16x2_from_e4m3x2(false, 0x38c0), 0x3c00_c000);
    assert_eq!(f16x2_from_e5m2x2(true, 0x3cc0), 0x3c00_0000);
    assert_eq!(f16x2_from_e2m1x2(false, 0x2c), 0x3c00_c000);
    assert_eq!(bf16x2_from_ue8m0x2(0x7f00), 0x3f80_0040);
    assert_eq!(f16_to_f32(f16x2_from_e4m3x2(false, 0x0001) as u16), 2_f32.powi(-9));
    assert_eq!(bf16_to_f32(0x7f81).to_bits(), NAN_F32);
}

#[test]
fn integer_packing() {
    for (to, a, b, c, expected) in [
        (Int::s(16), 70_000, -70_000, 0, 0x7fff_8000),
        (Int::u(16), 70_000, -1, 0xffff, 0xffff_0000),
        (Int::s(8), 200, -200, 0x1234, 0x1234_7f80),
        (Int::u(8), 200, -200, 0xabcd_1234, 0x1234_c800),
        (Int::s(4), 9, -9, 0x1, 0x178),
        (Int::u(4), 20, 3, 0xff, 0xfff3),
        (Int::s(2), 5, -5, 0x3, 0x36),
        (Int::u(2), 2, 9, 0, 0xb),
    ] {
        assert_eq!(pack(to, a, b, c), expected, "{to:?} {a} {b} {c:#x}");
    }
}
