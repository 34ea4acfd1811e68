//! Drawing images of a class: particles weighed by the class head, against the distribution that they aim at, which a model of
//! four pixels and three colours lets one write down.

use igpt_engine::device::{CpuDevice, Device, Precision, SampleOptions};
use igpt_engine::model::{ClassBatch, ModelConfig, ObjectiveBatch, Preset, Transformer, parameter_specs};
use igpt_engine::sample::{AskedClass, Generation, Guidance, generate};
use igpt_engine::tape::{Forward, NoTape, Parameters};
use test_support::devices;

/// Pixels of an image, and colours.
const LENGTH: usize = 4;
const COLOURS: usize = 3;
/// All images there are.
const IMAGES: usize = COLOURS.pow(LENGTH as u32);

/// A model with opinions: its weights are noise, large enough that pixels and classes depend on one another.
fn model<D: Device>(device: &D) -> (Transformer, Parameters<D>) {
    let classes = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
    let config = ModelConfig { layers: 1, width: 16, heads: 2, vocabulary: COLOURS, classes, ..small() };
    let parameters = Parameters::from_fn(device, parameter_specs(&config), |index, spec| {
        let noise = |at: usize| {
            let mixed = (index * 1_000_003 + at + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
            mixed as f32 / (1 << 23) as f32 - 1.0
        };
        let scale = if spec.name == "score.weight" { 12.0 } else { 0.7 };
        Ok::<_, igpt_engine::device::Error>((0..spec.elements()).map(|at| scale * noise(at)).collect())
    });
    (Transformer::new(config).unwrap(), parameters.unwrap())
}

fn small() -> ModelConfig {
    ModelConfig { positions: LENGTH, ..ModelConfig::preset(Preset::Tiny, 2) }
}

/// Every image, `[IMAGES, LENGTH]`.
fn all_images() -> Vec<u16> {
    let pixel = |image: usize, at: usize| (image / COLOURS.pow(at as u32) % COLOURS) as u16;
    (0..IMAGES).flat_map(|image| (0..LENGTH).map(move |at| pixel(image, at))).collect()
}

/// Of every image `p(x)` and `p(class | x)`, by the forward pass over whole images, without a cache.
fn probabilities<D: Device>(
    device: &D,
    (model, parameters): &(Transformer, Parameters<D>),
    class: u16,
) -> Vec<[f64; 2]> {
    let batch = ObjectiveBatch::autoregressive(device, &all_images(), LENGTH, model.sos(), 1.0).unwrap();
    let labels = ClassBatch::new(device, &[class; IMAGES], IMAGES, 1.0).unwrap();
    let mut no_tape = NoTape;
    let f = &mut Forward::new(device, parameters, &mut no_tape);
    let losses = model.joint_loss(f, &batch, true, Some(&labels)).unwrap();
    let nats = device.download(&losses.generative.unwrap().nll).unwrap();
    let class_nats = device.download(&losses.class.unwrap().nll).unwrap();
    let sum = |nats: &[f32]| nats.iter().copied().map(f64::from).sum::<f64>();
    nats.chunks_exact(LENGTH)
        .zip(class_nats)
        .map(|(nats, class)| [-sum(nats), -f64::from(class)].map(f64::exp))
        .collect()
}

/// How often each image is drawn, of `count`.
fn frequencies<D: Device>(
    device: &D,
    (model, parameters): &(Transformer, Parameters<D>),
    count: usize,
    guidance: Option<Guidance>,
) -> Vec<f64> {
    let generation = Generation { length: LENGTH, options: SampleOptions::PLAIN, seed: 7, first: 0, guidance };
    let drawn = generate(device, model, parameters, count, &[], generation, |_| {}).unwrap();
    let mut frequencies = vec![0.0; IMAGES];
    for image in drawn.chunks_exact(LENGTH) {
        let index = image.iter().rev().fold(0, |index, pixel| index * COLOURS + usize::from(*pixel));
        frequencies[index] += 1.0 / count as f64;
    }
    frequencies
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0
}

/// With many particles, images come as often as `p(x) · p(class | x)^S` says, in f64 over all images.
#[test]
fn draws_follow_the_distribution_that_they_aim_at() {
    const COUNT: usize = 3000;
    const CLASS: u16 = 1;
    let device = CpuDevice::new(Some(2)).unwrap();
    let model = model(&device);
    let of_images = probabilities(&device, &model, CLASS);
    let total: f64 = of_images.iter().map(|[image, _]| image).sum();
    assert!((total - 1.0).abs() < 1e-5, "the images' probabilities are {total} together");

    let aim = |strength: f64| {
        let weights: Vec<f64> = of_images.iter().map(|[image, class]| image * class.powf(strength)).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / sum).collect::<Vec<_>>()
    };
    let plain = frequencies(&device, &model, COUNT, None);
    let noise = distance(&plain, &aim(0.0));
    let mut sureness = vec![plain.iter().zip(&of_images).map(|(often, [_, class])| often * class).sum::<f64>()];
    for strength in [1.0, 4.0] {
        let guidance = Guidance { class: AskedClass::One(CLASS), strength, particles: 48 };
        let drawn = frequencies(&device, &model, COUNT, Some(guidance));
        let (off, unguided) = (distance(&drawn, &aim(strength)), distance(&aim(0.0), &aim(strength)));
        println!("strength {strength}: {off:.3} off the aim; plain drawing {unguided:.3}, noise of {COUNT} {noise:.3}");
        assert!(off < 1.6 * noise, "{off} off, of {unguided}; the noise is {noise}");
        assert!(strength < 2.0 || unguided > 2.0 * off, "{off} off, and plain drawing {unguided}");
        sureness.push(drawn.iter().zip(&of_images).map(|(often, [_, class])| often * class).sum());
    }
    assert!(sureness.is_sorted() && sureness[2] > sureness[0] + 0.1, "the class became no likelier: {sureness:?}");
}

