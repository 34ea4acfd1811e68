//! The slow reference: exact signs of sums of products, and the operands to try.

use std::cmp::Ordering;

/// The sign of `Σ x·y` over finite f64, exactly, as the order of the sum against zero.
///
/// The sum is a fixed-point number in base 2^32 whose last place is 2^-2148, the square of the smallest subnormal.
pub fn sign_of(products: &[(f64, f64)]) -> Ordering {
    let mut digits = [0_i64; 136];
    for &(x, y) in products {
        let ((x_negative, x, x_exponent), (y_negative, y, y_exponent)) = (fields(x), fields(y));
        let product = u128::from(x) * u128::from(y);
        let position = (x_exponent + y_exponent + 2148) as usize;
        let (digit, shift) = (position / 32, position % 32);
        let sign = if x_negative == y_negative { 1 } else { -1 };
        for (i, limb) in [product as u32, (product >> 32) as u32, (product >> 64) as u32, (product >> 96) as u32]
            .into_iter()
            .enumerate()
        {
            let shifted = u64::from(limb) << shift;
            digits[digit + i] += sign * i64::from(shifted as u32);
            digits[digit + i + 1] += sign * (shifted >> 32) as i64;
        }
    }

    let mut carry = 0;
    let mut nonzero = false;
    for digit in &mut digits {
        let total = *digit + carry;
        nonzero |= total & 0xffff_ffff != 0;
        carry = total >> 32;
    }

    if carry < 0 {
        Ordering::Less
    } else if nonzero || carry > 0 {
        Ordering::Greater
    } else {
        Ordering::Equal
    }
}

/// Sign, significand and exponent of its last place.
fn fields(x: f64) -> (bool, u64, i32) {
    assert!(x.is_finite());
    let (biased, fraction) = ((x.to_bits() >> 52 & 0x7ff) as i32, x.to_bits() & ((1 << 52) - 1));
    if biased == 0 {
        (x.is_sign_negative(), fraction, -1074)
    } else {
        (x.is_sign_negative(), fraction + (1 << 52), biased - 1075)
    }
}

#[test]
fn the_reference_itself() {
    use Ordering::{Equal, Greater, Less};
    let tiny = f64::from_bits(1);
    assert_eq!(sign_of(&[(3.0, 4.0), (-12.0, 1.0)]), Equal);
    assert_eq!(sign_of(&[(tiny, tiny), (-0.0, 5.0)]), Greater);
    assert_eq!(sign_of(&[(f64::MAX, f64::MAX), (-f64::MAX, f64::MAX), (-tiny, tiny)]), Less);
    assert_eq!(sign_of(&[(f64::MAX, -f64::MAX), (f64::MAX, f64::MAX), (tiny, tiny)]), Greater);
    assert_eq!(sign_of(&[(0.1, 10.0), (-1.0, 1.0)]), Greater);
    assert_eq!(sign_of(&[(1.0 / 3.0, 3.0), (-1.0, 1.0)]), Less);
}

/// A stream of reproducible random bits (splitmix64).
pub struct Bits(pub u64);

impl Bits {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    /// A finite f64: any bits, or one near 1, or one with few significand bits (so that exact results and ties occur).
    pub fn f64(&mut self) -> f64 {
        let bits = self.next();
        let bits = match self.next() % 4 {
            0 => bits,
            1 => bits & 0x800f_ffff_ffff_ffff | (1023 - 8 + self.next() % 16) << 52,
            2 => bits & 0xfff8_0000_0000_0000,
            _ => bits & 0x800f_0000_0000_0001 | (1023 - 60 + self.next() % 120) << 52,
        };
        let x = f64::from_bits(bits);
        if x.is_finite() { x } else { self.f64() }
    }

    /// A finite f32, likewise.
    pub fn f32(&mut self) -> f32 {
        let bits = self.next() as u32;
        let exponent = self.next() as u32;
        let bits = match self.next() % 4 {
            0 => bits,
            1 => bits & 0x807f_ffff | (127 - 8 + exponent % 16) << 23,
            2 => bits & 0xfff0_0000,
            _ => bits & 0x8070_0001 | (127 - 30 + exponent % 60) << 23,
        };
        let x = f32::from_bits(bits);
        if x.is_finite() { x } else { self.f32() }
    }
}

/// Edges of f32, of both signs: zeros, subnormals, neighbours of one, the largest, infinity, NaN.
pub fn edges_f32() -> Vec<f32> {
    let magnitudes = [
        0,
        1,
        2,
        0x007f_ffff,
        0x0080_0000,
        0x0080_0001,
        0x3f00_0000,
        0x3f7f_ffff,
        0x3f80_0000,
        0x3f80_0001,
        0x4000_0000,
        0x4b80_0000,
        0x7f00_0000,
        0x7f7f_fffe,
        0x7f7f_ffff,
        0x7f80_0000,
        0x7fc1_2345,
    ];
    magnitudes.into_iter().flat_map(|bits| [bits, bits | 0x8000_0000]).map(f32::from_bits).collect()
}

/// The same edges of f64.
pub fn edges_f64() -> Vec<f64> {
    let magnitudes = [
        0,
        1,
        2,
        0x000f_ffff_ffff_ffff,
        0x0010_0000_0000_0000,
        0x0010_0000_0000_0001,
        0x3fe0_0000_0000_0000,
        0x3fef_ffff_ffff_ffff,
        0x3ff0_0000_0000_0000,
        0x3ff0_0000_0000_0001,
        0x4000_0000_0000_0000,
        0x4340_0000_0000_0000,
        0x7fe0_0000_0000_0000,
        0x7fef_ffff_ffff_fffe,
        0x7fef_ffff_ffff_ffff,
        0x7ff0_0000_0000_0000,
        0x7ff8_1234_5678_9abc,
    ];
    magnitudes.into_iter().flat_map(|bits| [bits, bits | 1 << 63]).map(f64::from_bits).collect()
}
