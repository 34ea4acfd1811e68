//! Elements of the multiplicands: their types, and packed words to values.

#[cfg(target_arch = "x86_64")]
use crate::exec::program::lanes::fast;
use crate::numerics::formats::{bf16_to_f32, e4m3_to_f32, e5m2_to_f32, f16_to_f32, tf32_to_f32};
use crate::numerics::tensor_core::Factor;
use crate::ptx::types::ScalarType;

/// A small float, of which products are exact in f64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float {
    /// `.f16`
    F16,
    /// `.bf16`
    Bf16,
    /// `.tf32`: an f32 of which the low 13 bits are ignored.
    Tf32,
    /// `.e4m3`
    E4m3,
    /// `.e5m2`
    E5m2,
}

impl Float {
    /// The float of this type.
    pub fn of(ty: ScalarType) -> Option<Self> {
        Some(match ty {
            ScalarType::F16 => Self::F16,
            ScalarType::Bf16 => Self::Bf16,
            ScalarType::Tf32 => Self::Tf32,
            ScalarType::E4m3 => Self::E4m3,
            ScalarType::E5m2 => Self::E5m2,
            _ => return None,
        })
    }

    /// What it is to the sums of a tensor core.
    pub fn factor(self) -> Factor {
        let (bits, least_exponent) = match self {
            Self::F16 => (16, -14),
            Self::Bf16 => (16, -126),
            Self::Tf32 => (32, -126),
            Self::E4m3 => (8, -6),
            Self::E5m2 => (8, -14),
        };
        Factor { bits, least_exponent }
    }

    /// How many a 32-bit word holds.
    #[inline(always)]
    pub fn per_word(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::Tf32 => 1,
            Self::E4m3 | Self::E5m2 => 4,
        }
    }

    /// The values in packed words, low bits first: `out` has `words.len()` times as many elements as a word holds.
    pub fn unpack(self, words: &[u32], out: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        if fast() {
            // SAFETY: `fast` says that the features are there.
            return unsafe { unpack_avx2(self, words, out) };
        }
        unpack(self, words, out);
    }

    /// The values in packed words whose neighbours lie in the next row: of `[words][n]`, element e of a word is in row
    /// `per_word * word + e` of `out`.
    pub fn unpack_rows(self, words: &[u32], out: &mut [f32], n: usize) {
        #[cfg(target_arch = "x86_64")]
        if fast() {
            // SAFETY: `fast` says that the features are there.
            return unsafe { unpack_rows_avx2(self, words, out, n) };
        }
        unpack_rows(self, words, out, n);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn unpack_avx2(float: Float, words: &[u32], out: &mut [f32]) {
    unpack(float, words, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn unpack_rows_avx2(float: Float, words: &[u32], out: &mut [f32], n: usize) {
    unpack_rows(float, words, out, n);
}

#[inline(always)]
fn unpack(float: Float, words: &[u32], out: &mut [f32]) {
    match float {
        Float::F16 => split::<2>(words, out, half),
        Float::Bf16 => split::<2>(words, out, brain),
        Float::Tf32 => split::<1>(words, out, tensor),
        Float::E4m3 => split::<4>(words, out, e4m3),
        Float::E5m2 => split::<4>(words, out, e5m2),
    }
}

#[inline(always)]
fn unpack_rows(float: Float, words: &[u32], out: &mut [f32], n: usize) {
    match float {
        Float::F16 => split_rows::<2>(words, out, n, half),
        Float::Bf16 => split_rows::<2>(words, out, n, brain),
        Float::Tf32 => split_rows::<1>(words, out, n, tensor),
        Float::E4m3 => split_rows::<4>(words, out, n, e4m3),
        Float::E5m2 => split_rows::<4>(words, out, n, e5m2),
    }
}

#[inline(always)]
fn half(word: u32, e: usize) -> f32 {
    f16_to_f32((word >> (16 * e)) as u16)
}

#[inline(always)]
fn brain(word: u32, e: usize) -> f32 {
    bf16_to_f32((word >> (16 * e)) as u16)
}

#[inline(always)]
fn tensor(word: u32, _: usize) -> f32 {
    tf32_to_f32(word)
}

#[inline(always)]
fn e4m3(word: u32, e: usize) -> f32 {
    e4m3_to_f32((word >> (8 * e)) as u8)
}

#[inline(always)]
fn e5m2(word: u32, e: usize) -> f32 {
    e5m2_to_f32((word >> (8 * e)) as u8)
}

#[inline(always)]
fn split<const PER_WORD: usize>(words: &[u32], out: &mut [f32], value: impl Fn(u32, usize) -> f32) {
    for (out, &word) in out.as_chunks_mut::<PER_WORD>().0.iter_mut().zip(words) {
        *out = std::array::from_fn(|e| value(word, e));
    }
}

#[inline(always)]
fn split_rows<const PER_WORD: usize>(words: &[u32], out: &mut [f32], n: usize, value: impl Fn(u32, usize) -> f32) {
    for (rows, words) in out.chunks_exact_mut(PER_WORD * n).zip(words.chunks_exact(n)) {
        for (e, row) in rows.chunks_exact_mut(n).enumerate() {
            for (out, &word) in row.iter_mut().zip(words) {
                *out = value(word, e);
            }
        }
    }
}

/// A small integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integer {
    /// 4 or 8.
    pub bits: u32,
    /// Two's complement.
    pub signed: bool,
}

impl Integer {
    /// The integer of this type.
    pub fn of(ty: ScalarType) -> Option<Self> {
        use ScalarType::{S4, S8, U4, U8};
        matches!(ty, S4 | S8 | U4 | U8).then(|| Self { bits: ty.bits(), signed: ty.is_signed() })
    }

    /// The values in packed words, low bits first.
    pub fn unpack(self, words: &[u32], out: &mut [i32]) {
        let per_word = 32 / self.bits as usize;
        for (out, &word) in out.chunks_exact_mut(per_word).zip(words) {
            for (e, out) in out.iter_mut().enumerate() {
                let top = word << (32 - self.bits as usize * (e + 1));
                let down = 32 - self.bits;
                *out = if self.signed { top as i32 >> down } else { (top >> down) as i32 };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_cut_from_words() {
        let cut = |bits, signed, count| {
            let mut out = vec![0; count];
            Integer { bits, signed }.unpack(&[0x80ff_017f], &mut out);
            out
        };
        assert_eq!(cut(8, true, 4), [127, 1, -1, -128]);
        assert_eq!(cut(8, false, 4), [127, 1, 255, 128]);
        assert_eq!(cut(4, true, 8), [-1, 7, 1, 0, -1, -1, 0, -8]);
        assert_eq!(cut(4, false, 8), [15, 7, 1, 0, 15, 15, 0, 8]);
    }

    #[test]
    fn floats_are_cut_from_words() {
        let cut = |float: Float, word: u32, count| {
            let mut out = vec![0.0; count];
            float.unpack(&[word], &mut out);
            out
        };
        assert_eq!(cut(Float::F16, 0xc000_3c00, 2), [1.0, -2.0]);
        assert_eq!(cut(Float::Bf16, 0xc000_3f80, 2), [1.0, -2.0]);
        assert_eq!(cut(Float::Tf32, 0x3f80_1fff, 1), [1.0]);
        assert_eq!(cut(Float::E4m3, 0xb840_3801, 4), [1.0 / 512.0, 1.0, 2.0, -1.0]);
        assert_eq!(cut(Float::E5m2, 0xbc40_3c01, 4), [1.0 / 65536.0, 1.0, 2.0, -1.0]);
    }
}
