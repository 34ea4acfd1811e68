//! Multi-head attention, without ever holding more than a tile of scores.
//!
//! Each head of each image is a task. Its operands are packed once ([`tile`]), then multiplied in register tiles: small
//! GEMMs of fixed size, where a general GEMM would spend its time on packing and edges.

mod backward;
mod forward;
mod tile;

use self::tile::{Block, HeadRows, STRIP, Strip};
use super::CpuDevice;
use super::math::dot;
use super::parallel::Scattered;
use super::tensor::CpuTensor;
use crate::device::Result;
use crate::device::ops::attention::{Attended, AttentionDims, AttentionOps, Mask, check, check_backward};

/// Blocks of queries that backward takes at once.
const BACKWARD_BLOCKS: usize = 2;

/// The sizes of one head's packed operands.
#[derive(Clone, Copy)]
struct Sizes {
    /// Multiple of [`STRIP`].
    padded_tokens: usize,
    head_dim: usize,
    /// `head_dim`, padded to a multiple of [`STRIP`].
    dimensions: usize,
}

impl Sizes {
    fn new(dims: AttentionDims) -> Self {
        Self {
            padded_tokens: dims.tokens.next_multiple_of(STRIP),
            head_dim: dims.head_dim,
            dimensions: dims.head_dim.next_multiple_of(STRIP),
        }
    }

    /// Floats of a packed operand.
    fn operand(&self) -> usize {
        self.padded_tokens * self.dimensions
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// Scores times this are exponents of 2.
    fn exponent_scale(&self) -> f32 {
        self.scale() * std::f32::consts::LOG2_E
    }
}

/// Which keys the queries of a block see.
#[derive(Clone, Copy)]
struct Seen {
    causal: bool,
    tokens: usize,
}

impl Seen {
    /// Blocks of keys of which some are seen.
    fn key_blocks(&self, query_block: usize) -> usize {
        if self.causal { query_block + 1 } else { self.tokens.div_ceil(STRIP) }
    }

    /// Overwrites the scores of keys that are not seen, in 32 rows of a tile from `column` on.
    #[inline(always)]
    fn fill_unseen<const KEYS: usize>(
        &self,
        query_block: usize,
        key_block: usize,
        rows: &mut [[f32; KEYS]],
        column: usize,
        value: f32,
    ) {
        let keys = (self.tokens - key_block * STRIP).min(STRIP);
        let diagonal = self.causal && query_block == key_block;
        if diagonal || keys < STRIP {
            for (query, row) in rows.iter_mut().enumerate() {
                let keys = if diagonal { keys.min(query + 1) } else { keys };
                row[column + keys..column + STRIP].fill(value);
            }
        }
    }
}

/// A head of `data`, `[batch, tokens, parts, heads, head_dim]`.
fn head(dims: AttentionDims, data: &[f32], parts: usize, part: usize, task: usize) -> HeadRows<'_> {
    let AttentionDims { tokens, heads, head_dim, .. } = dims;
    let stride = parts * dims.width();
    let start = task / heads * tokens * stride + part * dims.width() + task % heads * head_dim;
    HeadRows { data: &data[start..], stride, tokens, head_dim }
}

/// Takes strips off the front of scratch memory.
fn take<'a>(scratch: &mut &'a mut [f32], floats: usize) -> &'a mut [Strip] {
    let (head, tail) = std::mem::take(scratch).split_at_mut(floats);
    *scratch = tail;
    head.as_chunks_mut().0
}

/// The same strips, 32 by 32.
fn blocks(strips: &mut [Strip]) -> &mut [Block] {
    strips.as_chunks_mut().0
}

/// FLOPs of one matrix product of all heads' `[tokens, head_dim]` and its like, over the scores that the mask leaves.
fn products(dims: AttentionDims, mask: Mask) -> f64 {
    let seen = if mask == Mask::Causal { (dims.tokens + 1) as f64 / 2.0 } else { dims.tokens as f64 };
    2.0 * (dims.batch * dims.tokens * dims.width()) as f64 * seen
}

