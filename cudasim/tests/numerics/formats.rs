//! The small formats: every value decodes to what its fields say, and every gap between neighbours rounds as it must.

use cudasim::numerics::Rounding::{self, Rm, Rn, Rp, Rz};
use cudasim::numerics::formats::*;
use cudasim::numerics::{NAN_F16, NAN_F32};

use crate::exact::{Bits, edges_f32};
use crate::rounding::MODES;

/// A format under test: encodings without sign, lowest first, and the functions.
struct Format {
    name: &'static str,
    exponent_bits: u32,
    fraction_bits: u32,
    /// The largest finite encoding.
    largest: u32,
    /// What overflow gives in modes that round away from zero.
    infinity: u32,
    decode: fn(u32) -> f64,
    encode: fn(Narrow, f64) -> u32,
}

const FORMATS: [Format; 6] = [
    Format {
        name: "f16",
        exponent_bits: 5,
        fraction_bits: 10,
        largest: 0x7bff,
        infinity: 0x7c00,
        decode: |x| f16_to_f32(x as u16).into(),
        encode: |how, x| f16_from_f64(how, x).into(),
    },
    Format {
        name: "bf16",
        exponent_bits: 8,
        fraction_bits: 7,
        largest: 0x7f7f,
        infinity: 0x7f80,
        decode: |x| bf16_to_f32(x as u16).into(),
        encode: |how, x| bf16_from_f64(how, x).into(),
    },
    Format {
        name: "tf32",
        exponent_bits: 8,
        fraction_bits: 10,
        largest: 0x3fbff,
        infinity: 0x3fc00,
        decode: |x| tf32_to_f32(x << 13 | 0x1abc).into(),
        encode: |how, x| tf32_from_f32(how, x as f32) >> 13,
    },
    Format {
        name: "e4m3",
        exponent_bits: 4,
        fraction_bits: 3,
        largest: 0x7e,
        infinity: 0x7e,
        decode: |x| e4m3_to_f32(x as u8).into(),
        encode: |how, x| e4m3_from_f64(how, x).into(),
    },
    Format {
        name: "e5m2",
        exponent_bits: 5,
        fraction_bits: 2,
        largest: 0x7b,
        infinity: 0x7c,
        decode: |x| e5m2_to_f32(x as u8).into(),
        encode: |how, x| e5m2_from_f64(how, x).into(),
    },
    Format {
        name: "e2m1",
        exponent_bits: 2,
        fraction_bits: 1,
        largest: 0x7,
        infinity: 0x7,
        decode: |x| e2m1_to_f32(x as u8).into(),
        encode: |how, x| e2m1_from_f64(how, x).into(),
    },
];

impl Format {
    fn sign(&self) -> u32 {
        1 << (self.exponent_bits + self.fraction_bits)
    }

    /// The value of an encoding, from the meaning of its fields.
    fn value(&self, bits: u32) -> f64 {
        let fraction = f64::from(bits & ((1 << self.fraction_bits) - 1)) / f64::from(1 << self.fraction_bits);
        let biased = (bits & (self.sign() - 1)) >> self.fraction_bits;
        let bias = (1 << (self.exponent_bits - 1)) - 1;
        let magnitude = if biased == 0 {
            fraction * 2_f64.powi(1 - bias)
        } else {
            (1.0 + fraction) * 2_f64.powi(biased as i32 - bias)
        };
        if bits & self.sign() != 0 { -magnitude } else { magnitude }
    }

    /// A value just beside `x`. tf32 is encoded from f32, whose steps are wider.
    fn beside(&self, x: f64, up: bool) -> f64 {
        match (self.name, up) {
            ("tf32", true) => (x as f32).next_up().into(),
            ("tf32", false) => (x as f32).next_down().into(),
            (_, true) => x.next_up(),
            (_, false) => x.next_down(),
        }
    }
}

#[test]
fn every_value_decodes_and_encodes_back() {
    for format in FORMATS {
        for magnitude in 0..=format.largest {
            for bits in [magnitude, magnitude | format.sign()] {
                let value = format.value(bits);
                assert_eq!((format.decode)(bits).to_bits(), value.to_bits(), "{} {bits:#x}", format.name);
                for rounding in MODES {
                    assert_eq!((format.encode)(Narrow::of(rounding), value), bits, "{} {bits:#x}", format.name);
                }
            }
        }
    }
}

