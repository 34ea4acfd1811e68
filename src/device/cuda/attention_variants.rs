//! Which kernels of attention a head's width and a card's shared memory take.
//!
//! A block's shared memory decides how many blocks a multiprocessor holds at once. While one waits the other computes; the
//! registers of these kernels hold no third. So stages of the backward are as long as two blocks can have them, which on a card with
//! less shared memory is shorter. A stage's length cuts no sum: its chunks follow one another as those of a longer one do.
//!
//! Without a variant for less memory: the forward, whose stage is what the online softmax takes at once, so that another has other
//! bits (as that of compute capability 9.0 has, in `attention_sm90.rs`); f32, which is for checking; and the passes of which no stage makes two blocks fit: with 99 KB that of the queries of 128
//! columns and both of 192, with 163 KB that of the queries of 192. Nor is there one with a third stage in flight for cards with
//! more: two blocks have 64 KB under way while a multiprocessor gets about 24 bytes a clock from L2 (H100), so what arrives was
//! asked for 2,700 clocks before, three times the way to memory.

use super::CudaDevice;
use super::kernel::{Kernel, kernel};
use super::limits::{LARGE, MEDIUM, SMALLEST, blocks_of, shared_of};
use super::pointer::Pointer;
use crate::device::{Error, Precision, Result};

pub(super) type Forward = Kernel<(Pointer, Pointer, Pointer, i32, i32, i32, i32, f32)>;
pub(super) type Backward = Kernel<(Pointer, Pointer, Pointer, Pointer, Pointer, Pointer, i32, i32, i32, i32, f32)>;

/// Kernels for heads of up to `columns` columns on cards whose blocks may have `limit` bytes of shared memory or more, and the
/// tiles they were built with.
pub(super) struct Variant {
    columns: usize,
    limit: usize,
    precision: Precision,
    /// Queries of a block of the forward, and keys of a stage.
    pub tile: [usize; 2],
    pub forward: Forward,
    pub keys: Pass,
    pub queries: Pass,
}

/// One of the two kernels of the backward.
pub(super) struct Pass {
    pub kernel: Backward,
    /// Columns of a stage.
    stage: usize,
    /// Blocks that a multiprocessor must have shared memory for.
    blocks: usize,
}

const fn pass(kernel: Backward, stage: usize, blocks: usize) -> Pass {
    Pass { kernel, stage, blocks }
}

const fn f32(columns: usize, forward: Forward, keys: Backward, queries: Backward) -> Variant {
    let (keys, queries) = (pass(keys, 32, 1), pass(queries, 32, 1));
    Variant { columns, limit: SMALLEST, precision: Precision::F32, tile: [32, 32], forward, keys, queries }
}
const F32: [Variant; 5] = [
    f32(
        32,
        kernel!(ATTENTION_F32_32),
        kernel!(ATTENTION_BACKWARD_KEYS_F32_32),
        kernel!(ATTENTION_BACKWARD_QUERIES_F32_32),
    ),
    f32(
        64,
        kernel!(ATTENTION_F32_64),
        kernel!(ATTENTION_BACKWARD_KEYS_F32_64),
        kernel!(ATTENTION_BACKWARD_QUERIES_F32_64),
    ),
    f32(
        96,
        kernel!(ATTENTION_F32_96),
        kernel!(ATTENTION_BACKWARD_KEYS_F32_96),
        kernel!(ATTENTION_BACKWARD_QUERIES_F32_96),
    ),
    f32(
        128,
        kernel!(ATTENTION_F32_128),
        kernel!(ATTENTION_BACKWARD_KEYS_F32_128),
        kernel!(ATTENTION_BACKWARD_QUERIES_F32_128),
    ),
    f32(
        192,
        kernel!(ATTENTION_F32_192),
        kernel!(ATTENTION_BACKWARD_KEYS_F32_192),
        kernel!(ATTENTION_BACKWARD_QUERIES_F32_192),
    ),
];

