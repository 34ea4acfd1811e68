//! Drawing images from nothing: steps of one pixel of each image, at three places of the image, whose mean is what an image takes.
//!
//! A step must read every weight, and the keys and values of all earlier pixels: that, at the rate of a read, is the bound.

use std::hint::black_box;

use anyhow::Result;
use igpt_engine::device::prelude::*;
use igpt_engine::device::{CpuDevice, Precision, SampleOptions};
use igpt_engine::model::ModelConfig;
use igpt_engine::sample::Decoder;

use super::model::{s, tiny, with_weights};
use super::{Bound, Row, Work};

/// Pixels before the steps that are timed; `peers.py` has the same.
const PLACES: [usize; 3] = [0, 504, 1008];

pub fn rows() -> [Row; 5] {
    let row = |name, what, config: ModelConfig, images, precision, prepare| Row {
        name,
        what,
        peer: Some("Hugging Face, cached"),
        uses_mkl: true,
        bound: Bound::Bytes(PLACES.iter().map(|place| bytes_of_a_step(&config, images, precision, place + 1)).sum()),
        prepare,
    };
    let (f32, bf16) = (Precision::F32, Precision::Bf16);
    let pixels = "drawing a pixel each at 0, 504 and 1008 of 16 images, S";
    [
        row("draw-s-16", pixels, s(), 16, f32, || draw(s(), 16, Precision::F32)),
        row("draw-s-16-bf16", "the same in bf16", s(), 16, bf16, || draw(s(), 16, Precision::Bf16)),
        row("draw-s-1", "the same of 1 image, S", s(), 1, f32, || draw(s(), 1, Precision::F32)),
        row("draw-s-1-bf16", "the same of 1 image, S, in bf16", s(), 1, bf16, || draw(s(), 1, Precision::Bf16)),
        row("draw-tiny-16", "the same of 16 images, tiny", tiny(), 16, f32, || draw(tiny(), 16, Precision::F32)),
    ]
}

/// What a step must read: the weights of blocks and head, and the keys and values of `position` pixels of each image.
fn bytes_of_a_step(config: &ModelConfig, images: usize, precision: Precision, position: usize) -> f64 {
    let weights = 12 * config.layers * config.width * config.width + config.vocabulary * config.width;
    let cached = 2 * config.layers * config.width * position * images;
    (precision.bytes() * (weights + cached)) as f64
}

fn draw(config: ModelConfig, images: usize, precision: Precision) -> Result<Work> {
    // Decoders borrow these, and live as long as the process.
    let (model, parameters) = Box::leak(Box::new(with_weights(&config)?));
    let device: &CpuDevice = Box::leak(Box::new(CpuDevice::new(None)?.drawing_in(precision)));
    model.prepare_decoding(device, parameters)?;

    // Any prompt does: no time depends on which pixels they are.
    let mut decoders = Vec::new();
    for place in PLACES {
        let prompt: Vec<u16> = (0..place).map(|pixel| (pixel * 7919 % config.vocabulary) as u16).collect();
        let prompts = prompt.repeat(images);
        let decoder = Decoder::prompted(device, model, parameters, images, &prompts, place + 1)?;
        decoders.push((place, decoder));
    }
    let tokens = vec![model.sos(); images];
    let uniforms: Vec<f32> = (0..images).map(|image| (image as f32 + 0.5) / images as f32).collect();

    Ok(Box::new(move || {
        for (place, decoder) in &mut decoders {
            decoder.rewind(*place);
            let logits = decoder.step(&tokens).expect("a step");
            let drawn = device.sample(&logits, SampleOptions::PLAIN, &uniforms).expect("a draw");
            black_box(device.download_tokens(&drawn).expect("tokens"));
        }
    }))
}
