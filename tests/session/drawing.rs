//! What keys, values and weights in bf16 cost a model that has learnt something.

use std::path::Path;

use igpt_engine::checkpoint;
use igpt_engine::device::prelude::*;
use igpt_engine::device::{CpuDevice, Precision};
use igpt_engine::model::Transformer;
use igpt_engine::sample::{self, Decoder};
use igpt_engine::tape::ParameterSpec;
use igpt_engine::train::Settings;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{pretraining, run};

/// Logits that a checkpoint's model gives the pixels of `images`, one at a time, drawing in `precision`: those of a pixel after the other's of
/// all images. `change` is done to the weights before.
fn logits_as_drawn(
    checkpoint: &Path,
    precision: Precision,
    images: &[u16],
    mut change: impl FnMut(&mut [f32]),
) -> Vec<f32> {
    let device = CpuDevice::new(Some(1)).unwrap().drawing_in(precision);
    let (config, mut parameters) = checkpoint::load_model(&device, checkpoint).unwrap();
    // All that positions are multiplied by: matrices but for the tables of tokens and positions.
    let is_multiplied =
        |spec: &ParameterSpec| spec.shape.len() == 2 && !spec.name.contains(".wte.") && !spec.name.contains(".wpe.");
    let multiplied: Vec<bool> = parameters.specs().iter().map(is_multiplied).collect();
    for (tensor, _) in parameters.values_mut().iter_mut().zip(multiplied).filter(|(_, multiplied)| *multiplied) {
        let mut values = device.download(tensor).unwrap();
        change(&mut values);
        device.overwrite(tensor, &values).unwrap();
    }
    let model = Transformer::new(config.clone()).unwrap();
    model.prepare_decoding(&device, &parameters).unwrap();

    let length = config.positions;
    let count = images.len() / length;
    let mut decoder = Decoder::new(&device, &model, &parameters, count, length).unwrap();
    let (mut tokens, mut logits) = (vec![model.sos(); count], Vec::new());
    for position in 0..length {
        logits.extend(device.download(&decoder.step(&tokens).unwrap()).unwrap());
        tokens = images.iter().skip(position).step_by(length).copied().collect();
    }
    logits
}

/// Nats per token that such logits give `images` of so many pixels.
fn nats(logits: &[f32], images: &[u16], length: usize) -> f64 {
    let count = images.len() / length;
    let colours = logits.len() / images.len();
    let nats = logits.chunks_exact(colours).enumerate().map(|(row, logits)| {
        let token = images[row % count * length + row / count];
        let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        sum.ln() - f64::from(logits[usize::from(token)])
    });
    nats.sum::<f64>() / images.len() as f64
}

/// Root mean square of differences.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
    (squares.sum::<f64>() / a.len() as f64).sqrt()
}

/// Moves each number to anywhere that rounding to bf16 could: half the distance of its neighbours there, either way.
fn move_as_far_as_bf16(values: &mut [f32], random: &mut ChaCha8Rng) {
    for value in values {
        // A power of two of eight bits fewer than the number's.
        let half = f32::from_bits(value.to_bits() & 0x7f80_0000) / 256.0;
        *value += half * random.random_range(-1.0..1.0);
    }
}

/// What a model has learnt is worth as much in bf16, and its logits are as far from those in f32 as roundings bring them, not farther.
#[test]
fn drawing_in_bf16_costs_no_quality() {
    let place = tempfile::tempdir().unwrap();
    let settings = pretraining(&place.path().join("run"));
    let settings = Settings { layers: Some(3), width: Some(64), heads: Some(4), batch: 8, ..settings };
    let trained = run(Settings { steps: 200, warmup: 20, lr: 3e-3, save_every: 200, ..settings }, None);
    let checkpoint = trained.folder.checkpoint(trained.step);
    let device = CpuDevice::new(Some(1)).unwrap();
    let of_data = sample::Source::DataSet;
    let drawn = sample::Settings { count: 12, completions: 4, ..sample::Settings::new(&checkpoint, of_data) };
    let images = sample::Session::open(&device, drawn).unwrap().run(|_| ()).unwrap().tokens;

    let drawn = |precision| logits_as_drawn(&checkpoint, precision, &images, |_| ());
    let (exact, rounded) = (drawn(Precision::F32), drawn(Precision::Bf16));
    let random = &mut ChaCha8Rng::seed_from_u64(1);
    let moved = logits_as_drawn(&checkpoint, Precision::F32, &images, |values| move_as_far_as_bf16(values, random));
    let [nats_exact, nats_rounded] = [&exact, &rounded].map(|logits| nats(logits, &images, 64));
    let [by_rounding, by_chance] = [&rounded, &moved].map(|logits| distance(&exact, logits));
    let size = distance(&exact, &vec![0.0; exact.len()]);
    println!("{nats_exact:.6} nats per token, {nats_rounded:.6} in bf16");
    println!("logits of {size:.3}: {by_rounding:.4} off in bf16, {by_chance:.4} with weights moved as far by chance");
    assert!(nats_exact < 0.9 * 512_f64.ln(), "a model that has learnt nothing shows nothing: {nats_exact}");
    assert!((nats_exact - nats_rounded).abs() < 1e-3, "{nats_exact} and {nats_rounded}");
    // By rounding, keys and values are moved too.
    assert!((0.5..2.0).contains(&(by_rounding / by_chance)), "{by_rounding} and {by_chance}");
}
