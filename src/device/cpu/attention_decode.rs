//! One step of causal attention from a cache of keys and values.

use multiversion::{multiversion, target::target_cfg_f};

use super::CpuDevice;
use super::math::{axpy, dot, exp_in_place, maximum};
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
    let scale = 1.0 / (head_dim as f32).sqrt();
    // [batch, heads, length]
    let mut scores = device.scratch(batch * heads * length);
    let outputs = [blocked(output, head_dim), blocked(&mut scores, length)];
    device.for_each_block(batch * heads, batch * length * width, outputs, |task, [output, scores]| {
        let (image, head) = (task / heads, task % heads);
        let query = &qkv[image * 3 * width + head * head_dim..][..head_dim];
        let first = image * positions * width + head * head_dim;
        for (key, score) in scores.iter_mut().enumerate() {
            *score = dot(query, &keys[first + key * width..][..head_dim]);
        }
        let sum = softmax_numerators(scores, scale);
        output.fill(0.0);
        for (key, weight) in scores.iter().enumerate() {
            axpy(weight / sum, &values[first + key * width..][..head_dim], output);
        }
    });
}

/// Scales, subtracts the maximum, exponentiates; returns the sum.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
fn softmax_numerators(scores: &mut [f32], scale: f32) -> f32 {
    const FMA: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    let max = maximum(scores);
    exp_in_place::<FMA>(scores, scale, max * scale)
}
