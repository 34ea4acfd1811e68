//! One step of causal attention from a cache of keys and values.
//!
//! What is read is the cache, 800 MB a step of 16 images of iGPT-S in the middle of an image, or half of that in bf16. Keys and values of a head
//! lie one after the other, so each task reads two streams from end to end. In bf16 it asks for the values, into the L2 cache, while it reads the
//! keys: of two streams at once memory gives more (16 images of S on two threads of a Zen 3, in turn, medians of five runs: 37 to 30 ms). Lost: in
//! f32, whose values are twice as many, the same (no difference); and the next head's keys while values are mixed.

use multiversion::{multiversion, target::target_cfg_f};
use pulp::{Arch, Simd, WithSimd};

use super::math::{exp_in_place, maximum};
use super::parallel::blocked;
use super::tensor::{CpuTensor, CpuTokens};
use super::{CpuDevice, packed_cache};
use crate::device::ops::attention_decode::{AttentionDecodeOps, CacheDims, check, check_position};
use crate::device::shape::Shape;
use crate::device::{Precision, Result};

impl AttentionDecodeOps for CpuDevice {
    fn attention_cache(&self, dims: CacheDims) -> Result<CpuTensor> {
        let [batch, heads, positions, _] = dims.shape();
        Ok(self.tensor(Shape::new("attention_cache", &[batch, heads, positions, self.stored(dims.head_dim)])?))
    }

    fn cache_precision(&self) -> Precision {
        self.drawing
    }

    fn attention_decode(
        &self,
        qkv: &CpuTensor,
        keys: &mut CpuTensor,
        values: &mut CpuTensor,
        position: &CpuTokens,
        heads: usize,
    ) -> Result<CpuTensor> {
        let [of_keys, of_values] = [&*keys, &*values].map(|cache| self.unpacked(cache, qkv, heads));
        let dims = check(qkv.dimensions(), &of_keys, &of_values, position.shape, heads)?;
        let CacheDims { batch, positions, heads, head_dim } = dims;
        let position = usize::from(position.ids[0]);
        check_position(position, positions)?;
        let width = dims.width();
        let cached = 2 * batch * heads * (position + 1) * self.stored(head_dim);
        let _timed =
            self.time("attention_decode", 4.0 * (batch * (position + 1) * width) as f64, cached + 4 * batch * width);
        let mut output = self.tensor(qkv.shape.with_last(width));

        // Each head attends to positions 0..=position. scores: [batch, heads, length]
        let qkv = qkv.values();
        let (length, arch, stored) = (position + 1, Arch::new(), self.stored(head_dim));
        let mut scores = self.scratch(batch * heads * length);
        let outputs = [
            blocked(&mut output.values, head_dim),
            blocked(&mut scores, length),
            blocked(&mut keys.values, positions * stored),
            blocked(&mut values.values, positions * stored),
        ];
        self.for_each_block(batch * heads, batch * length * width, outputs, |task, [output, scores, keys, values]| {
            // This position's key and value into the cache.
            let row = &qkv[task / heads * 3 * width + task % heads * head_dim..];
            let at = position * stored..length * stored;
            self.store(&row[width..][..head_dim], &mut keys[at.clone()]);
            self.store(&row[2 * width..][..head_dim], &mut values[at.clone()]);

            let (query, scale) = (&row[..head_dim], 1.0 / (head_dim as f32).sqrt());
            let (keys, values) = (&keys[..at.end], &values[..at.end]);
            match self.drawing {
                Precision::F32 => {
                    arch.dispatch(Scores { query, keys, scores });
                    let sum = softmax_numerators(scores, scale);
                    arch.dispatch(Mix { weights: scores, sum, values, output });
                }
                Precision::Bf16 => {
                    let [keys, values] = [keys, values].map(bytemuck::cast_slice);
                    arch.dispatch(packed_cache::Scores { query, keys, values, scores });
                    let sum = softmax_numerators(scores, scale);
                    arch.dispatch(packed_cache::Mix { weights: scores, sum, values, output });
                }
            }
        });
        Ok(output)
    }
}

impl CpuDevice {
    /// Floats that a cache has for a head of so many columns.
    pub(super) fn stored(&self, head_dim: usize) -> usize {
        match self.drawing {
            Precision::F32 => head_dim,
            Precision::Bf16 => packed_cache::words(head_dim),
        }
    }

