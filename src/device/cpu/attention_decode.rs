//! One step of causal attention from a cache of keys and values.

use multiversion::{multiversion, target::target_cfg_f};

use super::CpuDevice;
use super::math::{axpy_within, dot_within, exp_in_place, maximum};
use super::parallel::blocked;
use crate::device::contract::DecodeDims;

/// Stores this position's keys and values, and sets `output` `[batch, width]`.
pub(super) fn attention_decode(
    device: &CpuDevice,
    dims: DecodeDims,
    qkv: &[f32],
    keys: &mut [f32],
    values: &mut [f32],
    position: usize,
    output: &mut [f32],
) {
    let DecodeDims { batch, positions, heads, head_dim } = dims;
    let width = heads * head_dim;
    for image in 0..batch {
        let place = (image * positions + position) * width;
        let row = &qkv[image * 3 * width..][..3 * width];
        keys[place..place + width].copy_from_slice(&row[width..2 * width]);
        values[place..place + width].copy_from_slice(&row[2 * width..]);
    }
    let (keys, values) = (&*keys, &*values);
    let length = position + 1;
    // [batch, heads, length]
    let mut scores = device.scratch(batch * heads * length);
    let outputs = [blocked(output, head_dim), blocked(&mut scores, length)];
    device.for_each_block(batch * heads, batch * length * width, outputs, |task, [output, scores]| {
        let (image, head) = (task / heads, task % heads);
        let query = &qkv[image * 3 * width + head * head_dim..][..head_dim];
        let first = image * positions * width + head * head_dim;
        attend(query, &keys[first..], &values[first..], width, scores, output);
    });
}

/// One head of one image: `scores` `[length]` become softmax numerators, `output` `[head_dim]` the mixed values. Keys and
/// values lie `width` floats apart.
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
