//! What a device must do: the fused ops of an Image GPT, each with its backward.
//!
//! Everything above (tape, model, training, sampling) is generic over [`Device`]; nothing below knows a model. Each op
//! has one name and one file to read it in: `ops/layernorm.rs` holds its trait, its results and its shape check,
//! `cpu/layernorm.rs` and `cuda/layernorm.rs` implement the trait, `kernels/layernorm.cu` is what the GPU runs, and
//! `tests/kernels/ops` has its row of the op table. Both devices follow one pattern: check the shapes, take the memory,
//! compute.
//!
//! ```text
//! shape_check, tensors              what all ops share
//! capture, beside                   what a device does with many of them: recorded, or beside others
//! ops/                               one file per op
//! cpu/  cuda/                        the devices
//! nvml/                              a card's sensors
//! ```
//!
//! Shape letters: `B` images, `T` tokens per image, `R = B·T` rows, `d` width, `H` heads, `V` colours.

mod beside;
mod beta;
pub mod capture;
pub mod cpu;
pub mod cuda;
mod error;
mod gemm_rate;
mod memory_use;
pub mod nvml;
pub mod ops;
mod precision;
pub mod select;
mod shape;
pub mod shape_check;
mod tensors;
pub(crate) mod tokens;

pub use beside::Beside;
pub use beta::Beta;
pub use capture::Capture;
pub use cpu::CpuDevice;
pub use cuda::CudaDevice;
pub use error::{Error, Result};
pub use gemm_rate::GemmRate;
pub use memory_use::MemoryUse;
pub use ops::adam::{AdamOps, AdamStep, Clip};
pub use ops::attention::{Attended, AttentionOps, Mask};
pub use ops::attention_decode::{AttentionDecodeOps, CacheDims};
pub use ops::attention_prefill::AttentionPrefillOps;
pub use ops::cross_entropy::{CrossEntropy, CrossEntropyOps};
pub use ops::elementwise::ElementwiseOps;
pub use ops::ema::EmaOps;
pub use ops::embedding::{BLANK, EmbeddingOps};
pub use ops::global_norm::{GlobalNormOps, NORM_BLOCK, VERDICT};
pub use ops::lap::{LapOps, stopwatch};
pub use ops::layernorm::{
    LayerNormOps, LayerNormed, NORM_EPSILON, Norm, NormGradients, PartialSum, ResidualLayerNormed,
};
pub use ops::linear::{LinearOps, WeightGradient, WeightLayout};
pub use ops::mean_pool::MeanPoolOps;
pub use ops::mlp::{Activation, HiddenGradients, MlpGradients, MlpOps, MlpOutput, MlpWeights};
pub use ops::residual::{ResidualMlpOutput, ResidualNorm, ResidualOps};
pub use ops::sample::{SampleOps, SampleOptions};
pub use ops::spike::{RECENT, SpikeOps};
pub use precision::Precision;
pub use shape_check::ShapeError;
pub use tensors::{GpuMemory, Tensors};

/// Raised when an op's results have other bits than before: what was begun with the old ones does not go on with the new.
pub const ARITHMETIC: u32 = 3;

/// Every trait of a device, for code that names one device: `use device::prelude::*`. Generic code says [`Device`].
pub mod prelude {
    pub use super::{
        AdamOps, AttentionDecodeOps, AttentionOps, AttentionPrefillOps, Beside, Capture, CrossEntropyOps, Device,
        ElementwiseOps, EmaOps, EmbeddingOps, GlobalNormOps, LapOps, LayerNormOps, LinearOps, MeanPoolOps, MlpOps,
        ResidualOps, SampleOps, SpikeOps, Tensors,
    };
}

/// What holds tensors and computes the ops of an Image GPT on them.
///
/// Tensors that a method returns are new; `&mut` gradients are stored or accumulated into, as [`Beta`] says; nothing else changes. All ops
/// are deterministic: the same inputs on the same device with the same thread count give the same bits.
pub trait Device:
    Tensors
    + Beside
    + Capture
    + ElementwiseOps
    + EmbeddingOps
    + LapOps
    + LayerNormOps
    + LinearOps
    + MlpOps
    + ResidualOps
    + AttentionOps
    + AttentionDecodeOps
    + AttentionPrefillOps
    + CrossEntropyOps
    + MeanPoolOps
    + GlobalNormOps
    + AdamOps
    + EmaOps
    + SampleOps
    + SpikeOps
{
}

impl Device for CpuDevice {}
impl Device for CudaDevice {}
