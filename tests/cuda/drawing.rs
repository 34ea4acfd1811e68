//! Drawing on the CUDA device: a step is captured once, and its replays read where they are from the device's memory.

use igpt_engine::device::prelude::*;
use igpt_engine::device::{CudaDevice, Precision};
use igpt_engine::model::{ModelConfig, Preset, Transformer, parameter_specs};
use igpt_engine::sample::Decoder;
use igpt_engine::tape::Parameters;
use test_support::{devices, has_turn, in_turn};

const LENGTH: usize = 16;

fn model(device: &CudaDevice) -> (Transformer, Parameters<CudaDevice>) {
    let config = ModelConfig { layers: 2, width: 64, heads: 2, ..ModelConfig::preset(Preset::Tiny, 4) };
    let parameters = Parameters::from_fn(device, parameter_specs(&config), |index, spec| {
        let drawn = spec.initial_values(7, index);
        let values = drawn.iter().enumerate().map(|(i, value)| value + 0.02 * ((i * 31 % 17) as f32 - 8.0) / 8.0);
        Ok::<_, igpt_engine::device::Error>(values.collect())
    });
    (Transformer::new(config).unwrap(), parameters.unwrap())
}

/// The token that an image is fed at a position.
fn token(image: usize, position: usize) -> u16 {
    ((image * image + 37 * position + 101) % 512) as u16
}

/// Every position of three images has the same logits from a captured step and from one launch after another, bit for bit, behind
/// prompts of every length; and so after the images were put in another order in the middle.
#[test]
fn a_captured_step_draws_what_launches_draw() {
    if !has_turn(0, 2) {
        return;
    }
    for precision in in_turn([Precision::F32, Precision::Bf16], 2) {
        let Some(device) = devices::cuda(precision) else { return };
        let (model, parameters) = model(&device);
        for (prompt, reordered) in [(0, None), (5, None), (1, Some(9))] {
            let prompts: Vec<u16> =
                (0..3).flat_map(|image| (0..prompt).map(move |position| token(image, position))).collect();
            let draw = |graphs: bool| {
                let decoder = Decoder::prompted(&device, &model, &parameters, 3, &prompts, LENGTH).unwrap();
                let mut decoder = decoder.with_graphs(graphs);
                let mut bits = Vec::new();
                for position in prompt..LENGTH {
                    if reordered == Some(position) {
                        decoder.reorder(&[2, 0, 2]).unwrap();
                    }
                    let fed = |image| if position == 0 { model.sos() } else { token(image, position - 1) };
                    let logits = decoder.step(&[0, 1, 2].map(fed)).unwrap();
                    bits.extend(device.download(&logits).unwrap().into_iter().map(f32::to_bits));
                }
                assert_eq!(decoder.replays(), graphs);
                bits
            };
            assert!(draw(true) == draw(false), "{precision:?}, behind {prompt}");
        }
    }
}

/// A replay checks nothing on the device, so what is fed is checked before it.
#[test]
fn what_a_replay_would_not_notice_is_refused() {
    let Some(device) = devices::cuda(Precision::F32) else { return };
    let (model, parameters) = model(&device);
    let mut decoder = Decoder::new(&device, &model, &parameters, 2, LENGTH).unwrap();
    for position in 0..LENGTH {
        if position == 5 {
            let error = decoder.step(&[0, 513]).err().expect("513 is no token").to_string();
            assert!(error.contains("513"), "{error}");
            assert!(decoder.step(&[0, 1, 2]).is_err(), "three tokens of two images");
        }
        decoder.step(&[0, 1]).unwrap();
    }
    let error = decoder.step(&[0, 1]).err().expect("the image is full").to_string();
    assert!(error.contains("below the cache's 16, not 16"), "{error}");
}
