//! Bytes of a run, by class.

use serde::Serialize;

use crate::device::Precision;
use crate::model::ModelConfig;
use crate::tape::Recompute;

/// What the memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Training: forward, backward, update.
    Training,
    /// The forward pass alone: scoring images, or reading features.
    Forward,
    /// Sampling images token by token with cached keys and values.
    Sampling,
}

/// Bytes on one device, by class. On a GPU they are counted ([`Load::on_gpu`](super::Load::on_gpu)); on the CPU, and of what the
/// backward pass reads everywhere, they follow from sizes. P parameters, R tokens at a time (images·n), d width, L layers, H heads, V colours; an
/// element has 4 bytes in f32 and 2 in bf16:
///
/// | class | training | forward alone | sampling |
/// |---|---|---|---|
/// | weights | 4 P; bf16: 4 P master, 2 P to compute with | the same | the same |
/// | gradients | 4 P | | |
/// | moments | 8 P | | |
/// | average | 4 P, of a run with `--ema` | | |
/// | activations | per token: 2 d, and L·12 d: two residual streams and their norms (4 d), queries, keys and values (3 d), attention's output (d), the MLP's hidden layer (4 d); V for the logits. In f32 always: statistics of each norm (2), log-sum-exps (H per layer), nats and weights (2). Less with `--recompute`: norms keeps d, and L·10 d; norms-mlp d, and L·6 d; block d, and L·d, and neither statistics nor log-sum-exps | | keys and values of every block, L·2 d; on the CPU, with `--precision bf16`, in bf16 |
/// | workspace | while the last block's MLP goes backward: its activation and gradient (8 d), the gradient of the stream (d); less what is free by then, two streams (2 d) and the logits; at least d; and what a GEMM packs operands into, at most 4 MiB of each | 11 d: the stream, its norm, the hidden layer twice, the output; or the features and the logits (d + V; their gradient overwrites them), if that is more. What is computed again comes on top: a norm (d); norms-mlp the hidden layer too (4 d); block all of the last block (10 d and its share in f32) | in f32, and on the CPU with `--precision bf16` in bf16, the weights once more, as the CPU reads them; 12 d a token of one prompt |
///
/// Scores of attention are never stored, on either device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Memory {
    /// Weights.
    pub weights: f64,
    /// Their gradients.
    pub gradients: f64,
    /// Adam's two moments.
    pub moments: f64,
    /// What the forward pass leaves for the backward pass, or for the tokens to come.
    pub activations: f64,
    /// What is needed on top for a short while.
    pub workspace: f64,
    /// The moving average of the weights, of training with one: 4 P.
    pub average: f64,
    /// Of training on a GPU: what validation, samples and the check of a checkpoint need beyond the memory of a step, which they
    /// borrow. On the CPU: what a validation of more images at a time than a micro-batch has takes.
    pub evaluation: f64,
    /// What ranks exchange buckets of gradients and weights in; nothing of one process.
    pub exchange: f64,
    /// Of the host, beside that: moments and master weights of a run with `--offload-optimizer` on a GPU.
    pub host: f64,
}

impl Memory {
    /// Of `work` on `tokens` tokens at a time: of training, those of a micro-batch.
    pub fn of(config: &ModelConfig, work: Work, tokens: f64, precision: Precision) -> Self {
        let parameters = config.parameter_count() as f64;
        let [layers, width, colours] = [config.layers, config.width, config.vocabulary].map(|size| size as f64);
        let (element, weights) = element_and_weights(parameters, precision);

        match work {
            Work::Training => Self::training(config, tokens, precision, Recompute::None),
            Work::Forward => {
                let workspace = tokens * element * (11.0 * width).max(width + colours);
                Memory { weights, workspace, ..Memory::default() }
            }
            Work::Sampling if precision == Precision::F32 => Self::drawing_on_cpu(config, tokens, precision),
            Work::Sampling => {
                let activations = element * tokens * layers * 2.0 * width;
                let workspace = element * config.positions as f64 * 12.0 * width;
                Memory { weights, activations, workspace, ..Memory::default() }
            }
        }
    }

    /// Of drawing on the CPU, with keys, values and the second copy of the weights in `drawing`.
    pub fn drawing_on_cpu(config: &ModelConfig, tokens: f64, drawing: Precision) -> Self {
        let parameters = config.parameter_count() as f64;
        let [layers, width, positions] = [config.layers, config.width, config.positions].map(|size| size as f64);
        let stored = drawing.bytes() as f64;
        Memory {
            weights: 4.0 * parameters,
            activations: stored * tokens * layers * 2.0 * width,
            workspace: stored * parameters + 4.0 * positions * 12.0 * width,
            ..Memory::default()
        }
    }

