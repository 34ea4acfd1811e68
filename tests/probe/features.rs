//! Features against Hugging Face's model: `features` `[L + 1, B, d]` of the golden activations.

use igpt_engine::checkpoint;
use igpt_engine::device::{CpuDevice, Device, Mask};
use igpt_engine::model::Transformer;
use igpt_engine::probe::{Shown, pooled_features};
use safetensors::SafeTensors;

use test_support::golden_files::{golden_set, read_part};

struct Activations {
    /// `[B, n]`.
    targets: Vec<u16>,
    length: usize,
    /// `[L + 1, B, d]`.
    features: Vec<f32>,
    /// Of the last depth for pixels without sos, `[B, d]`: another feature.
    without_sos: Vec<f32>,
    /// Ten times the error of PyTorch's own f32 run.
    tolerance: f32,
}

fn activations(name: &str) -> Activations {
    let bytes = read_part(&golden_set(name), "activations");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |tensor: &str| -> Vec<f32> {
        file.tensor(tensor).unwrap().data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    let targets = file.tensor("targets").unwrap();
    let tolerances: serde_json::Value =
        serde_json::from_slice(&std::fs::read(golden_set(name).join("tolerance.json")).unwrap()).unwrap();
    let tolerance = &tolerances["per_tensor"]["activations:features"];
    Activations {
        length: targets.shape()[1],
        targets: targets.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as u16).collect(),
        features: floats("features"),
        without_sos: floats("features_hf_pixels"),
        tolerance: (10.0 * tolerance["max_abs_err_f32"].as_f64().unwrap()) as f32,
    }
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn every_depth_is_hugging_faces() {
    every_depth(&CpuDevice::poisoned(Some(2)).unwrap());
}

pub fn every_depth<D: Device>(device: &D) {
    for name in ["l2d64h2p64", "l2d64h2p64_bias", "l3d96h3p256"] {
        let golden = activations(name);
        let (config, parameters) = checkpoint::load_model(device, &golden_set(name)).unwrap();
        let (layers, width) = (config.layers, config.width);
        let model = Transformer::new(config).unwrap();

        let images = golden.targets.len() / golden.length;
        let shown = Shown::autoregressive(&golden.targets, golden.length, model.sos());
        let every: Vec<usize> = (0..=layers).collect();
        let features = pooled_features(device, &model, &parameters, &shown, golden.length, &every).unwrap();

        assert_eq!(golden.features.len(), (layers + 1) * images * width);
        for (depth, expected) in golden.features.chunks(images * width).enumerate() {
            let off = worst(&features[depth], expected);
            println!("{name} depth {depth}: off by {off:.1e} of {:.1e}", golden.tolerance);
            assert!(off <= golden.tolerance, "{name} depth {depth}: {off}");
        }

        // Forgetting the start of the sequence would be far outside the tolerance.
        assert!(worst(&features[layers], &golden.without_sos) > 20.0 * golden.tolerance, "{name}");

        // Any depths, in any order, at one pass: the first and the last too.
        let some = pooled_features(device, &model, &parameters, &shown, golden.length, &[layers, 0]).unwrap();
        assert!(some[0] == features[layers] && some[1] == features[0], "{name}");
        let beyond = pooled_features(device, &model, &parameters, &shown, golden.length, &[layers + 1]);
        assert!(beyond.unwrap_err().to_string().contains("beyond"), "{name}");
    }
}

#[test]
fn masked_images_are_seen_whole_but_for_the_masked_content() {
    let device = CpuDevice::new(Some(1)).unwrap();
    let golden = activations("l2d64h2p64");
    let (config, parameters) = checkpoint::load_model(&device, &golden_set("l2d64h2p64")).unwrap();
    let model = Transformer::new(config).unwrap();

    let image = &golden.targets[..golden.length];
    let at = |masked: &[bool], tokens: &[u16]| {
        let shown = Shown::masked(tokens, masked);
        assert_eq!(shown.mask, Mask::Full);
        pooled_features(&device, &model, &parameters, &shown, golden.length, &[0, 2]).unwrap()
    };

    let mut masked = vec![false; golden.length];
    masked[10] = true;
    let mut other = image.to_vec();
    other[10] = (other[10] + 1) % 512;
    assert_eq!(at(&masked, image), at(&masked, &other), "the masked pixel is not seen");
    masked[10] = false;
    assert_ne!(at(&masked, image), at(&masked, &other), "an unmasked one is");

    // The last pixel too, which an autoregressive model never sees.
    let mut last = image.to_vec();
    *last.last_mut().unwrap() ^= 1;
    assert_ne!(at(&masked, image), at(&masked, &last));
}