impl AttentionOps for CpuDevice {
    fn attention(&self, qkv: &CpuTensor, heads: usize, mask: Mask) -> Result<Attended<CpuTensor>> {
        let dims = check(qkv.dimensions(), heads)?;
        let AttentionDims { batch, tokens, heads, head_dim } = dims;
        let _timed = self.time("attention", 2.0 * products(dims, mask), 4 * batch * tokens * dims.width());
        let mut output = self.tensor(qkv.shape.with_last(dims.width()));
        let mut logsumexp = self.shaped("attention", &[batch, heads, tokens])?;

        let qkv = qkv.values();
        let sizes = Sizes::new(dims);
        let seen = Seen { causal: mask == Mask::Causal, tokens };
        let (columns, logarithms) = (Scattered::new(&mut output.values), Scattered::new(&mut logsumexp.values));
        // With fewer heads than threads, several tasks work on one head: each on every `splits`-th block of queries.
        let splits = self.threads().div_ceil(batch * heads).min(tokens.div_ceil(STRIP));
        self.for_each_block(batch * heads * splits, usize::MAX, [], |index, []| {
            let (task, split) = (index / splits, index % splits);

            // Pack Q, K, V of this head.
            let mut scratch = self.scratch(3 * sizes.operand() + sizes.dimensions * STRIP);
            let scratch = &mut &mut scratch[..];
            let [queries, keys, values] = [(); 3].map(|()| take(scratch, sizes.operand()));
            let mut packed = forward::Packed { queries: blocks(queries), keys, values: blocks(values) };
            packed.pack([0, 1, 2].map(|part| head(dims, qkv, 3, part, task)));

            let output = blocks(take(scratch, sizes.dimensions * STRIP));
            let mut mixed = forward::Mixed { output, logsumexp: [0.0; STRIP] };
            for block in (split..tokens.div_ceil(STRIP)).step_by(splits) {
                // O and its log-sum-exp for one block of queries, by online softmax.
                forward::forward_block(&packed, sizes, seen, block, &mut mixed);

                // Epilogue: into the rows of the tensors.
                for (query, log) in (0..tokens - block * STRIP).zip(mixed.logsumexp) {
                    let token = block * STRIP + query;
                    let row = (task / heads * tokens + token) * dims.width() + task % heads * head_dim;
                    // SAFETY: this task alone writes these queries' numbers, and the columns of their head.
                    let (row, to) = unsafe { (columns.part(row, head_dim), logarithms.part(task * tokens + token, 1)) };
                    to[0] = log * std::f32::consts::LN_2;
                    for (row, block) in row.chunks_mut(STRIP).zip(mixed.output.iter()) {
                        row.copy_from_slice(&block[query][..row.len()]);
                    }
                }
            }
        });
        Ok(Attended { output, logsumexp })
    }

    fn attention_backward(
        &self,
        dy: &CpuTensor,
        qkv: &CpuTensor,
        output: &CpuTensor,
        logsumexp: &CpuTensor,
        heads: usize,
        mask: Mask,
    ) -> Result<CpuTensor> {
        let (saved, lse) = (output.dimensions(), logsumexp.dimensions());
        let dims = check_backward(dy.dimensions(), qkv.dimensions(), saved, lse, heads)?;
        let floats = 8 * dims.batch * dims.tokens * dims.width();
        let _timed = self.time("attention_backward", 5.0 * products(dims, mask), floats);
        let mut d_qkv = self.tensor(qkv.shape);

        let saved =
            Saved { dy: dy.values(), qkv: qkv.values(), output: output.values(), logsumexp: logsumexp.values() };
        let seen = Seen { causal: mask == Mask::Causal, tokens: dims.tokens };
        let columns = Scattered::new(&mut d_qkv.values);
        self.for_each_block(dims.batch * heads, usize::MAX, [], |task, []| {
            head_backward(self, dims, seen, saved, task, &columns);
        });
        Ok(d_qkv)
    }
}

