//! A moving average of the weights, kept beside them.

use igpt_engine::checkpoint::{self, EMA_FILE};
use igpt_engine::data::DataSpec;
use igpt_engine::device::prelude::*;
use igpt_engine::device::{CpuDevice, Precision};
use igpt_engine::eval;
use igpt_engine::run::checkpoints;
use igpt_engine::tape::Parameters;
use igpt_engine::train::Settings;
use test_support::devices;

use super::{pretraining, session};

/// The average follows the weights of each step by its formula, is saved and resumed with the same bits, and scores as the
/// model that it is.
fn average_follows_the_weights<D: Device>(device: &D) {
    let place = tempfile::tempdir().unwrap();
    let settings = |name: &str| Settings {
        width: Some(64),
        resolution: Some(4),
        ema: Some(0.75),
        save_every: 1,
        keep: 9,
        eval_every: 0,
        sample_every: 0,
        ..pretraining(&place.path().join(name))
    };
    let (whole, parts) = (settings("whole"), settings("parts"));
    session(device, &whole, false, 99).unwrap();
    session(device, &parts, false, 2).unwrap();
    session(device, &parts, true, 99).unwrap();

    let folder = |run: &Settings, step| checkpoints::checkpoint_path(&run.out, step);
    let ema = |run: &Settings| std::fs::read(folder(run, 4).join(EMA_FILE)).unwrap();
    assert!(ema(&whole) == ema(&parts), "the bits differ");

    let read = |parameters: &Parameters<D>| -> Vec<f32> {
        parameters.values().iter().flat_map(|tensor| device.download(tensor).unwrap()).collect()
    };
    let of_step = |step| {
        let folder = folder(&whole, step);
        let [weights, average] =
            [checkpoint::load_model(device, &folder), checkpoint::load_averaged_model(device, &folder)];
        [read(&weights.unwrap().1), read(&average.unwrap().1)]
    };
    let [_, mut before] = of_step(1);
    for step in 2..=4 {
        let [weights, average] = of_step(step);
        for ((average, weight), before) in average.iter().zip(&weights).zip(&before) {
            let expected = 0.75 * f64::from(*before) + 0.25 * f64::from(*weight);
            assert!((f64::from(*average) - expected).abs() < 1e-6, "step {step}: {average}, not {expected}");
        }
        assert!(average != before && average != weights);
        before = average;
    }

    let scored = |ema| {
        let settings =
            eval::Settings { ema, limit: Some(3), ..eval::Settings::new(&folder(&whole, 4), DataSpec::Sample) };
        eval::Session::open(device, settings).unwrap().run(|_| ()).unwrap().evaluation.nats_per_token
    };
    assert_ne!(scored(true), scored(false));
}

#[test]
fn an_average_of_the_weights_is_kept() {
    average_follows_the_weights(&CpuDevice::new(Some(1)).unwrap());
}

#[test]
fn a_gpu_keeps_an_average_as_the_cpu_does() {
    let Some(device) = devices::cuda(Precision::Bf16) else { return };
    average_follows_the_weights(&device);
}