#[test]
fn every_gap_rounds_by_mode() {
    for format in FORMATS {
        for low in 0..format.largest {
            let high = low + 1;
            let (a, b) = (format.value(low), format.value(high));
            let middle = (a + b) / 2.0;
            let even = if low & 1 == 0 { low } else { high };

            // A value in the gap, and its nearest.
            for (x, nearest) in [
                (format.beside(a, true), low),
                (format.beside(middle, false), low),
                (middle, even),
                (format.beside(middle, true), high),
                (format.beside(b, false), high),
            ] {
                for rounding in MODES {
                    let expected = [(Rn, nearest), (Rz, low), (Rm, low), (Rp, high)];
                    let mirrored = [(Rn, nearest), (Rz, low), (Rm, high), (Rp, low)];
                    let of = |table: [(Rounding, u32); 4]| table.into_iter().find(|row| row.0 == rounding).unwrap().1;
                    let how = Narrow::of(rounding);
                    assert_eq!((format.encode)(how, x), of(expected), "{} {x:e} {rounding:?}", format.name);
                    let negative = of(mirrored) | format.sign();
                    assert_eq!((format.encode)(how, -x), negative, "{} -{x:e} {rounding:?}", format.name);
                }
            }
        }
    }
}

#[test]
fn overflow_by_mode_and_modifier() {
    for format in FORMATS {
        let (largest, sign) = (format.largest, format.sign());
        let half_step = (format.value(largest) - format.value(largest - 1)) / 2.0;
        let edge = format.value(largest) + half_step;
        let encode = |rounding, satfinite, x| (format.encode)(Narrow { satfinite, ..Narrow::of(rounding) }, x);

        assert_eq!(encode(Rn, false, format.beside(edge, false)), largest, "{}", format.name);
        for x in [edge, edge * 2.0, f64::INFINITY] {
            if format.name == "tf32" && (x as f32).is_infinite() && x.is_finite() {
                continue;
            }
            assert_eq!(encode(Rn, false, x), format.infinity, "{} {x:e}", format.name);
            assert_eq!(encode(Rn, false, -x), format.infinity | sign, "{} -{x:e}", format.name);
            for rounding in MODES {
                assert_eq!(encode(rounding, true, x), largest, "{} {x:e} satfinite", format.name);
                assert_eq!(encode(rounding, true, -x), largest | sign, "{} -{x:e} satfinite", format.name);
            }
            if x.is_finite() {
                assert_eq!(encode(Rz, false, -x), largest | sign);
                assert_eq!(encode(Rm, false, x), largest);
                assert_eq!(encode(Rm, false, -x), format.infinity | sign);
                assert_eq!(encode(Rp, false, x), format.infinity);
                assert_eq!(encode(Rp, false, -x), largest | sign);
            }
        }

        assert_eq!(encode(Rn, false, 1e-300), 0);
        assert_eq!((format.encode)(Narrow::of(Rp), f64::from(f32::from_bits(1))), 1, "{}", format.name);
        assert_eq!((format.encode)(Narrow::of(Rm), -f64::from(f32::from_bits(1))), 1 | sign, "{}", format.name);
    }
}

