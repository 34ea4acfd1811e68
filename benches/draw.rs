//! Drawing images on the CPU, from nothing, beside what the machine's memory allows.
//!
//! A step draws one pixel of each image: it must read every weight once, and the keys and values of all earlier pixels. That and the
//! rate at which the machine reads, measured between the steps, are the bound. Timed are steps at three places of the image, which others
//! fill with one prompt; a step's time grows evenly with the place, so their mean is what an image takes.
//!
//! `cargo bench --bench draw -- s 16` names the model and the images; `benches/torch_draw.py` is the same of Hugging Face.

use std::hint::black_box;
use std::time::Instant;

use igpt_engine::device::prelude::*;
use igpt_engine::device::{CpuDevice, SampleOptions};
use igpt_engine::model::{ModelConfig, Preset, Transformer, parameter_specs};
use igpt_engine::sample::Decoder;
use igpt_engine::tape::Parameters;

/// Pixels along one side.
const RESOLUTION: usize = 32;
const TOKENS: usize = RESOLUTION * RESOLUTION;
/// Places of an image where steps are timed, and steps there.
const PLACES: [usize; 3] = [0, 504, 1008];
const STEPS: usize = 12;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let all = [("tiny", 16), ("tiny", 1), ("s", 16), ("s", 1)];
    let chosen = |(name, images): &(&str, usize)| {
        words.first().is_none_or(|word| word == name) && words.get(1).is_none_or(|word| *word == images.to_string())
    };
    let device = CpuDevice::new(None).expect("a CPU has a CPU device");
    println!("drawing on {}, {TOKENS} pixels an image", device.describe());
    println!("model  images  ms a step at {PLACES:?}       bound  share  pixels/s  of bound  GB/s");
    for (name, images) in all.iter().filter(|case| chosen(case)) {
        let preset = if *name == "s" { Preset::S } else { Preset::Tiny };
        println!("{}", run(&device, name, &ModelConfig::preset(preset, RESOLUTION), *images));
    }
}

/// Times one case and returns its line of the table.
fn run(device: &CpuDevice, name: &str, config: &ModelConfig, images: usize) -> String {
    // Weights of no meaning: the head's are zero at the start, and every colour as likely.
    let parameters = Parameters::init(device, parameter_specs(config), 0).expect("memory for the parameters");
    let model = Transformer::new(config.clone()).expect("a preset is valid");
    model.prepare_decoding(device, &parameters).expect("memory for the panels");

    let reader = Reader::new(device.threads());
    let (mut times, mut bounds, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for place in PLACES {
        let prompts: Vec<u16> = (0..place).map(|pixel| (pixel * 7919 % 512) as u16).collect::<Vec<_>>().repeat(images);
        let mut decoder =
            Decoder::prompted(device, &model, &parameters, images, &prompts, TOKENS).expect("memory for the caches");
        let mut tokens = vec![model.sos(); images];
        let (mut steps, mut reads) = (Vec::new(), Vec::new());
        for step in 0..STEPS + 2 {
            let start = Instant::now();
            let logits = decoder.step(&tokens).expect("a step");
            let uniforms: Vec<f32> = (0..images).map(|image| (image as f32 + 0.5) / images as f32).collect();
            let drawn = device.sample(&logits, SampleOptions::PLAIN, &uniforms).expect("a draw");
            tokens = device.download_tokens(&drawn).expect("tokens");
            let seconds = start.elapsed().as_secs_f64();
            // The first ones bring memory and threads into their place.
            if step >= 2 {
                steps.push(seconds);
                reads.push(reader.rate());
            }
        }
        let rate = median(reads);
        times.push(median(steps));
        bounds.push(bytes_of_a_step(config, images, place + 2 + STEPS / 2) / rate);
        rates.push(rate);
    }

    let [time, bound, rate] = [&times, &bounds, &rates].map(|values| values.iter().sum::<f64>() / values.len() as f64);
    let shown: Vec<String> = times.iter().map(|seconds| format!("{:8.2}", seconds * 1e3)).collect();
    format!(
        "{name:<5}  {images:>6}  {}  {:>8.2}  {:>4.0}%  {:>8.1}  {:>8.1}  {:>4.1}",
        shown.join(" "),
        bound * 1e3,
        100.0 * bound / time,
        images as f64 / time,
        images as f64 / bound,
        rate / 1e9
    )
}

/// What a step must read: the weights of blocks and head, and the keys and values of `position` pixels of each image.
fn bytes_of_a_step(config: &ModelConfig, images: usize, position: usize) -> f64 {
    let weights = 12 * config.layers * config.width * config.width + config.vocabulary * config.width;
    let cache = 2 * config.layers * config.width * position * images;
    4.0 * (weights + cache) as f64
}

/// Reads memory that no cache holds.
struct Reader {
    data: Vec<f32>,
    threads: usize,
}

impl Reader {
    fn new(threads: usize) -> Self {
        Self { data: vec![1.0; 64 << 20], threads }
    }

    /// Bytes a second of all threads together.
    fn rate(&self) -> f64 {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for part in self.data.chunks(self.data.len().div_ceil(self.threads)) {
                scope.spawn(|| black_box(sum(part)));
            }
        });
        size_of_val(&self.data[..]) as f64 / start.elapsed().as_secs_f64()
    }
}

/// In sums side by side, so that memory is what is waited for.
fn sum(values: &[f32]) -> f32 {
    let mut sums = [0.0; 64];
    for values in values.as_chunks::<64>().0 {
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    }
    sums.iter().sum()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
