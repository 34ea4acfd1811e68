//! Sampling: one pixel at a time, with keys and values of earlier pixels cached.

use std::ops::ControlFlow;
use std::rc::Rc;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::device::{Device, Result, SampleOptions};
use crate::model::Transformer;
use crate::random::{self, Purpose};
use crate::tape::{Forward, NoTape, Parameters, Recorder, Var};

/// A batch of images in progress: the model's caches, and how far they are filled.
pub struct Decoder<'a, D: Device> {
    device: &'a D,
    model: &'a Transformer,
    parameters: &'a Parameters<D>,
    /// Keys and values of each block, `[B, T, d]` each.
    caches: Vec<(D::Tensor, D::Tensor)>,
    position: usize,
}

impl<'a, D: Device> Decoder<'a, D> {
    /// Empty caches for `images` sequences of `length` tokens.
    pub fn new(
        device: &'a D,
        model: &'a Transformer,
        parameters: &'a Parameters<D>,
        images: usize,
        length: usize,
    ) -> Result<Self> {
        let shape = [images, length, model.config().width];
        let caches = (0..model.config().layers)
            .map(|_| Ok((device.zeros(&shape)?, device.zeros(&shape)?)))
            .collect::<Result<_>>()?;
        Ok(Self { device, model, parameters, caches, position: 0 })
    }

    /// Feeds the token of the next position for every image (`ids` `[B, 1]`: `sos` first) and returns the logits
    /// `[B, 1, V]` of the pixel at that position.
    pub fn step(&mut self, ids: D::Tokens) -> Result<Rc<D::Tensor>> {
        let Self { device, model, parameters, caches, position } = self;
        let heads = model.config().heads;

        // Nothing is recorded, and attention reads the cache.
        let mut no_tape = NoTape;
        let mut f = Forward::new(*device, parameters, &mut no_tape);
        let attend = |f: &mut Forward<'_, D, NoTape>, layer: usize, qkv: &Var<D>| {
            let (keys, values) = &mut caches[layer];
            let mixed = f.device.attention_decode(qkv.value(), keys, values, *position, heads)?;
            Ok(f.recorder.value(mixed))
        };

        // The token through all blocks to its logits.
        let features = model.blocks(&mut f, &Rc::new(ids), *position, attend, |_| Ok(()))?;
        let logits = model.logits(&mut f, &features)?;
        *position += 1;
        Ok(logits.into_value())
    }
}

/// What to generate, and how.
#[derive(Clone, Copy, Debug)]
pub struct Generation {
    /// Tokens of an image.
    pub length: usize,
    /// How a token is chosen.
    pub options: SampleOptions,
    /// Seed of the draws.
    pub seed: u64,
    /// Number of the first image: image `first + i` draws the same numbers in whatever batch it stands.
    pub first: u64,
}

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
    let drawn = generate_watched(device, model, parameters, images, prompts, generation, |position, _| {
        progress(position + 1);
        ControlFlow::Continue(())
    })?;
    // Nobody has ended it.
    Ok(drawn.unwrap_or_default())
}

/// [`generate`], watched: `watch` is shown each position of the model's order with the tokens of all images there, `[images]`, as
/// soon as they are known, those of prompts too. Where it breaks, the drawing ends and nothing comes of it.
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
    let Generation { length, options, seed, first } = generation;
    let prompt = prompts.len() / images.max(1);
    // An error in the length shows before anything is drawn.
    model.restore::<u16>(&[], length)?;

    // A stream of random numbers per image, the caches, and `sos` to start with.
    let mut rngs = random_streams(seed, first, images);
    let mut decoder = Decoder::new(device, model, parameters, images, length)?;
    let mut sequences = vec![0_u16; images * length];
    let mut previous = vec![model.sos(); images];

    for position in 0..length {
        let logits = decoder.step(device.upload_tokens([images, 1], &previous)?)?;

        // Uniforms are drawn at prompted positions too, so that a pixel's number depends on its position alone.
        let uniforms: Vec<f32> = rngs.iter_mut().map(uniform).collect();

        // The token at this position: the prompt's, or one drawn from the logits.
        previous = if position < prompt {
            (0..images).map(|image| prompts[image * prompt + position]).collect()
        } else {
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

/// The next number of a stream, in `[0, 1)`.
pub(super) fn uniform(random: &mut ChaCha8Rng) -> f32 {
    (random.next_u32() >> 8) as f32 / (1 << 24) as f32
}
