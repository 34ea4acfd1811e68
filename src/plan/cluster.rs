//! What a step of several GPUs is predicted to take, from rates that are assumed.
//!
//! P parameters, N GPUs, k micro-batches on each, L layers, d width, T tokens per image; bytes of an element: 2 in bf16, 4 in f32.
//!
//! | part | seconds |
//! |---|---|
//! | a micro-batch | its useful FLOPs, and those of what is computed again, at [`Speed::flops`]; 17 L + 14 launches, [`Speed::gap`] apart |
//! | computed again, per token | norms: a pass over two norms of each layer, 4 L d elements; norms-mlp: also 8 L d² FLOPs; block: 24 L d² FLOPs and the forward pass of attention |
//! | gradients of another micro-batch | 8 P bytes of memory: read and written |
//! | the update | 34 P bytes of memory (32 P in f32), or the Nth part with ZeRO: gradients are read twice, moments and weights are read and written, and copies in bf16 written |
//! | with the optimiser on the host | what the update has there crosses the bus at [`Speed::bus`] in place of the memory's rate, with nothing computed meanwhile; with ZeRO weights are read there to be gathered |
//! | gradients to the others | 4 P (N − 1) / N bytes at [`Speed::wire`], once a step; twice without ZeRO, since what is scattered is gathered too; with ZeRO-2 and `exact` once for every micro-batch |
//! | weights to the others | with ZeRO: P (N − 1) / N elements |
//!
//! **Exposed** is what computing does not hide: gradients travel while the backward pass of their micro-batch runs (two thirds of it,
//! and what is computed again), weights while the first forward pass of the next step does (one third).

use serde::Serialize;

use super::offload::Offloaded;
use crate::comm::Reduction;
use crate::device::Precision;
use crate::model::ModelConfig;
use crate::tape::Recompute;

/// Seconds between two launches of a graph, as `profile` has it.
pub const GAP: f64 = 0.58e-6;

/// Rates of a GPU and of its way to the others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Speed {
    /// FLOP/s that a step reaches.
    pub flops: f64,
    /// Bytes per second of its memory.
    pub memory: f64,
    /// Seconds between two launches.
    pub gap: f64,
    /// Bytes per second that a GPU sends in a collective of all: what NCCL calls bus bandwidth.
    pub wire: f64,
    /// Bytes per second in each direction between it and the host: see [`DeviceModel::to_host`](super::DeviceModel::to_host).
    pub bus: f64,
}

/// One way to divide a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub gpus: usize,
    pub zero: u8,
    pub micro_batch: usize,
    /// On each GPU.
    pub micro_batches: usize,
    pub recompute: Recompute,
    /// What of the optimiser is on the host.
    pub offloaded: Offloaded,
}

/// Predicted seconds of a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Times {
    /// The useful FLOPs alone.
    pub useful: f64,
    /// Computing, the update included.
    pub compute: f64,
    /// Of that, what the update takes longer because the optimiser is on the host.
    pub bus: f64,
    /// Gradients and weights on their way.
    pub communication: f64,
    /// What computing does not hide of that.
    pub exposed: f64,
    /// The step.
    pub step: f64,
}

/// FLOPs and elements of memory that computing again costs, per token.
fn again(config: &ModelConfig, recompute: Recompute) -> [f64; 2] {
    let [layers, width, length] = [config.layers, config.width, config.positions].map(|size| size as f64);
    let attention = if config.sos { 2.0 } else { 4.0 };
    match recompute {
        Recompute::None => [0.0, 0.0],
        Recompute::Norms => [0.0, 4.0 * layers * width],
        Recompute::NormsMlp => [8.0 * layers * width * width, 4.0 * layers * width],
        Recompute::Block => [layers * (24.0 * width * width + attention * length * width), 0.0],
    }
}