    /// Of training on micro-batches of `tokens` tokens, that computes again as much as it is told to.
    pub fn training(config: &ModelConfig, tokens: f64, precision: Precision, recompute: Recompute) -> Self {
        let parameters = config.parameter_count() as f64;
        let [layers, width, heads, colours] =
            [config.layers, config.width, config.heads, config.vocabulary].map(|size| size as f64);
        let (element, weights) = element_and_weights(parameters, precision);

        // Kept beside the blocks, and what is computed again at a time: values of the width; f32 of both.
        let of_block = heads + 4.0;
        let ([rest, again], [block_f32, again_f32]) = match recompute {
            Recompute::None => ([2.0, 0.0], [of_block, 0.0]),
            Recompute::Norms => ([1.0, 1.0], [of_block, 0.0]),
            Recompute::NormsMlp => ([1.0, 5.0], [of_block, 0.0]),
            Recompute::Block => ([1.0, 10.0], [0.0, of_block]),
        };
        let kept = (layers * recompute.kept() as f64 + rest) * width + colours;
        let always_f32 = 2.0 + layers * block_f32 + 2.0;

        // The streams and logits that are free by the time of the last block's MLP.
        let workspace = ((9.0 + again - rest) * width - colours).max(width);
        Memory {
            weights,
            gradients: 4.0 * parameters,
            moments: 8.0 * parameters,
            activations: tokens * (element * kept + 4.0 * always_f32),
            workspace: tokens * (element * workspace + 4.0 * again_f32),
            average: 0.0,
            evaluation: 0.0,
            exchange: 0.0,
            host: 0.0,
        }
    }

    /// All of it on the device.
    pub fn total(&self) -> f64 {
        let Self { weights, gradients, moments, average, activations, workspace, evaluation, exchange, host: _ } = self;
        weights + gradients + moments + average + activations + workspace + evaluation + exchange
    }
}