    /// Stores a head's columns in a cache.
    pub(super) fn store(&self, columns: &[f32], to: &mut [f32]) {
        match self.drawing {
            Precision::F32 => to.copy_from_slice(columns),
            Precision::Bf16 => packed_cache::pack(columns, bytemuck::cast_slice_mut(to)),
        }
    }

    /// The dimensions of a cache, with the columns of a head of `qkv` `[.., 3d]` if it stores just so many.
    pub(super) fn unpacked(&self, cache: &CpuTensor, qkv: &CpuTensor, heads: usize) -> Vec<usize> {
        let mut dimensions = cache.dimensions().to_vec();
        let head_dim = qkv.dimensions().last().and_then(|width| (width / 3).checked_div(heads));
        if let (Precision::Bf16, Some(stored)) = (self.drawing, dimensions.last_mut()) {
            *stored = head_dim.filter(|head_dim| self.stored(*head_dim) == *stored).unwrap_or(2 * *stored);
        }
        dimensions
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

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::device::prelude::*;

    fn values(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|index| ((index + seed) * 7919 % 1009) as f32 / 504.5 - 1.0).collect()
    }

    /// A cache in bf16 holds keys and values that were rounded once: with such, the results are those of one in f32, but for the order of sums.
    #[test]
    fn a_cache_in_bf16_gives_what_rounded_keys_and_values_give() {
        let exact = CpuDevice::poisoned(Some(2)).unwrap();
        let packed = CpuDevice::poisoned(Some(3)).unwrap().drawing_in(Precision::Bf16);
        let (batch, heads, positions) = (2, 3, 40);
        for head_dim in [1, 2, 5, 31, 32, 33, 64, 96, 128, 130, 192, 300] {
            let dims = CacheDims { batch, positions, heads, head_dim };
            let width = dims.width();
            let mut caches = [&exact, &packed].map(|device| [(); 2].map(|()| device.attention_cache(dims).unwrap()));
            assert_eq!(2 * caches[1][0].values().len(), batch * heads * positions * head_dim.next_multiple_of(2));

            // A prompt of seven tokens, then steps.
            let rounded = |tokens: usize, seed: usize| {
                let mut qkv = values(batch * tokens * 3 * width, seed);
                for row in qkv.chunks_exact_mut(3 * width) {
                    row[width..].iter_mut().for_each(|value| *value = bf16::from_f32(*value).to_f32());
                }
                qkv
            };
            let prompt = rounded(7, 3);
            for (device, [keys, values]) in [&exact, &packed].into_iter().zip(&mut caches) {
                let qkv = device.upload(&[batch, 7, 3 * width], &prompt).unwrap();
                device.attention_prefill(&qkv, keys, values, 0, heads).unwrap();
            }
            for position in 7..positions {
                let row = rounded(1, position * 31 + head_dim);
                let [expected, got] = [(&exact, 0), (&packed, 1)].map(|(device, index)| {
                    let [keys, values] = &mut caches[index];
                    let qkv = device.upload(&[batch, 1, 3 * width], &row).unwrap();
                    let position = device.upload_tokens([1, 1], &[position as u16]).unwrap();
                    let output = device.attention_decode(&qkv, keys, values, &position, heads).unwrap();
                    device.download(&output).unwrap()
                });
                for (expected, got) in expected.iter().zip(&got) {
                    assert!((expected - got).abs() <= 2e-6, "{head_dim} at {position}: {expected} and {got}");
                }
            }
        }
    }

    #[test]
    fn a_cache_of_another_precision_or_shape_is_refused() {
        let exact = CpuDevice::new(Some(1)).unwrap();
        let packed = CpuDevice::new(Some(1)).unwrap().drawing_in(Precision::Bf16);
        let dims = CacheDims { batch: 1, positions: 4, heads: 2, head_dim: 8 };
        let qkv = exact.upload(&[1, 1, 48], &values(48, 0)).unwrap();
        let position = exact.upload_tokens([1, 1], &[0]).unwrap();
        for (of, device) in [(&exact, &packed), (&packed, &exact)] {
            let [mut keys, mut values] = [(); 2].map(|()| of.attention_cache(dims).unwrap());
            let error = device.attention_decode(&qkv, &mut keys, &mut values, &position, 2).err().unwrap().to_string();
            assert!(error.contains("attention_decode") && error.contains("keys"), "{error}");
            assert!(device.attention_decode(&qkv, &mut keys, &mut values, &position, 0).is_err());
        }
    }
}