/// What backward reads.
#[derive(Clone, Copy)]
struct Saved<'a> {
    /// `[batch, tokens, width]`.
    dy: &'a [f32],
    /// `[batch, tokens, 3 · width]`.
    qkv: &'a [f32],
    /// `[batch, tokens, width]`.
    output: &'a [f32],
    /// `[batch, heads, tokens]`.
    logsumexp: &'a [f32],
}

/// One head of one image (task `task` of `batch · heads`): writes its columns of `d_qkv` `[batch, tokens, 3 · width]`.
fn head_backward(
    device: &CpuDevice,
    dims: AttentionDims,
    seen: Seen,
    saved: Saved<'_>,
    task: usize,
    d_qkv: &Scattered<'_>,
) {
    let AttentionDims { tokens, heads, head_dim, .. } = dims;
    let (width, sizes) = (dims.width(), Sizes::new(dims));
    // Sets rows of part 0, 1 or 2 from blocks packed by token, `column` of them above each other.
    let store = |part: usize, first: usize, rows: usize, packed: &[Block], column: usize, factor: f32| {
        for row in 0..rows {
            let token = task / heads * tokens + first + row;
            // SAFETY: this task alone writes the columns of its head in the rows of its image.
            let out = unsafe { d_qkv.part((token * 3 + part) * width + task % heads * head_dim, head_dim) };
            for (out, blocks) in out.chunks_mut(STRIP).zip(packed.chunks_exact(column)) {
                out.iter_mut().zip(&blocks[row / STRIP][row % STRIP]).for_each(|(out, value)| *out = factor * value);
            }
        }
    };

    // Pack the operands, each in the layout in which it is multiplied.
    let panel = BACKWARD_BLOCKS * STRIP;
    let mut scratch = device.scratch(7 * sizes.operand() + 2 * sizes.padded_tokens + sizes.dimensions * panel);
    let scratch = &mut &mut scratch[..];
    let mut operand = || take(scratch, sizes.operand());
    let mut packed = backward::Packed {
        keys: operand(),
        values: operand(),
        queries_by_token: blocks(operand()),
        keys_by_token: blocks(operand()),
        dy_by_token: blocks(operand()),
        d_keys: blocks(operand()),
        d_values: blocks(operand()),
    };
    let dy = head(dims, saved.dy, 1, 0, task);
    packed.pack([0, 1, 2].map(|part| head(dims, saved.qkv, 3, part, task)), dy);

    let [logsumexp, output_dot] = [(); 2].map(|()| take(scratch, sizes.padded_tokens));
    let mut numbers = backward::QueryNumbers { logsumexp, output_dot };
    query_numbers(dims, saved, task, &mut numbers);

    // dQ block by block; dK and dV collect over all blocks.
    let d_queries = blocks(take(scratch, sizes.dimensions * panel));
    for first in (0..tokens).step_by(panel) {
        backward::backward_blocks(&mut packed, &numbers, sizes, seen, first / STRIP, d_queries);
        store(0, first, panel.min(tokens - first), d_queries, BACKWARD_BLOCKS, sizes.scale());
    }
    store(1, 0, tokens, packed.d_keys, sizes.padded_tokens / STRIP, sizes.scale());
    store(2, 0, tokens, packed.d_values, sizes.padded_tokens / STRIP, 1.0);
}

/// Sets each query's log-sum-exp, to base 2, and `D = dO · O`, for one head of one image.
fn query_numbers(dims: AttentionDims, saved: Saved<'_>, task: usize, numbers: &mut backward::QueryNumbers<'_>) {
    let (dy, output) = (head(dims, saved.dy, 1, 0, task), head(dims, saved.output, 1, 0, task));
    for token in 0..dims.tokens.next_multiple_of(STRIP) {
        // Rows of padding have no gradient, whatever their numbers are.
        let in_bounds = token < dims.tokens;
        let log = if in_bounds { saved.logsumexp[task * dims.tokens + token] } else { 0.0 };
        let (strip, lane) = (token / STRIP, token % STRIP);
        numbers.logsumexp[strip][lane] = log * std::f32::consts::LOG2_E;
        numbers.output_dot[strip][lane] = if in_bounds { dot(dy.row(token), output.row(token)) } else { 0.0 };
    }
}
