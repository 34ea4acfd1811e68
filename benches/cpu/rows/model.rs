//! The models of the rows, with random weights.

use std::sync::OnceLock;

use anyhow::Result;
use igpt_engine::device::CpuDevice;
use igpt_engine::model::{ModelConfig, Preset, Transformer, parameter_specs};
use igpt_engine::tape::Parameters;

/// Pixels along one side, and tokens of an image.
pub const RESOLUTION: usize = 32;
pub const TOKENS: usize = RESOLUTION * RESOLUTION;

/// The device of this process.
pub fn device() -> &'static CpuDevice {
    static DEVICE: OnceLock<CpuDevice> = OnceLock::new();
    DEVICE.get_or_init(|| CpuDevice::new(None).expect("a CPU has a CPU device"))
}

pub fn tiny() -> ModelConfig {
    ModelConfig::preset(Preset::Tiny, RESOLUTION)
}

/// 8 layers × 256, 8 heads.
pub fn small() -> ModelConfig {
    ModelConfig { layers: 8, width: 256, heads: 8, ..tiny() }
}

pub fn s() -> ModelConfig {
    ModelConfig::preset(Preset::S, RESOLUTION)
}

/// The model and its weights.
pub fn with_weights(config: &ModelConfig) -> Result<(Transformer, Parameters<CpuDevice>)> {
    Ok((Transformer::new(config.clone())?, Parameters::init(device(), parameter_specs(config), 0)?))
}

/// Token ids of some images. Any do: no time depends on which they are.
pub fn tokens(config: &ModelConfig, images: usize) -> Vec<u16> {
    (0..images * TOKENS).map(|i| (i * 7919 % config.vocabulary) as u16).collect()
}

/// Useful FLOPs of a forward pass over some images: a third of a training step's.
pub fn forward_flops(config: &ModelConfig, images: usize) -> f64 {
    config.training_flops_per_token(TOKENS) * (images * TOKENS) as f64 / 3.0
}
