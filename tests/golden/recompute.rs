//! What is computed again in the backward pass changes no bit of losses and gradients.

use igpt_engine::device::{Activation, CpuDevice, Device, Norm, Precision};
use igpt_engine::model::{
    ClassBatch, Criterion, MicroBatch, ModelConfig, Objective, Preset, Transformer, parameter_specs,
};
use igpt_engine::named::Named;
use igpt_engine::tape::{Parameters, Recompute};
use test_support::devices;

/// A model and a loss.
struct Case {
    name: &'static str,
    config: ModelConfig,
    /// Factors of the generative loss and of the class head's.
    weights: [f32; 2],
    /// Images of each micro-batch.
    images: &'static [usize],
}

fn cases() -> [Case; 5] {
    let tiny = ModelConfig { layers: 3, width: 64, heads: 2, ..ModelConfig::preset(Preset::Tiny, 4) };
    let classes = ["cat", "dog", "owl"].map(str::to_owned).to_vec();
    let biased = ModelConfig { norm: Norm::Layer, activation: Activation::Gelu, bias: true, ..tiny.clone() };
    let learns = ModelConfig { classes, ..biased.clone() };
    let odd = ModelConfig { width: 36, heads: 3, layers: 1, positions: 25, ..biased };
    let of_one = ModelConfig { positions: 1, ..tiny.clone() };
    let bert = ModelConfig { sos: false, ..tiny.clone() };
    [
        Case { name: "autoregressive, two micro-batches", config: tiny, weights: [1.0, 0.0], images: &[2, 3] },
        Case { name: "bert", config: bert, weights: [1.0, 0.0], images: &[3] },
        Case { name: "both losses of fine-tuning", config: learns, weights: [0.5, 1.0], images: &[3, 3] },
        Case { name: "odd sizes, with biases", config: odd, weights: [1.0, 0.0], images: &[3] },
        Case { name: "one pixel", config: of_one, weights: [1.0, 0.0], images: &[3] },
    ]
}

/// Bits of the losses and of all gradients.
fn step<D: Device>(device: &D, case: &Case, recompute: Recompute) -> Vec<Vec<u32>> {
    let Case { config, weights: [generative_weight, classification_weight], images, .. } = case;
    let model = Transformer::new(config.clone()).unwrap().recomputing(recompute);
    let parameters = Parameters::from_fn(device, parameter_specs(config), |index, spec| {
        let drawn = spec.initial_values(7, index);
        let values = drawn.iter().enumerate().map(|(i, value)| value + 0.03 * ((i * 31 % 17) as f32 - 8.0) / 8.0);
        Ok::<_, igpt_engine::device::Error>(values.collect())
    });
    let (parameters, objective) = (parameters.unwrap(), config.objective());
    let criterion = Criterion {
        generative_weight: *generative_weight,
        classification_weight: *classification_weight,
        ..Criterion::from(objective)
    };

    let length = config.positions;
    let micro_batch = |number: usize, images: usize| -> MicroBatch<D> {
        let tokens: Vec<u16> = (0..images * length).map(|i| ((i * i + 37 * number + 5) % 512) as u16).collect();
        let batch = match objective {
            Objective::Ar => model.autoregressive_batch(device, &tokens, length, 0.5).unwrap(),
            Objective::Bert => {
                let masked: Vec<bool> = (0..tokens.len()).map(|i| i % 3 != 1).collect();
                model.bert_batch(device, &tokens, length, &masked, 0.5).unwrap()
            }
        };
        let labels: Vec<u16> = (0..images).map(|image| (image % 3) as u16).collect();
        let learns = *classification_weight != 0.0;
        (batch, learns.then(|| ClassBatch::new(device, &labels, images, 0.5).unwrap()))
    };
    let batches: Vec<_> = images.iter().enumerate().map(|(number, images)| micro_batch(number, *images)).collect();

    let mut gradients = parameters.zeros_like(device).unwrap();
    let losses = model.accumulate_gradients(device, &parameters, &criterion, &batches, &mut gradients).unwrap();
    let bits = |tensor| device.download(tensor).unwrap().into_iter().map(f32::to_bits).collect();
    losses.iter().chain(&gradients).map(bits).collect()
}

fn compare<D: Device>(device: &D, cases: &[Case]) {
    for case in cases {
        let expected = step(device, case, Recompute::None);
        assert!(expected.iter().flatten().any(|bits| *bits << 1 != 0), "{}: all is zero", case.name);
        for level in Recompute::VALUES.iter().skip(1) {
            let got = step(device, case, level.value);
            assert_eq!(expected.len(), got.len());
            for (index, (expected, got)) in expected.iter().zip(&got).enumerate() {
                assert!(expected == got, "{}, {}: tensor {index} differs", case.name, level.name);
            }
        }
    }
}

#[test]
fn what_is_computed_again_has_the_same_bits_on_the_cpu() {
    compare(&CpuDevice::new(Some(2)).unwrap(), &cases());
}

/// What is odd; whole steps as graphs are in `tests/cuda`.
#[test]
fn what_is_computed_again_has_the_same_bits_on_a_gpu() {
    for precision in [Precision::F32, Precision::Bf16] {
        let Some(device) = devices::poisoned_cuda(precision) else { return };
        compare(&device, &cases()[3..]);
    }
}
