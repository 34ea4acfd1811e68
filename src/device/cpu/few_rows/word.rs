//! What panels hold of a column: weights in f32, or two in bf16 in a word.

use pulp::Simd;

use super::COLUMNS;
use crate::device::Precision;
use crate::device::cpu::packed_cache::{to_bf16, unpack_vector};

/// What a panel holds of a column: the weight of an input, or those of two in bf16, the first in the low bits.
pub(super) trait Word: bytemuck::Pod + Sync {
    /// Inputs of a word.
    const INPUTS: usize;
    /// The word of weights that are zero.
    const ZERO: Self;
    /// How weights are rounded.
    const PRECISION: Precision;
    /// As many as this processor takes at once.
    type Vector<S: Simd>: Copy;

    /// Sets input `part` of a line of words that are zero there.
    fn put(line: &mut [Self; COLUMNS], part: usize, weights: [f32; COLUMNS]);

    /// A panel by vectors.
    fn vectors<S: Simd>(panel: &[Self]) -> &[Self::Vector<S>];

    /// The weights of input `part`.
    fn part<S: Simd>(simd: S, vector: Self::Vector<S>, part: usize) -> S::f32s;
}

impl Word for f32 {
    const INPUTS: usize = 1;
    const ZERO: Self = 0.0;
    const PRECISION: Precision = Precision::F32;
    type Vector<S: Simd> = S::f32s;

    fn put(line: &mut [Self; COLUMNS], _: usize, weights: [f32; COLUMNS]) {
        *line = weights;
    }

    #[inline(always)]
    fn vectors<S: Simd>(panel: &[Self]) -> &[S::f32s] {
        S::as_simd_f32s(panel).0
    }

    #[inline(always)]
    fn part<S: Simd>(_: S, vector: S::f32s, _: usize) -> S::f32s {
        vector
    }
}

impl Word for u32 {
    const INPUTS: usize = 2;
    const ZERO: Self = 0;
    const PRECISION: Precision = Precision::Bf16;
    type Vector<S: Simd> = S::u32s;

    fn put(line: &mut [Self; COLUMNS], part: usize, weights: [f32; COLUMNS]) {
        for (word, weight) in line.iter_mut().zip(weights) {
            *word |= to_bf16(weight) << (16 * part);
        }
    }

    #[inline(always)]
    fn vectors<S: Simd>(panel: &[Self]) -> &[S::u32s] {
        S::as_simd_u32s(panel).0
    }

    #[inline(always)]
    fn part<S: Simd>(simd: S, vector: S::u32s, part: usize) -> S::f32s {
        unpack_vector(simd, vector)[part]
    }
}