impl Times {
    /// Of one way.
    pub(super) fn of(config: &ModelConfig, precision: Precision, reduction: Reduction, speed: Speed, way: Way) -> Self {
        let Way { gpus, zero, micro_batch, micro_batches, recompute, offloaded } = way;
        let (parameters, element) = (config.parameter_count() as f64, precision.bytes() as f64);
        let (gpus, count) = (gpus as f64, micro_batches as f64);

        // Computing.
        let tokens = (micro_batch * config.positions) as f64;
        let [more_flops, more_elements] = again(config, recompute);
        let useful = config.training_flops_per_token(config.positions) * tokens / speed.flops;
        let more = tokens * (more_flops / speed.flops + more_elements * element / speed.memory);
        let launches = speed.gap * (17 * config.layers + 14) as f64;
        let shards = if zero > 0 { gpus } else { 1.0 };
        let update = if precision == Precision::Bf16 { 34.0 } else { 32.0 };
        let moved = (count - 1.0) * 8.0 * parameters + update * parameters / shards;
        let bus = offloaded.longer(speed.bus, speed.memory);
        let compute = count * (useful + more + launches) + moved / speed.memory + bus;

        // Sending, each part behind what hides it.
        let apart = (gpus - 1.0) / gpus / speed.wire;
        let (gradients, weights) = (4.0 * parameters * apart, element * parameters * apart);
        let (backward, forward) = (useful * 2.0 / 3.0 + more, useful / 3.0);
        let rounds = if zero == 2 || reduction == Reduction::Exact { count } else { 1.0 };
        let gathered = if zero == 0 { gradients } else { 0.0 };
        let weights = if zero == 0 { 0.0 } else { weights + offloaded.gathered / speed.bus };

        let communication = rounds * gradients + gathered + weights;
        let late = |seconds: f64, behind: f64| (seconds - behind).max(0.0);
        let exposed =
            (rounds - 1.0) * late(gradients, backward) + late(gradients + gathered, backward) + late(weights, forward);
        Self { useful: count * useful, compute, bus, communication, exposed, step: compute + exposed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;
    use crate::plan::Shares;

    /// The arithmetic by hand: iGPT-L at 64 GPUs of 45 GB/s, 2 images each, at half of an H100's peak.
    #[test]
    fn gradients_and_weights_hide_behind_the_step() {
        let config = ModelConfig::preset(Preset::L, 32);
        let speed = Speed { flops: 0.5 * 989e12, memory: f64::INFINITY, gap: 0.0, wire: 45e9, bus: 50e9 };
        let (recompute, offloaded) = (Recompute::None, Offloaded::default());
        let way = Way { gpus: 64, zero: 1, micro_batch: 2, micro_batches: 1, recompute, offloaded };
        let times = Times::of(&config, Precision::Bf16, Reduction::Repeatable, speed, way);
        let milliseconds = |seconds: f64| (seconds * 1e4).round() / 10.0;
        assert_eq!(milliseconds(times.compute), 35.7);
        // 4 P and 2 P, 63/64 of them: 119.2 and 59.6 ms, behind 23.8 and 11.9 ms.
        assert_eq!(milliseconds(times.communication), 178.8);
        assert_eq!(milliseconds(times.exposed), 143.1);

        // Over NVLink all of it is hidden, and alone there is nothing to send.
        let fast = Times::of(&config, Precision::Bf16, Reduction::Repeatable, Speed { wire: 350e9, ..speed }, way);
        assert_eq!((fast.exposed, milliseconds(fast.communication)), (0.0, 23.0));
        let alone = Times::of(&config, Precision::Bf16, Reduction::Exact, speed, Way { gpus: 1, zero: 0, ..way });
        assert_eq!((alone.communication, alone.step), (0.0, alone.compute));
    }

    /// The optimiser of iGPT-L on the host of one card: 12 P bytes each way at 50 GB/s, in the place of 24 P at the memory's rate.
    #[test]
    fn an_optimiser_on_the_host_costs_the_bus() {
        let config = ModelConfig::preset(Preset::L, 32);
        let speed = Speed { flops: 0.4 * 989e12, memory: 3.35e12, gap: 0.0, wire: 350e9, bus: 50e9 };
        let times = |offload: bool, zero: u8, gpus: usize| {
            let shares = Shares { ranks: gpus, zero, reduction: Reduction::Repeatable, offload };
            let offloaded = match offload {
                true => Offloaded::of(&config, Precision::Bf16, shares, false),
                false => Offloaded::default(),
            };
            let way = Way { gpus, zero, micro_batch: 16, micro_batches: 1, recompute: Recompute::None, offloaded };
            Times::of(&config, Precision::Bf16, Reduction::Repeatable, speed, way)
        };
        let more = |zero, gpus| times(true, zero, gpus).compute - times(false, zero, gpus).compute;
        let p = config.parameter_count() as f64;
        let expected = |gpus: f64| 12.0 * p / gpus * (1.0 / 50e9 - 2.0 / 3.35e12);
        assert!((more(0, 1) / expected(1.0) - 1.0).abs() < 0.002, "{}", more(0, 1));
        assert!((more(1, 8) / expected(8.0) - 1.0).abs() < 1e-9, "{}", more(1, 8));
        assert!((more(1, 8) / times(true, 1, 8).bus - 1.0).abs() < 1e-9 && times(false, 1, 8).bus == 0.0);
        let sent = times(true, 1, 8).communication - times(false, 1, 8).communication;
        assert!((sent / (p / 2.0 / 50e9) - 1.0).abs() < 1e-9, "{sent}");
    }

    #[test]
    fn computing_a_block_again_costs_a_third_and_the_mlp_a_ninth() {
        for (preset, resolution) in [(Preset::L, 32), (Preset::Xl, 64)] {
            let config = ModelConfig::preset(preset, resolution);
            let useful = config.training_flops_per_token(config.positions);
            let share = |recompute| again(&config, recompute)[0] / useful;
            assert_eq!(share(Recompute::Norms), 0.0);
            assert!((0.09..0.112).contains(&share(Recompute::NormsMlp)), "{}", share(Recompute::NormsMlp));
            assert!((0.32..0.334).contains(&share(Recompute::Block)), "{}", share(Recompute::Block));
        }
    }
}
