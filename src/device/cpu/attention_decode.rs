//! One step of causal attention from a cache of keys and values.
//!
//! What is read is the cache, 400 MB a step of 16 images of iGPT-S in the middle of an image. Keys and values of a head lie one after
//! the other, so each task reads two streams from end to end.

use multiversion::{multiversion, target::target_cfg_f};
use pulp::{Arch, Simd, WithSimd};

use super::CpuDevice;
use super::math::{exp_in_place, maximum};
use super::parallel::blocked;
use super::tensor::{CpuTensor, CpuTokens};
use crate::device::Result;
use crate::device::ops::attention_decode::{AttentionDecodeOps, CacheDims, check, check_position};
use crate::device::shape::Shape;

impl AttentionDecodeOps for CpuDevice {
    fn attention_cache(&self, dims: CacheDims) -> Result<CpuTensor> {
        Ok(self.tensor(Shape::new("attention_cache", &dims.shape())?))
    }

    fn attention_decode(
        &self,
        qkv: &CpuTensor,
        keys: &mut CpuTensor,
        values: &mut CpuTensor,
        position: &CpuTokens,
        heads: usize,
    ) -> Result<CpuTensor> {
        let dims = check(qkv.dimensions(), keys.dimensions(), values.dimensions(), position.shape, heads)?;
        let CacheDims { batch, positions, heads, head_dim } = dims;
        let position = usize::from(position.ids[0]);
        check_position(position, positions)?;
        let width = dims.width();
        let mut output = self.tensor(qkv.shape.with_last(width));

        // Each head attends to positions 0..=position. scores: [batch, heads, length]
        let qkv = qkv.values();
        let (length, arch) = (position + 1, Arch::new());
        let mut scores = self.scratch(batch * heads * length);
        let outputs = [
            blocked(&mut output.values, head_dim),
            blocked(&mut scores, length),
            blocked(&mut keys.values, positions * head_dim),
            blocked(&mut values.values, positions * head_dim),
        ];
        self.for_each_block(batch * heads, batch * length * width, outputs, |task, [output, scores, keys, values]| {
            // This position's key and value into the cache.
            let row = &qkv[task / heads * 3 * width + task % heads * head_dim..];
            let at = position * head_dim..length * head_dim;
            keys[at.clone()].copy_from_slice(&row[width..][..head_dim]);
            values[at.clone()].copy_from_slice(&row[2 * width..][..head_dim]);

            let query = &row[..head_dim];
            arch.dispatch(Scores { query, keys: &keys[..at.end], scores });
            let sum = softmax_numerators(scores, 1.0 / (head_dim as f32).sqrt());
            arch.dispatch(Mix { weights: scores, sum, values: &values[..at.end], output });
        });
        Ok(output)
    }
}

/// Turns `scores` into `exp((score − max) · scale)`; returns their sum.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
fn softmax_numerators(scores: &mut [f32], scale: f32) -> f32 {
    const FMA: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    let max = maximum(scores);
    exp_in_place::<FMA>(scores, scale, max * scale)
}

/// `scores[t] = query · keys[t]`; keys are `[length, head_dim]`.
struct Scores<'a> {
    query: &'a [f32],
    keys: &'a [f32],
    scores: &'a mut [f32],
}

impl WithSimd for Scores<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { query, keys, scores } = self;
        let (query, query_rest) = S::as_simd_f32s(query);
        let head_dim = query.len() * S::F32_LANES + query_rest.len();
        let (pairs, last) = query.as_chunks::<2>();
        for (score, key) in scores.iter_mut().zip(keys.chunks_exact(head_dim)) {
            let (key, key_rest) = S::as_simd_f32s(key);
            let (key_pairs, key_last) = key.as_chunks::<2>();

            // Two sums, so that one need not wait for the other.
            let mut sums = [simd.splat_f32s(0.0); 2];
            for (query, key) in pairs.iter().zip(key_pairs) {
                sums[0] = simd.mul_add_e_f32s(query[0], key[0], sums[0]);
                sums[1] = simd.mul_add_e_f32s(query[1], key[1], sums[1]);
            }
            for (query, key) in last.iter().zip(key_last) {
                sums[0] = simd.mul_add_e_f32s(*query, *key, sums[0]);
            }
            let rest: f32 = query_rest.iter().zip(key_rest).map(|(query, key)| query * key).sum();
            *score = simd.reduce_sum_f32s(simd.add_f32s(sums[0], sums[1])) + rest;
        }
    }
}

/// `output = Σ_t weights[t] / sum · values[t]`; values are `[length, head_dim]`.
struct Mix<'a> {
    weights: &'a [f32],
    sum: f32,
    values: &'a [f32],
    output: &'a mut [f32],
}

impl WithSimd for Mix<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weights, sum, values, output } = self;
        let head_dim = output.len();
        let (whole, rest) = S::as_mut_simd_f32s(output);
        let vectors = whole.len();

        // Columns by as many vectors as registers hold.
        let mut first = 0;
        for outputs in whole.chunks_mut(8) {
            let column = first * S::F32_LANES;
            match outputs.len() {
                8 => mix_vectors::<S, 8>(simd, weights, sum, values, head_dim, column, outputs),
                4..8 => {
                    let (four, others) = outputs.split_at_mut(4);
                    mix_vectors::<S, 4>(simd, weights, sum, values, head_dim, column, four);
                    for (index, one) in others.chunks_mut(1).enumerate() {
                        let column = column + (4 + index) * S::F32_LANES;
                        mix_vectors::<S, 1>(simd, weights, sum, values, head_dim, column, one);
                    }
                }
                _ => {
                    for (index, one) in outputs.chunks_mut(1).enumerate() {
                        let column = column + index * S::F32_LANES;
                        mix_vectors::<S, 1>(simd, weights, sum, values, head_dim, column, one);
                    }
                }
            }
            first += outputs.len();
        }

        // Columns that fill no vector.
        rest.fill(0.0);
        for (weight, value) in weights.iter().zip(values.chunks_exact(head_dim)) {
            let value = &value[vectors * S::F32_LANES..];
            rest.iter_mut().zip(value).for_each(|(output, value)| *output += weight * value);
        }
        rest.iter_mut().for_each(|output| *output /= sum);
    }
}

/// [`Mix`] of `N` vectors of columns from `column` on.
#[inline(always)]
fn mix_vectors<S: Simd, const N: usize>(
    simd: S,
    weights: &[f32],
    sum: f32,
    values: &[f32],
    head_dim: usize,
    column: usize,
    output: &mut [S::f32s],
) {
    let mut sums = [simd.splat_f32s(0.0); N];
    for (weight, value) in weights.iter().zip(values.chunks_exact(head_dim)) {
        let weight = simd.splat_f32s(*weight);
        let value = S::as_simd_f32s(&value[column..][..N * S::F32_LANES]).0;
        for (sum, value) in sums.iter_mut().zip(value) {
            *sum = simd.mul_add_e_f32s(weight, *value, *sum);
        }
    }
    let sum = simd.splat_f32s(sum);
    for (output, value) in output.iter_mut().zip(sums) {
        *output = simd.div_f32s(value, sum);
    }
}
