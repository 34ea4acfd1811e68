//! Sampling.

use igpt_engine::device::{Device, SampleOptions};

use super::support::{Tested, assert_error};

fn sample<D: Device>(device: &Tested<D>, logits: &[f32], options: SampleOptions, uniforms: &[f32]) -> Vec<u16> {
    let rows: Vec<f32> = uniforms.iter().flat_map(|_| logits).copied().collect();
    let logits = device.upload(&[uniforms.len(), 1, logits.len()], &rows).unwrap();
    let tokens = device.sample(&logits, options, uniforms).unwrap();
    device.download_tokens(&tokens).unwrap()
}

/// Evenly spaced uniforms sample every token as often as its probability says.
pub fn follows_the_distribution<D: Device>(device: &Tested<D>) {
    let logits = [0.0, 2f32.ln(), f32::NEG_INFINITY, 5f32.ln()];
    let uniforms: Vec<f32> = (0..800).map(|i| (i as f32 + 0.5) / 800.0).collect();
    let options = SampleOptions { temperature: 1.0, top_k: None };
    let tokens = sample(device, &logits, options, &uniforms);
    let counts = [0, 1, 2, 3].map(|token| tokens.iter().filter(|&&sampled| sampled == token).count());
    assert_eq!(counts, [100, 200, 0, 500]);
    // Half the temperature squares the odds: 1 : 4 : 25.
    let tokens = sample(device, &logits, SampleOptions { temperature: 0.5, top_k: None }, &uniforms[..30]);
    assert_eq!(tokens.iter().filter(|&&token| token == 0).count(), 27);
    assert_eq!(sample(device, &logits, options, &[0.0, 1.0 - f32::EPSILON]), [0, 3]);
}

pub fn argmax_takes_the_first<D: Device>(device: &Tested<D>) {
    let options = SampleOptions { temperature: 0.0, top_k: None };
    assert_eq!(sample(device, &[1.0, 3.0, 2.0, 3.0], options, &[0.0, 0.99]), [1, 1]);
}

/// Ties at the edge go to the lower tokens.
pub fn top_k_keeps_the_best<D: Device>(device: &Tested<D>) {
    let uniforms: Vec<f32> = (0..100).map(|i| i as f32 / 100.0).collect();
    for (k, expected) in [(1, vec![2]), (2, vec![0, 2]), (3, vec![0, 2, 3]), (9, vec![0, 1, 2, 3, 4])] {
        let options = SampleOptions { temperature: 1.0, top_k: Some(k) };
        let mut tokens = sample(device, &[1.0, 0.5, 2.0, 1.0, 0.5], options, &uniforms);
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens, expected, "top {k}");
    }
}

/// Whatever the logits are, a token that exists comes out.
pub fn odd_logits<D: Device>(device: &Tested<D>) {
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, f32::MAX];
    for first in odd {
        for second in odd {
            for temperature in [0.0, 1e-30, 1.0, 1e30] {
                for top_k in [None, Some(1), Some(2)] {
                    let tokens = sample(device, &[first, second, second], SampleOptions { temperature, top_k }, &[0.5]);
                    assert!(tokens[0] < 3, "{first} {second} {temperature} {top_k:?}");
                }
            }
        }
    }
}

pub fn mistakes_are_errors<D: Device>(device: &Tested<D>) {
    let logits = device.zeros(&[2, 3]).unwrap();
    let options = SampleOptions { temperature: 1.0, top_k: None };
    assert_error(device.sample(&logits, options, &[0.5]), &["sample: uniforms must be 2, one per row, not 1"]);
    assert_error(device.sample(&logits, options, &[0.5, 1.0]), &["sample: uniforms must be in [0, 1), not 1.0"]);
    assert_error(device.sample(&logits, options, &[0.5, f32::NAN]), &["sample: uniforms must be in [0, 1), not NaN"]);
    let cold = SampleOptions { temperature: -1.0, ..options };
    assert_error(device.sample(&logits, cold, &[0.5, 0.5]), &["sample: temperature", "not -1.0"]);
    let none = SampleOptions { top_k: Some(0), ..options };
    assert_error(device.sample(&logits, none, &[0.5, 0.5]), &["sample: top_k must be at least 1, not 0"]);
    let cube = device.zeros(&[2, 2, 3]).unwrap();
    assert_error(
        device.sample(&cube, options, &[0.5, 0.5]),
        &["sample: logits must be [B, V] or [B, 1, V], not [2, 2, 3]"],
    );
}