#[test]
fn relu_and_nan() {
    let relu = Narrow { relu: true, ..Narrow::RN };
    for format in FORMATS {
        let nan = (1 << (format.exponent_bits + format.fraction_bits)) - 1;
        for how in [Narrow::RN, relu, Narrow { satfinite: true, ..Narrow::RN }] {
            // For e2m1 the same bits are +6, as the ISA has it.
            let expected = if format.name == "tf32" { NAN_F32 >> 13 } else { nan };
            assert_eq!((format.encode)(how, f64::NAN), expected, "{}", format.name);
            assert_eq!((format.encode)(how, -f64::NAN), expected, "{}", format.name);
        }
        for x in [-0.0, -1e-30, -1.0, f64::NEG_INFINITY] {
            assert_eq!((format.encode)(relu, x), 0, "{} relu {x}", format.name);
        }
        assert_eq!((format.encode)(relu, 1.0), (format.encode)(Narrow::RN, 1.0));
    }

    assert_eq!(tf32_from_f32(Narrow::RN, f32::NAN), NAN_F32);
    for bits in 0x7c01..=0x7fff {
        assert_eq!(f16_to_f32(bits).to_bits(), NAN_F32);
        assert_eq!(f16_to_f32(bits | 0x8000).to_bits(), NAN_F32);
    }

    assert_eq!(f16_to_f32(0xfc00), f32::NEG_INFINITY);
    assert_eq!(e5m2_to_f32(0x7c), f32::INFINITY);
    assert_eq!((e4m3_to_f32(0xff).to_bits(), e5m2_to_f32(0x7d).to_bits()), (NAN_F32, NAN_F32));
    assert_eq!(bf16_to_f32(0xff81).to_bits(), 0xff81_0000);
}

#[test]
fn from_f32_is_as_from_f64() {
    let mut bits = Bits(3);
    let operands =
        edges_f32().into_iter().chain(std::iter::repeat_with(|| f32::from_bits(bits.next() as u32)).take(500_000));
    for x in operands {
        assert_eq!(bf16_from_f32(Narrow::RN, x), bf16_from_f64(Narrow::RN, x.into()), "{x:e}");
        assert_eq!(f16_from_f32(Narrow::RN, x), f16_from_f64(Narrow::RN, x.into()), "{x:e}");
    }
    // Every tie of bf16 and its neighbours.
    for upper in 0..=0xffff_u32 {
        for lower in [0x7fff, 0x8000, 0x8001] {
            let x = f32::from_bits(upper << 16 | lower);
            assert_eq!(bf16_from_f32(Narrow::RN, x), bf16_from_f64(Narrow::RN, x.into()), "{x:e}");
        }
    }
    assert_eq!(bf16_from_f32(Narrow::RN, f32::from_bits(0xff80_0001)), NAN_F16);
}

#[test]
fn tf32_ties_away() {
    for upper in 0..0x3fc00_u32 {
        let bits = upper << 13;
        for (below, expected) in [(0, bits), (0xfff, bits), (0x1000, bits + 0x2000), (0x1fff, bits + 0x2000)] {
            let x = f32::from_bits(bits | below);
            assert_eq!(tf32_from_f32_rna(false, x), expected, "{x:e}");
            assert_eq!(tf32_from_f32_rna(false, -x), expected | 0x8000_0000, "-{x:e}");
            assert_eq!(tf32_from_f32_rna(true, x), expected.min(0x7f7f_e000), "{x:e} satfinite");
        }
    }
    assert_eq!(tf32_from_f32_rna(false, f32::INFINITY), 0x7f80_0000);
    assert_eq!(tf32_from_f32_rna(true, f32::NEG_INFINITY), 0xff7f_e000);
    assert_eq!(tf32_from_f32_rna(true, f32::NAN), NAN_F32);
}

#[test]
fn powers_of_two_in_ue8m0() {
    for x in 0..=254_u8 {
        let value = 2_f64.powi(i32::from(x) - 127) as f32;
        assert_eq!(ue8m0_to_f32(x), value);
        for up in [false, true] {
            assert_eq!(ue8m0_from_f32(up, true, value), x);
            assert_eq!(ue8m0_from_f32(up, true, -value), x);
        }
        assert_eq!(ue8m0_from_f32(false, true, value.next_up()), x);
        assert_eq!(ue8m0_from_f32(true, true, value.next_up()), x.saturating_add(1).min(254));
    }
    assert_eq!(ue8m0_from_f32(false, false, 0.0), 0);
    assert_eq!((ue8m0_from_f32(false, true, f32::INFINITY), ue8m0_from_f32(false, false, f32::INFINITY)), (0xfe, 0xff));
    assert_eq!((ue8m0_from_f32(true, true, f32::NAN), ue8m0_to_f32(0xff).to_bits()), (0xff, NAN_F32));
}
