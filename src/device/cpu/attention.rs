//! Multi-head attention, without ever holding more than a panel of scores.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use multiversion::{multiversion, target::target_cfg_f};

use super::CpuDevice;
use super::gemm::matrix;
use super::math::{dot, exp_in_place, maximum};
use super::parallel::{ROW_BLOCK, blocked};
use crate::device::Mask;
use crate::device::contract::AttentionDims;

/// Queries of a panel.
const PANEL: usize = 64;

/// Which part of `qkv`'s columns.
#[derive(Clone, Copy)]
enum Part {
    Query = 0,
    Key = 1,
    Value = 2,
}

/// Sets `output` `[batch, tokens, width]` and `logsumexp` `[batch, heads, tokens]`.
pub(super) fn attention(
    device: &CpuDevice,
    dims: AttentionDims,
    mask: Mask,
    qkv: &[f32],
    output: &mut [f32],
    logsumexp: &mut [f32],
) {
    let AttentionDims { batch, tokens, heads, head_dim } = dims;
    let size = tokens * head_dim;
    // [batch, heads, tokens, head_dim]
    let mut by_head = device.scratch(output.len());
    let outputs = [blocked(&mut by_head, size), blocked(logsumexp, tokens)];
    let scale = 1.0 / (head_dim as f32).sqrt();
    device.for_each_block(batch * heads, usize::MAX, outputs, |task, [output, logsumexp]| {
        let [q, k, v] = [Part::Query, Part::Key, Part::Value].map(|part| head_of(dims, qkv, task, part));
        let mut scores = device.scratch(PANEL * tokens);
        for first in (0..tokens).step_by(PANEL) {
            let last = tokens.min(first + PANEL);
            let keys = if mask == Mask::Causal { last } else { tokens };
            let scores = &mut scores[..(last - first) * keys];
            product(scores, false, q.subrows(first, last - first), k.subrows(0, keys).transpose(), 1.0);
            let output = &mut output[first * head_dim..last * head_dim];
            for (row, scores) in scores.chunks_exact_mut(keys).enumerate() {
                let seen = if mask == Mask::Causal { first + row + 1 } else { keys };
                logsumexp[first + row] = softmax(&mut scores[..seen], scale);
                scores[seen..].fill(0.0);
            }
            product(output, false, matrix(scores, last - first, keys), v.subrows(0, keys), 1.0);
        }
    });
    gather_heads(device, dims, &by_head, 1, output);
}

/// Sets `d_qkv` `[batch, tokens, 3 · width]`.
#[allow(clippy::too_many_arguments)]
pub(super) fn attention_backward(
    device: &CpuDevice,
    dims: AttentionDims,
    mask: Mask,
    dy: &[f32],
    qkv: &[f32],
    output: &[f32],
    logsumexp: &[f32],
    d_qkv: &mut [f32],
) {
    let AttentionDims { batch, tokens, heads, head_dim } = dims;
    let (size, width) = (tokens * head_dim, dims.width());
    // [batch, heads, 3, tokens, head_dim]
    let mut by_head = device.scratch(d_qkv.len());
    let scale = 1.0 / (head_dim as f32).sqrt();
    device.for_each_block(batch * heads, usize::MAX, [blocked(&mut by_head, 3 * size)], |task, [d_qkv]| {
        let (image, head) = (task / heads, task % heads);
        let [q, k, v] = [Part::Query, Part::Key, Part::Value].map(|part| head_of(dims, qkv, task, part));
        let start = image * tokens * width + head * head_dim;
        let dy_head = strided(&dy[start..], tokens, head_dim, width);
        let (dq, rest) = d_qkv.split_at_mut(size);
        let (dk, dv) = rest.split_at_mut(size);
        dk.fill(0.0);
        dv.fill(0.0);
        let (mut scores, mut d_scores) = (device.scratch(PANEL * tokens), device.scratch(PANEL * tokens));
        for first in (0..tokens).step_by(PANEL) {
            let last = tokens.min(first + PANEL);
            let rows = last - first;
            let keys = if mask == Mask::Causal { last } else { tokens };
            let (scores, d_scores) = (&mut scores[..rows * keys], &mut d_scores[..rows * keys]);
            let (q, dy_rows) = (q.subrows(first, rows), dy_head.subrows(first, rows));
            product(scores, false, q, k.subrows(0, keys).transpose(), 1.0);
            product(d_scores, false, dy_rows, v.subrows(0, keys).transpose(), 1.0);
            for row in 0..rows {
                let seen = if mask == Mask::Causal { first + row + 1 } else { keys };
                let place = start + (first + row) * width;
                let along = dot(&dy[place..][..head_dim], &output[place..][..head_dim]);
                let (p, dp) = (&mut scores[row * keys..][..keys], &mut d_scores[row * keys..][..keys]);
                p[seen..].fill(0.0);
                dp[seen..].fill(0.0);
                softmax_backward(&mut p[..seen], &mut dp[..seen], scale, logsumexp[task * tokens + first + row], along);
            }
            let (p, ds) = (matrix(scores, rows, keys), matrix(d_scores, rows, keys));
            product(&mut dv[..keys * head_dim], true, p.transpose(), dy_rows, 1.0);
            product(&mut dk[..keys * head_dim], true, ds.transpose(), q, 1.0);
            product(&mut dq[first * head_dim..last * head_dim], false, ds, k.subrows(0, keys), 1.0);
        }
    });
    gather_heads(device, dims, &by_head, 3, d_qkv);
}