/// Bytes of an element, and of all weights.
fn element_and_weights(parameters: f64, precision: Precision) -> (f64, f64) {
    match precision {
        Precision::F32 => (4.0, 4.0 * parameters),
        Precision::Bf16 => (2.0, 6.0 * parameters),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::CpuDevice;
    use crate::device::cpu::gemm_scratch;
    use crate::model::{ObjectiveBatch, Transformer, parameter_specs};
    use crate::named::Named;
    use crate::optim::{Adam, AdamConfig};
    use crate::sample::Decoder;
    use crate::tape::{Forward, NoTape, Parameters, Tape};

    /// The CPU device's peak over a step is what the formula says, to 5 %, and what a GEMM packs operands into, if one runs at the peak. It leaves out rounding up to cache lines.
    #[test]
    fn the_cpu_device_allocates_what_is_planned() {
        let shapes = [(3, 64, 4, 16, 4), (6, 128, 2, 16, 2), (2, 192, 3, 8, 24)];
        let levels = Recompute::VALUES.iter().map(|level| level.value);
        let cases = levels.flat_map(|level| shapes.map(|shape| (level, shape)));
        for (recompute, (layers, width, heads, side, images)) in cases {
            let config = ModelConfig {
                layers,
                width,
                heads,
                positions: side * side,
                ..ModelConfig::preset(crate::model::Preset::Tiny, side)
            };
            let device = CpuDevice::new(Some(2)).unwrap();

            let length = side * side;
            let tokens: Vec<u16> = (0..images * length).map(|token| (token * 7 % 512) as u16).collect();
            let model = Transformer::new(config.clone()).unwrap();
            let what = format!("{recompute}, {layers} x {width}");
            let mut parameters = Parameters::init(&device, parameter_specs(&config), 0).unwrap();
            let mut adam = Adam::new(&device, &parameters, AdamConfig::default()).unwrap();
            let mut gradients = parameters.zeros_like(&device).unwrap();

            let plan = Memory::training(&config, (images * length) as f64, Precision::F32, recompute);
            let at_rest = device.memory_use().in_use as f64;
            let planned_at_rest = plan.weights + plan.gradients + plan.moments;
            assert!((at_rest / planned_at_rest - 1.0).abs() < 0.01, "{at_rest} at rest, planned {planned_at_rest}");

            // One step.
            let batch = ObjectiveBatch::autoregressive(&device, &tokens, length, model.sos(), 1.0).unwrap();
            let mut tape = Tape::recomputing(recompute);
            let loss = model.loss(&mut Forward::new(&device, &parameters, &mut tape), &batch).unwrap();
            let kept = device.memory_use().in_use as f64 - at_rest;
            println!("{what}: {kept} kept, planned {}", plan.activations);
            assert!((kept / plan.activations - 1.0).abs() < 0.05, "{what}: {kept} kept, planned {}", plan.activations);

            drop(loss);
            tape.backward(&device, &parameters, &mut gradients).unwrap();
            adam.update(&device, &mut parameters, &gradients, 1e-3).unwrap();
            let (peak, packed) = (device.memory_use().peak as f64, 4.0 * gemm_scratch() as f64);
            let most = 1.05 * plan.total() + packed;
            println!("{what}: peak {peak}, planned {}, packed {packed}", plan.total());
            assert!(peak > 0.95 * plan.total() && peak < most, "{what}: peak {peak}, planned {plan:?}");
        }
    }

    /// Scoring on the CPU device needs what is planned for the forward pass alone, to 10 %, and what a GEMM packs operands into.
    #[test]
    fn the_forward_pass_alone_allocates_what_is_planned() {
        for (layers, width, heads, side, images) in [(3, 64, 4, 16, 4), (6, 128, 2, 16, 2), (2, 192, 3, 8, 24)] {
            let preset = ModelConfig::preset(crate::model::Preset::Tiny, side);
            let config = ModelConfig { layers, width, heads, positions: side * side, ..preset };
            let device = CpuDevice::new(Some(2)).unwrap();
            let length = side * side;
            let tokens: Vec<u16> = (0..images * length).map(|token| (token * 7 % 512) as u16).collect();
            let model = Transformer::new(config.clone()).unwrap();
            let parameters = Parameters::init(&device, parameter_specs(&config), 0).unwrap();
            let plan = Memory::of(&config, Work::Forward, (images * length) as f64, Precision::F32);

            let batch = ObjectiveBatch::autoregressive(&device, &tokens, length, model.sos(), 1.0).unwrap();
            model.loss(&mut Forward::new(&device, &parameters, &mut NoTape), &batch).unwrap();
            let most = 1.1 * plan.total() + 4.0 * gemm_scratch() as f64;
            let peak = device.memory_use().peak as f64;
            assert!(peak > 0.9 * plan.total() && peak < most, "peak {peak}, planned {plan:?}");
        }
    }

    /// Drawing on the CPU device takes what is planned, to 10 %, in both precisions: the plan has the tables of tokens and positions twice too.
    #[test]
    fn drawing_on_the_cpu_allocates_what_is_planned() {
        let shapes = [(6, 128, 2, 16, 4), (4, 192, 3, 8, 24)];
        let cases =
            [Precision::F32, Precision::Bf16].into_iter().flat_map(|drawing| shapes.map(|shape| (drawing, shape)));
        for (drawing, (layers, width, heads, side, images)) in cases {
            let preset = ModelConfig::preset(crate::model::Preset::Tiny, side);
            let config = ModelConfig { layers, width, heads, positions: side * side, ..preset };
            let device = CpuDevice::new(Some(2)).unwrap().drawing_in(drawing);
            let model = Transformer::new(config.clone()).unwrap();
            let parameters = Parameters::init(&device, parameter_specs(&config), 0).unwrap();
            model.prepare_decoding(&device, &parameters).unwrap();
            // Prompts that differ: equal ones are fed once.
            let prompts: Vec<u16> =
                (0..images * (config.positions - 1)).map(|token| (token * 7919 % config.vocabulary) as u16).collect();
            let mut decoder =
                Decoder::prompted(&device, &model, &parameters, images, &prompts, config.positions).unwrap();
            decoder.step(&vec![3; images]).unwrap();

            let plan = Memory::drawing_on_cpu(&config, (images * config.positions) as f64, drawing);
            let (peak, packed) = (device.memory_use().peak as f64, 4.0 * gemm_scratch() as f64);
            println!("{drawing}: peak {peak}, planned {plan:?}, packed {packed}");
            assert!(peak > 0.9 * plan.total() && peak < 1.1 * plan.total() + packed, "peak {peak}, planned {plan:?}");
        }
    }

    #[test]
    fn a_probe_keeps_no_moments_and_bf16_halves_activations() {
        let config = ModelConfig::preset(crate::model::Preset::S, 32);
        let probe = Memory::of(&config, Work::Forward, 8.0 * 1024.0, Precision::F32);
        assert_eq!((probe.gradients, probe.moments, probe.activations), (0.0, 0.0, 0.0));
        assert_eq!(probe.weights, 4.0 * 76_571_648.0);
        let [f32, bf16] = [Precision::F32, Precision::Bf16]
            .map(|precision| Memory::of(&config, Work::Training, 8.0 * 1024.0, precision));
        assert!(bf16.activations < 0.52 * f32.activations && bf16.activations > 0.5 * f32.activations);
        assert_eq!(bf16.weights, 6.0 * 76_571_648.0);
    }
}
