//! Sampling: images completed, or generated from nothing.

use std::ops::ControlFlow;

use rand_chacha::ChaCha8Rng;

use super::decoder::Decoder;
use super::generation::{Generation, Guidance};
use super::guided;
use super::uniform::uniform;
use crate::device::{Device, Result};
use crate::model::Transformer;
use crate::random::{self, Purpose};
use crate::tape::Parameters;

/// Completes images: `prompts` holds the first `prompt` tokens of each of `images` in the model's order (none: from
/// nothing), and the result all `length` tokens of each in raster order, row after row. `progress` is called
/// with the number of positions done.
///
/// # Errors
/// Those of the device, and a `length` that is not that of the model's order.
pub fn generate<D: Device>(
    device: &D,
    model: &Transformer,
    parameters: &Parameters<D>,
    images: usize,
    prompts: &[u16],
    generation: Generation,
    mut progress: impl FnMut(usize),
) -> Result<Vec<u16>> {
    let drawn = generate_until(device, model, parameters, images, prompts, generation, |position| {
        progress(position);
        true
    })?;
    // Nobody has ended it.
    Ok(drawn.unwrap_or_default())
}

/// [`generate`] for as long as `goes_on`, which is called with the number of positions done, says so; `None` if it did not.
///
/// # Errors
/// As [`generate`].
pub(super) fn generate_until<D: Device>(
    device: &D,
    model: &Transformer,
    parameters: &Parameters<D>,
    images: usize,
    prompts: &[u16],
    generation: Generation,
    mut goes_on: impl FnMut(usize) -> bool,
) -> Result<Option<Vec<u16>>> {
    if let Some(guidance) = generation.guidance.filter(Guidance::acts) {
        return guided::generate(device, model, parameters, images, prompts, generation, guidance, goes_on);
    }
    generate_watched(device, model, parameters, images, prompts, generation, |position, _| {
        if goes_on(position + 1) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })
}

/// Images drawn without guidance, watched: `watch` is shown each position of the model's order with the tokens of all images there,
/// `[images]`, as soon as they are known, those of prompts too. Where it breaks, the drawing ends and nothing comes of it.
///
/// # Errors
/// As [`generate`].
pub fn generate_watched<D: Device>(
    device: &D,
    model: &Transformer,
    parameters: &Parameters<D>,
    images: usize,
    prompts: &[u16],
    generation: Generation,
    mut watch: impl FnMut(usize, &[u16]) -> ControlFlow<()>,
) -> Result<Option<Vec<u16>>> {
    let Generation { length, options, seed, first, .. } = generation;
    let prompt = prompts.len() / images.max(1);
    // An error in the length shows before anything is drawn.
    model.restore::<u16>(&[], length)?;

    // A stream of random numbers per image, and what is fed next: `sos` to start with.
    let mut rngs = random_streams(seed, first, images);
    let mut decoder = None;
    let mut sequences = vec![0_u16; images * length];
    let mut previous = vec![model.sos(); images];

    for position in 0..length {
        // Uniforms are drawn at prompted positions too, so that a pixel's number depends on its position alone.
        let uniforms: Vec<f32> = rngs.iter_mut().map(uniform).collect();

        // The token at this position: the prompt's, or one drawn from the logits. What was prompted is fed at once, when it is needed.
        previous = if position < prompt {
            (0..images).map(|image| prompts[image * prompt + position]).collect()
        } else {
            let decoder = match &mut decoder {
                Some(decoder) => decoder,
                none => none.insert(Decoder::prompted(device, model, parameters, images, prompts, length)?),
            };
            let logits = decoder.step(&previous)?;
            device.download_tokens(&device.sample(&logits, options, &uniforms)?)?
        };
        for (image, token) in previous.iter().enumerate() {
            sequences[image * length + position] = *token;
        }
        if watch(position, &previous).is_break() {
            return Ok(None);
        }
    }

    Ok(Some(model.restore(&sequences, length)?.into_owned()))
}

/// The random numbers of each image, the first of which is number `first`.
pub(super) fn random_streams(seed: u64, first: u64, images: usize) -> Vec<ChaCha8Rng> {
    (0..images as u64).map(|image| random::stream(seed, Purpose::SampledTokens, 0, first + image)).collect()
}
