//! What a BERT model makes of masked pixels: guessed in rounds, each from all that is known by then.
//!
//! Such a model says of every masked pixel how likely each colour is, but of each by itself: all drawn at once would not know of one
//! another. So a round draws a few of them, in an order that the seed decides, and shows them to the next. (Ghazvininejad and others,
//! "Mask-Predict", 2019, do the same with words.) The paper draws nothing from its BERT models.

use std::ops::ControlFlow;

use rand::RngExt;

use super::decode::random_streams;
use super::generation::Generation;
use super::uniform::uniform;
use crate::device::{Device, Result};
use crate::model::Transformer;
use crate::random::{self, Purpose};
use crate::tape::{Forward, NoTape, Parameters};

/// Rounds at most: each is a pass over whole images.
pub const MAX_ROUNDS: usize = 64;

/// Fills the pixels that are `true` in `masked` (`[length]`, raster order) of `images` copies of `original` (`[length]`, raster order):
/// all tokens of each, `[images · length]`. `watch` is shown every filled pixel with the tokens of all images there, `[images]`; where
/// it breaks, the drawing ends and nothing comes of it. A pixel's random number depends on seed, image and pixel alone.
///
/// # Errors
/// Those of the device; a mask of another length, or of nothing.
pub fn fill_watched<D: Device>(
    device: &D,
    model: &Transformer,
    parameters: &Parameters<D>,
    images: usize,
    (original, masked): (&[u16], &[bool]),
    generation: Generation,
    mut watch: impl FnMut(usize, &[u16]) -> ControlFlow<()>,
) -> Result<Option<Vec<u16>>> {
    let Generation { length, options, seed, first, .. } = generation;
    let order = filling_order(masked, seed);
    let uniforms: Vec<Vec<f32>> = random_streams(seed, first, images)
        .iter_mut()
        .map(|random| (0..length).map(|_| uniform(random)).collect())
        .collect();
    let mut tokens = original.repeat(images);
    let mut masked = masked.repeat(images);

    for pixels in order.chunks(order.len().div_ceil(MAX_ROUNDS).max(1)) {
        // Logits `[images, length, V]` of every pixel; kept are those of this round, `[images · pixels, V]`.
        let logits = logits(device, model, parameters, &tokens, length, &masked)?;
        let vocabulary = logits.len() / tokens.len();
        let places: Vec<usize> =
            (0..images).flat_map(|image| pixels.iter().map(move |pixel| image * length + pixel)).collect();
        let rows: Vec<f32> = places.iter().flat_map(|at| &logits[at * vocabulary..][..vocabulary]).copied().collect();

        // Drawn as other models draw their next token.
        let numbers: Vec<f32> = places.iter().map(|at| uniforms[at / length][at % length]).collect();
        let drawn = device.sample(&device.upload(&[places.len(), vocabulary], &rows)?, options, &numbers)?;
        for (at, token) in places.iter().zip(device.download_tokens(&drawn)?) {
            (tokens[*at], masked[*at]) = (token, false);
        }
        for pixel in pixels {
            let column: Vec<u16> = tokens.iter().skip(*pixel).step_by(length).copied().collect();
            if watch(*pixel, &column).is_break() {
                return Ok(None);
            }
        }
    }
    Ok(Some(tokens))
}

/// The masked pixels in the order in which they are filled.
fn filling_order(masked: &[bool], seed: u64) -> Vec<usize> {
    let mut random = random::stream(seed, Purpose::FillingOrder, 0, 0);
    let mut order: Vec<usize> = (0..masked.len()).filter(|pixel| masked[*pixel]).collect();
    // Fisher and Yates.
    for end in (1..order.len()).rev() {
        order.swap(end, random.random_range(0..=end));
    }
    order
}

/// Scores of every colour at every pixel, `[images, length, V]`, with the masked ones hidden.
fn logits<D: Device>(
    device: &D,
    model: &Transformer,
    parameters: &Parameters<D>,
    tokens: &[u16],
    length: usize,
    masked: &[bool],
) -> Result<Vec<f32>> {
    let batch = model.bert_batch(device, tokens, length, masked, 1.0)?;
    let mut no_tape = NoTape;
    let f = &mut Forward::new(device, parameters, &mut no_tape);
    let features = model.features(f, &batch.inputs, batch.mask, |_| Ok(()))?;
    let logits = model.logits(f, &features)?;
    device.download(logits.value())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{CpuDevice, SampleOptions};
    use crate::model::{ModelConfig, parameter_specs};

    /// A BERT model of images of 4 × 4 in 8 colours, with random weights everywhere.
    fn model(device: &CpuDevice) -> (Transformer, Parameters<CpuDevice>) {
        let config = ModelConfig {
            layers: 1,
            width: 8,
            heads: 2,
            positions: 16,
            vocabulary: 8,
            sos: false,
            ..ModelConfig::preset(crate::model::Preset::Tiny, 4)
        };
        let parameters = Parameters::from_fn(device, parameter_specs(&config), |index, spec| {
            let mut random = random::stream(7, Purpose::InitialValues, 0, index as u64);
            Ok::<_, crate::device::Error>((0..spec.elements()).map(|_| uniform(&mut random) - 0.5).collect())
        });
        (Transformer::new(config).unwrap(), parameters.unwrap())
    }

    #[test]
    fn what_is_masked_is_filled_by_the_seed_and_the_rest_stays() {
        let device = CpuDevice::new(Some(1)).unwrap();
        let (model, parameters) = model(&device);
        let original: Vec<u16> = (0..16).map(|pixel| pixel % 8).collect();
        let masked: Vec<bool> = (0..16).map(|pixel| pixel % 3 == 0).collect();
        let fill = |images, seed, first| {
            let generation = Generation { length: 16, options: SampleOptions::PLAIN, seed, first, guidance: None };
            let mut seen = Vec::new();
            let what = (&original[..], &masked[..]);
            let filled = fill_watched(&device, &model, &parameters, images, what, generation, |pixel, tokens| {
                seen.push((pixel, tokens.to_vec()));
                ControlFlow::Continue(())
            });
            (filled.unwrap().unwrap(), seen)
        };
        let (filled, seen) = fill(3, 1, 0);
        for (image, tokens) in filled.chunks(16).enumerate() {
            for pixel in 0..16 {
                let shown = seen.iter().find(|(at, _)| *at == pixel).map(|(_, tokens)| tokens[image]);
                assert_eq!(shown.is_some(), masked[pixel]);
                assert_eq!(tokens[pixel], shown.unwrap_or(original[pixel]));
            }
        }
        assert_eq!(fill(3, 1, 0).0, filled);
        assert_ne!(fill(3, 2, 0).0, filled);
        assert_eq!(fill(1, 1, 2).0, filled[32..], "an image is the same in whatever batch it stands");
    }

    #[test]
    fn every_round_is_small_and_a_watcher_ends_it() {
        let masked = vec![true; 1000];
        let mut order = filling_order(&masked, 3);
        assert_ne!(order, filling_order(&masked, 4));
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());

        let device = CpuDevice::new(Some(1)).unwrap();
        let (model, parameters) = model(&device);
        let generation = Generation { length: 16, options: SampleOptions::PLAIN, seed: 0, first: 0, guidance: None };
        let mut seen = 0;
        let (original, masked) = ([0; 16], [true; 16]);
        let filled = fill_watched(&device, &model, &parameters, 2, (&original, &masked), generation, |_, _| {
            seen += 1;
            if seen == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!((filled.unwrap(), seen), (None, 5));
    }
}