/// Draws of a device, a class after the other.
fn drawn<D: Device>(device: &D, strength: f64, particles: usize, prompts: &[u16], first: u64) -> Vec<u16> {
    let (model, parameters) = model(device);
    let guidance = Some(Guidance { class: AskedClass::Each(3), strength, particles });
    let generation = Generation { length: LENGTH, options: SampleOptions::PLAIN, seed: 3, first, guidance };
    generate(device, &model, &parameters, 12, prompts, generation, |_| {}).unwrap()
}

#[test]
fn without_strength_or_company_it_is_plain_drawing_bit_for_bit() {
    let device = CpuDevice::new(Some(2)).unwrap();
    let (model, parameters) = model(&device);
    let generation = Generation { length: LENGTH, options: SampleOptions::PLAIN, seed: 3, first: 0, guidance: None };
    let plain = generate(&device, &model, &parameters, 12, &[], generation, |_| {}).unwrap();
    assert_eq!(drawn(&device, 0.0, 8, &[], 0), plain);
    assert_eq!(drawn(&device, 5.0, 1, &[], 0), plain);
    let guided = drawn(&device, 5.0, 8, &[], 0);
    assert_ne!(guided, plain);
    assert_eq!(drawn(&device, 5.0, 8, &[], 0), guided);
    // Images count from the first on: the class of each, and its random numbers.
    assert_eq!(drawn(&device, 5.0, 8, &[], 6)[..6 * LENGTH], guided[6 * LENGTH..]);
    // What is given is kept.
    let prompts: Vec<u16> = (0..24).map(|pixel| pixel % 3).collect();
    let completed = drawn(&device, 5.0, 8, &prompts, 0);
    assert!(completed.chunks_exact(LENGTH).zip(prompts.chunks_exact(2)).all(|(image, given)| image[..2] == *given));
}

#[test]
fn a_gpu_draws_the_same_classes() {
    let Some(device) = devices::poisoned_cuda(Precision::F32) else { return };
    let cpu = CpuDevice::new(Some(2)).unwrap();
    assert_eq!(drawn(&device, 5.0, 6, &[], 0), drawn(&cpu, 5.0, 6, &[], 0));
    let Some(half) = devices::poisoned_cuda(Precision::Bf16) else { return };
    let guided = drawn(&half, 5.0, 6, &[], 0);
    assert!(guided.iter().all(|token| usize::from(*token) < COLOURS));
    assert_eq!(drawn(&half, 5.0, 6, &[], 0), guided);
}