fn strided(data: &[f32], rows: usize, columns: usize, stride: usize) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice_with_stride(&data[..(rows - 1) * stride + columns], rows, columns, stride)
}

/// One head's queries, keys or values, `[tokens, head_dim]`.
fn head_of(dims: AttentionDims, qkv: &[f32], task: usize, part: Part) -> MatRef<'_, f32> {
    let AttentionDims { tokens, heads, head_dim, .. } = dims;
    let (width, stride) = (dims.width(), 3 * dims.width());
    let start = task / heads * tokens * stride + part as usize * width + task % heads * head_dim;
    strided(&qkv[start..], tokens, head_dim, stride)
}

fn product(out: &mut [f32], add: bool, a: MatRef<'_, f32>, b: MatRef<'_, f32>, factor: f32) {
    let accumulate = if add { Accum::Add } else { Accum::Replace };
    let out = MatMut::from_row_major_slice_mut(out, a.nrows(), b.ncols());
    matmul(out, accumulate, a, b, factor, Par::Seq);
}

/// `[batch, heads, parts, tokens, head_dim]` to `[batch, tokens, parts, heads, head_dim]`.
fn gather_heads(device: &CpuDevice, dims: AttentionDims, by_head: &[f32], parts: usize, out: &mut [f32]) {
    let AttentionDims { batch, tokens, heads, head_dim } = dims;
    let stride = parts * dims.width();
    let work = out.len();
    device.for_each_block(
        (batch * tokens).div_ceil(ROW_BLOCK),
        work,
        [blocked(out, ROW_BLOCK * stride)],
        |index, [out]| {
            for (row, out) in out.chunks_exact_mut(stride).enumerate() {
                let row = index * ROW_BLOCK + row;
                let (image, token) = (row / tokens, row % tokens);
                for (column, out) in out.chunks_exact_mut(head_dim).enumerate() {
                    let (part, head) = (column / heads, column % heads);
                    let source = ((image * heads + head) * parts + part) * tokens + token;
                    out.copy_from_slice(&by_head[source * head_dim..][..head_dim]);
                }
            }
        },
    );
}

/// Softmax of `scale · scores` in place; returns the logarithm of the denominator.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
fn softmax(scores: &mut [f32], scale: f32) -> f32 {
    const FMA: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    let max = maximum(scores) * scale;
    let sum = exp_in_place::<FMA>(scores, scale, max);
    let reciprocal = 1.0 / sum;
    scores.iter_mut().for_each(|score| *score *= reciprocal);
    max + sum.ln()
}

/// Turns scores into probabilities `p`, and their gradients `dp` into those of the scores, `scale · p · (dp − along)`.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
fn softmax_backward(p: &mut [f32], dp: &mut [f32], scale: f32, logsumexp: f32, along: f32) {
    const FMA: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    exp_in_place::<FMA>(p, scale, logsumexp);
    dp.iter_mut().zip(p).for_each(|(dp, p)| *dp = *p * (*dp - along) * scale);
}
