//! One step of causal attention from a cache of keys and values.

use multiversion::{multiversion, target::target_cfg_f};

use super::CpuDevice;
use super::math::{axpy_within, dot_within, exp_in_place, maximum};
use super::parallel::blocked;
use super::tensor::CpuTensor;
use crate::device::Result;
use crate::device::ops::attention_decode::{AttentionDecodeOps, DecodeDims, check};

impl AttentionDecodeOps for CpuDevice {
    fn attention_decode(
        &self,
        qkv: &CpuTensor,
        keys: &mut CpuTensor,
        values: &mut CpuTensor,
        position: usize,
        heads: usize,
    ) -> Result<CpuTensor> {
        let dims = check(qkv.dimensions(), keys.dimensions(), values.dimensions(), position, heads)?;
        let DecodeDims { batch, positions, heads, head_dim } = dims;
        let width = heads * head_dim;
        let mut output = self.tensor(qkv.shape.with_last(width));

        // This position's keys and values into the cache.
        let (qkv, keys, values) = (qkv.values(), &mut keys.values, &mut values.values);
        for image in 0..batch {
            let start = (image * positions + position) * width;
            let row = &qkv[image * 3 * width..][..3 * width];
            keys[start..start + width].copy_from_slice(&row[width..2 * width]);
            values[start..start + width].copy_from_slice(&row[2 * width..]);
        }

        // Each head attends to positions 0..=position. scores: [batch, heads, length]
        let (keys, values) = (&**keys, &**values);
        let length = position + 1;
        let mut scores = self.scratch(batch * heads * length);
        let outputs = [blocked(&mut output.values, head_dim), blocked(&mut scores, length)];
        self.for_each_block(batch * heads, batch * length * width, outputs, |task, [output, scores]| {
            let (image, head) = (task / heads, task % heads);
            let query = &qkv[image * 3 * width + head * head_dim..][..head_dim];
            let first = image * positions * width + head * head_dim;
            attend(query, &keys[first..], &values[first..], width, scores, output);
        });
        Ok(output)
    }
}

/// One head of one image: `scores` `[length]` become softmax numerators, `output` `[head_dim]` the mixed values. Keys
/// and values lie `width` floats apart.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
fn attend(query: &[f32], keys: &[f32], values: &[f32], width: usize, scores: &mut [f32], output: &mut [f32]) {
    const FMA: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    let head_dim = query.len();
    for (score, key) in scores.iter_mut().zip(keys.chunks(width)) {
        *score = dot_within::<FMA>(query, &key[..head_dim]);
    }
    let scale = 1.0 / (head_dim as f32).sqrt();
    let max = maximum(scores);
    let sum = exp_in_place::<FMA>(scores, scale, max * scale);
    output.fill(0.0);
    for (weight, value) in scores.iter().zip(values.chunks(width)) {
        axpy_within::<FMA>(weight / sum, &value[..head_dim], output);
    }
}