const fn bf16(columns: usize, limit: usize, tile: [usize; 2], forward: Forward, keys: Pass, queries: Pass) -> Variant {
    Variant { columns, limit, precision: Precision::Bf16, tile, forward, keys, queries }
}
// Tiles as in the KERNEL_BF16 lines of attention.cu (4 warps of 16 or 32 queries) and attention_backward.cu. Of one width, those
// for more shared memory first.
const BF16: [Variant; 11] = [
    bf16(
        16,
        SMALLEST,
        [64, 64],
        kernel!(ATTENTION_BF16_16),
        pass(kernel!(ATTENTION_BACKWARD_KEYS_BF16_16), 64, 3),
        pass(kernel!(ATTENTION_BACKWARD_QUERIES_BF16_16), 64, 3),
    ),
    bf16(
        32,
        SMALLEST,
        [128, 64],
        kernel!(ATTENTION_BF16_32),
        pass(kernel!(ATTENTION_BACKWARD_KEYS_BF16_32), 64, 2),
        pass(kernel!(ATTENTION_BACKWARD_QUERIES_BF16_32), 64, 2),
    ),
    bf16(
        64,
        SMALLEST,
        [128, 64],
        kernel!(ATTENTION_BF16_64),
        pass(kernel!(ATTENTION_BACKWARD_KEYS_BF16_64), 64, 2),
        pass(kernel!(ATTENTION_BACKWARD_QUERIES_BF16_64), 64, 2),
    ),
    bf16(
        96,
        MEDIUM,
        [64, 64],
        kernel!(ATTENTION_BF16_96),
        pass(kernel!(ATTENTION_BACKWARD_KEYS_BF16_96), 64, 2),
        pass(kernel!(ATTENTION_BACKWARD_QUERIES_BF16_96), 64, 2),
    ),
    bf16(
        96,
        SMALLEST,
        [64, 64],
        kernel!(ATTENTION_BF16_96),
        pass(kernel!(ATTENTION_BACKWARD_KEYS_BF16_96_BY_32), 32, 2),
        pass(kernel!(ATTENTION_BACKWARD_QUERIES_BF16_96_BY_32), 32, 2),
    ),
    bf16(
        128,
        LARGE,
        [64, 64],
        kernel!(ATTENTION_BF16_128),
        pass(kernel!(ATTENTION_BACKWARD_KEYS_BF16_128), 64, 2),
        pass(kernel!(ATTENTION_BACKWARD_QUERIES_BF16_128), 64, 2),
    ),
    bf16(
        128,
        MEDIUM,
        [64, 64],
        kernel!(ATTENTION_BF16_128),
        pass(kernel!(ATTENTION_BACKWARD_KEYS_BF16_128_BY_32), 32, 2),
        pass(kernel!(ATTENTION_BACKWARD_QUERIES_BF16_128_BY_32), 32, 2),
    ),
    bf16(
        128,
        SMALLEST,
        [64, 64],
        kernel!(ATTENTION_BF16_128),
        pass(kernel!(ATTENTION_BACKWARD_KEYS_BF16_128_BY_16), 16, 2),
        pass(kernel!(ATTENTION_BACKWARD_QUERIES_BF16_128), 64, 1),
    ),
    bf16(
        192,
        LARGE,
        [64, 32],
        kernel!(ATTENTION_BF16_192),
        pass(kernel!(ATTENTION_BACKWARD_KEYS_BF16_192), 32, 2),
        pass(kernel!(ATTENTION_BACKWARD_QUERIES_BF16_192), 32, 2),
    ),
    bf16(
        192,
        MEDIUM,
        [64, 32],
        kernel!(ATTENTION_BF16_192),
        pass(kernel!(ATTENTION_BACKWARD_KEYS_BF16_192_BY_16), 16, 2),
        pass(kernel!(ATTENTION_BACKWARD_QUERIES_BF16_192), 32, 1),
    ),
    bf16(
        192,
        SMALLEST,
        [64, 32],
        kernel!(ATTENTION_BF16_192),
        pass(kernel!(ATTENTION_BACKWARD_KEYS_BF16_192), 32, 1),
        pass(kernel!(ATTENTION_BACKWARD_QUERIES_BF16_192), 32, 1),
    ),
];

/// That each kernel has the shared memory it takes on the cards it is for, with as many blocks a multiprocessor as it is meant to.
const fn all_fit(variants: &[Variant]) -> bool {
    let mut index = 0;
    while index < variants.len() {
        let variant = &variants[index];
        if shared_of(&variant.forward, variant.forward_shared()) > variant.limit {
            return false;
        }
        let passes = [&variant.keys, &variant.queries];
        let mut pass = 0;
        while pass < passes.len() {
            let shared = shared_of(&passes[pass].kernel, variant.backward_shared(passes[pass]));
            if shared > variant.limit || blocks_of(variant.limit, shared) < passes[pass].blocks {
                return false;
            }
            pass += 1;
        }
        index += 1;
    }
    true
}
const _: () = assert!(all_fit(&F32), "a variant of attention in f32 needs more shared memory than its cards have");
const _: () = assert!(all_fit(&BF16), "a variant of attention in bf16 needs more shared memory than its cards have");

impl Variant {
    /// Those for a head of this width on this card.
    pub(super) fn of(device: &CudaDevice, head_dim: usize) -> Result<&'static Self> {
        let variants: &[Self] = match device.precision {
            Precision::F32 => &F32,
            Precision::Bf16 => &BF16,
        };
        let limit = device.driver.shared_limit;
        let fits = |variant: &&Self| head_dim <= variant.columns && variant.limit <= limit;
        variants.iter().find(fits).ok_or_else(|| {
            let max_columns = variants.iter().map(|variant| variant.columns).max().unwrap_or(0);
            Error::unavailable(
                format!("attention: heads of {head_dim} columns are wider than the {max_columns} of the CUDA kernels"),
                "use more heads",
            )
        })
    }

    /// Dynamic shared memory of the forward, in bytes.
    pub(super) const fn forward_shared(&self) -> usize {
        let [queries, keys] = self.tile;
        match self.precision {
            Precision::F32 => 3 * 32 * (self.columns + 4) * 4,
            Precision::Bf16 => (queries + 4 * keys) * self.columns * 2,
        }
    }

    /// Rows that a block of the backward owns.
    pub(super) const fn backward_rows(&self) -> usize {
        match self.precision {
            Precision::F32 => 32,
            Precision::Bf16 => 64,
        }
    }

    /// Dynamic shared memory of one kernel of the backward, in bytes.
    pub(super) const fn backward_shared(&self, pass: &Pass) -> usize {
        match self.precision {
            Precision::F32 => 4 * 32 * (self.columns + 4) * 4 + 2 * 32 * 4,
            Precision::Bf16 => (2 * 64 + 4 * pass.stage) * self.columns * 2 + 4 * pass.stage * 4,
        }
    }
}
