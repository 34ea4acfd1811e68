//! What moves to the host's memory with `--offload-optimizer`, and what a step pays for it.
//!
//! P parameters on each of N GPUs that share the optimiser out (N = 1 without ZeRO); bytes of each GPU:
//!
//! | | on the host | read over the bus in each step | written |
//! |---|---|---|---|
//! | bf16: two moments and the master weights | 12 P / N | 12 P / N, and with ZeRO 4 P / N to gather weights from | 12 P / N |
//! | f32 without ZeRO: two moments | 8 P | 8 P | 8 P |
//! | f32 with ZeRO: these and the master weights | 12 P / N | 16 P / N | 12 P / N |
//!
//! Without ZeRO the masters of embeddings, norms and biases stay (2 % of iGPT-S). PCI Express carries both directions at
//! once, so the update takes as long as one of them; with `--ema` the average reads the masters once more.

use crate::device::Precision;
use crate::model::{ModelConfig, is_matrix, parameter_specs};

/// Bytes of an optimiser that is on the host, and those that cross the bus in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Offloaded {
    /// In the host's memory, of each GPU.
    pub bytes: f64,
    /// Of them, master weights.
    pub masters: f64,
    /// Read by the update, and as many are written.
    pub update: f64,
    /// Read to gather weights, and to take the average.
    pub read: f64,
}

impl Offloaded {
    /// Of a model on each of `gpus` that share it out at this level of ZeRO.
    pub fn of(config: &ModelConfig, precision: Precision, zero: u8, gpus: f64, ema: bool) -> Self {
        let parameters = config.parameter_count() as f64;
        let shards = if zero > 0 { gpus } else { 1.0 };
        let masters = match (zero, precision) {
            (0, Precision::F32) => 0.0,
            (0, Precision::Bf16) => {
                let specs = parameter_specs(config);
                4.0 * specs.iter().filter(|spec| is_matrix(spec)).map(|spec| spec.elements()).sum::<usize>() as f64
            }
            _ => 4.0 * parameters / shards,
        };
        let bytes = 8.0 * parameters / shards + masters;
        let gathered = if zero > 0 { masters } else { 0.0 };
        let averaged = if ema { masters } else { 0.0 };
        Self { bytes, masters, update: bytes, read: gathered + averaged }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;

    #[test]
    fn moments_and_masters_move() {
        let config = ModelConfig::preset(Preset::L, 32);
        let p = config.parameter_count() as f64;
        let of = |precision, zero, gpus| Offloaded::of(&config, precision, zero, gpus, false);
        assert_eq!(of(Precision::F32, 0, 8.0), Offloaded { bytes: 8.0 * p, masters: 0.0, update: 8.0 * p, read: 0.0 });
        let shared = of(Precision::Bf16, 1, 8.0);
        assert_eq!((shared.bytes, shared.read), (1.5 * p, p / 2.0));
        assert_eq!(of(Precision::F32, 2, 8.0), shared);
        // All but embeddings and norms, 0.2 % of iGPT-L.
        let alone = of(Precision::Bf16, 0, 1.0);
        assert!((alone.bytes / (12.0 * p) - 1.0).abs() < 0.002 && alone.bytes < 12.0 * p, "{alone:?}");
        assert_eq!(Offloaded::of(&config, Precision::Bf16, 0, 1.0, true).read, alone.masters);
    }
}
