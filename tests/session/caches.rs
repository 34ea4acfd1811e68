//! What keys and values in bf16 cost a model that has learnt something.

use std::path::Path;

use igpt_engine::checkpoint;
use igpt_engine::device::prelude::*;
use igpt_engine::device::{CpuDevice, Precision};
use igpt_engine::model::Transformer;
use igpt_engine::sample::{self, Decoder};
use igpt_engine::train::Settings;

use super::{pretraining, run};

/// Nats per token that a checkpoint's model gives `images`, a pixel at a time, with keys and values cached in `cache`.
fn nats_as_drawn(checkpoint: &Path, cache: Precision, images: &[u16]) -> f64 {
    let device = CpuDevice::new(Some(1)).unwrap().with_cache(cache);
    let (config, parameters) = checkpoint::load_model(&device, checkpoint).unwrap();
    let model = Transformer::new(config.clone()).unwrap();
    let (length, colours) = (config.positions, config.vocabulary);
    let count = images.len() / length;
    let mut decoder = Decoder::new(&device, &model, &parameters, count, length).unwrap();
    let mut tokens = vec![model.sos(); count];
    let mut nats = 0.0;
    for position in 0..length {
        let logits = device.download(&decoder.step(&tokens).unwrap()).unwrap();
        tokens = images.iter().skip(position).step_by(length).copied().collect();
        for (logits, token) in logits.chunks_exact(colours).zip(&tokens) {
            let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
            nats += sum.ln() - f64::from(logits[usize::from(*token)]);
        }
    }
    nats / images.len() as f64
}

/// What a model has learnt is worth as much with keys and values rounded to bf16.
#[test]
fn caches_in_bf16_cost_no_quality() {
    let place = tempfile::tempdir().unwrap();
    let settings = pretraining(&place.path().join("run"));
    let settings = Settings { layers: Some(3), width: Some(64), heads: Some(4), batch: 8, ..settings };
    let trained = run(Settings { steps: 200, warmup: 20, lr: 3e-3, save_every: 200, ..settings }, None);
    let checkpoint = trained.folder.checkpoint(trained.step);
    let device = CpuDevice::new(Some(1)).unwrap();
    let of_data = sample::Source::DataSet;
    let drawn = sample::Settings { count: 12, completions: 4, ..sample::Settings::new(&checkpoint, of_data) };
    let images = sample::Session::open(&device, drawn).unwrap().run(|_| ()).unwrap().tokens;

    let [exact, rounded] = [Precision::F32, Precision::Bf16].map(|cache| nats_as_drawn(&checkpoint, cache, &images));
    println!("{exact:.6} nats per token, {rounded:.6} with keys and values in bf16");
    assert!(exact < 0.9 * 512_f64.ln(), "a model that has learnt nothing shows nothing: {exact}");
    assert!((exact - rounded).abs() < 1e-3, "{exact} and {rounded}");
}
