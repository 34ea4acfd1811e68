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

use super::shares::Shares;
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
    /// Read to take the average, which the update does too.
    pub averaged: f64,
    /// Read to gather weights, before the next step.
    pub gathered: f64,
}

impl Offloaded {
    /// Of a model on each of the GPUs that share it so, were its optimiser on the host.
    pub fn of(config: &ModelConfig, precision: Precision, shares: Shares, ema: bool) -> Self {
        let parameters = config.parameter_count() as f64;
        let shards = if shares.zero > 0 { shares.ranks as f64 } else { 1.0 };
        let masters = match (shares.zero, precision) {
            (0, Precision::F32) => 0.0,
            (0, Precision::Bf16) => {
                let specs = parameter_specs(config);
                4.0 * specs.iter().filter(|spec| is_matrix(spec)).map(|spec| spec.elements()).sum::<usize>() as f64
            }
            _ => 4.0 * parameters / shards,
        };
        let bytes = 8.0 * parameters / shards + masters;
        let averaged = if ema { masters } else { 0.0 };
        let gathered = if shares.zero > 0 { masters } else { 0.0 };
        Self { bytes, masters, update: bytes, averaged, gathered }
    }

    /// Seconds that an update takes longer than with all of it in the device's `memory`, where the `bus` carries as many bytes per second
    /// each way as that: nothing is computed meanwhile, since the update stands between two steps.
    pub fn longer(&self, bus: f64, memory: f64) -> f64 {
        let Self { update, averaged, .. } = self;
        (update + averaged) / bus - (2.0 * update + averaged) / memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::Reduction;
    use crate::model::Preset;

    #[test]
    fn moments_and_masters_move() {
        let config = ModelConfig::preset(Preset::L, 32);
        let p = config.parameter_count() as f64;
        let of = |precision, zero, ranks, ema| {
            let shares = Shares { ranks, zero, reduction: Reduction::Repeatable, offload: true };
            Offloaded::of(&config, precision, shares, ema)
        };
        let whole = Offloaded { bytes: 8.0 * p, update: 8.0 * p, ..Offloaded::default() };
        assert_eq!(of(Precision::F32, 0, 8, false), whole);
        let shared = of(Precision::Bf16, 1, 8, false);
        assert_eq!((shared.bytes, shared.gathered), (1.5 * p, p / 2.0));
        assert_eq!(of(Precision::F32, 2, 8, false), shared);
        // All but embeddings and norms, 0.2 % of iGPT-L.
        let alone = of(Precision::Bf16, 0, 1, true);
        assert!((alone.bytes / (12.0 * p) - 1.0).abs() < 0.002 && alone.bytes < 12.0 * p, "{alone:?}");
        assert_eq!((alone.averaged, alone.gathered), (alone.masters, 0.0));

        // Each way over the bus, in place of both over the memory.
        assert_eq!(whole.longer(8.0, 64.0), p - p / 4.0);
        assert_eq!(alone.longer(1.0, f64::INFINITY), alone.update + alone.masters);
    }
}
