//! Images of a class from a model with a class head, by sequential Monte Carlo.
//!
//! The aim is an image `x` with probability in proportion to `p(x) · p(c | x)^S`, where `p(x)` is what the model draws (with
//! temperature, top-k and top-p as asked) and `p(c | x)` what its class head says of the whole image. Of each image `M`
//! particles are drawn at once, each from `p`. After each pixel a particle's weight is multiplied by `(h_t / h_(t-1))^S`, where
//! `h_t` is the class head on the mean of the features so far. Where weights have become unequal (an effective number of
//! particles below `M / 2`), particles are drawn anew by weight: likely ones are doubled, unlikely ones end. At the end one is
//! drawn by weight and is the image.
//!
//! The head was trained on the mean over whole images, and what it says of a beginning is a guess that nothing has trained.
//! The guess decides which particles go on, and so how well `M` of them do; but the factors telescope, so what an image weighs in
//! the end is `p(c | x)^S` of the whole image alone, and with more and more particles the result is the aim whatever the guess.
//! (Del Moral, Doucet and Jasra, "Sequential Monte Carlo samplers", 2006; twisting by a classifier: Wu and others, 2023.)

use std::rc::Rc;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::decoder::{Decoder, Step};
use super::generation::{Generation, Guidance};
use super::uniform::uniform;
use crate::device::{Device, Result};
use crate::model::Transformer;
use crate::random::{self, Purpose};
use crate::tape::Parameters;

/// [`super::decode::generate_until`] with guidance that acts.
#[allow(clippy::too_many_arguments)]
pub(super) fn generate<D: Device>(
    device: &D,
    model: &Transformer,
    parameters: &Parameters<D>,
    images: usize,
    prompts: &[u16],
    generation: Generation,
    guidance: Guidance,
    mut goes_on: impl FnMut(usize) -> bool,
) -> Result<Option<Vec<u16>>> {
    let Generation { length, options, seed, first, .. } = generation;
    let prompt = prompts.len() / images.max(1);
    model.restore::<u16>(&[], length)?;

    // Particles of one image are neighbours: row `image · M + particle`. Each has random numbers of its own, the first those of
    // the image without guidance.
    let rows = images * guidance.particles;
    let image_of = |row: usize| row / guidance.particles;
    let stream = |row: usize| {
        let (particle, image) = ((row % guidance.particles) as u64, first + image_of(row) as u64);
        random::stream(seed, Purpose::SampledTokens, particle, image)
    };
    let mut rngs: Vec<ChaCha8Rng> = (0..rows).map(stream).collect();
    let mut decoder = Decoder::new(device, model, parameters, rows, length)?;
    let mut cloud = Cloud::new(device, model, guidance, first, rows)?;
    let mut sequences = vec![0_u16; rows * length];
    let mut previous = vec![model.sos(); rows];

    for position in 0..length {
        let Step { features, mut logits } = decoder.step_with_features(&previous)?;

        // Weigh each particle by its pixels so far, and draw anew where that is due.
        cloud.weigh(device, model, parameters, &features)?;
        drop(features);
        if let Some(ancestors) = cloud.resample(seed, position) {
            decoder.reorder(&ancestors)?;
            cloud.reorder(device, &ancestors)?;
            logits = Rc::new(device.gather(&logits, &ancestors)?);
            sequences = ancestors.iter().flat_map(|row| &sequences[row * length..][..length]).copied().collect();
        }

        let uniforms: Vec<f32> = rngs.iter_mut().map(uniform).collect();
        previous = if position < prompt {
            (0..rows).map(|row| prompts[image_of(row) * prompt + position]).collect()
        } else {
            device.download_tokens(&device.sample(&logits, options, &uniforms)?)?
        };
        for (row, token) in previous.iter().enumerate() {
            sequences[row * length + position] = *token;
        }
        if !goes_on(position + 1) {
            return Ok(None);
        }
    }

    let chosen = cloud.choose(seed, length).into_iter();
    let images: Vec<u16> = chosen.flat_map(|row| &sequences[row * length..][..length]).copied().collect();
    Ok(Some(model.restore(&images, length)?.into_owned()))
}

/// The particles of all images: what the class head says of them.
struct Cloud<D: Device> {
    guidance: Guidance,
    /// Number of the first image.
    first: u64,
    /// Sum of the features so far of each particle, `[rows, 1, d]`.
    sum: D::Tensor,
    /// Positions in it.
    positions: usize,
    /// Log-probability of the class asked for, of each particle so far.
    log_class: Vec<f64>,
    /// The same when the particle's image was last drawn anew: the weight is the ratio, to the power of the strength.
    log_base: Vec<f64>,
}

impl<D: Device> Cloud<D> {
    fn new(device: &D, model: &Transformer, guidance: Guidance, first: u64, rows: usize) -> Result<Self> {
        let sum = device.zeros(&[rows, 1, model.config().width])?;
        Ok(Self { guidance, first, sum, positions: 0, log_class: vec![0.0; rows], log_base: Vec::new() })
    }

    /// Takes the features of one more position, `[rows, 1, d]`.
    fn weigh(
        &mut self,
        device: &D,
        model: &Transformer,
        parameters: &Parameters<D>,
        features: &D::Tensor,
    ) -> Result<()> {
        device.add_assign(&mut self.sum, features)?;
        self.positions += 1;

        // The head is linear: of the sum it gives the logits of the mean, times the number of positions.
        let logits = device.download(&model.head_logits(device, parameters, &self.sum)?)?;
        let classes = logits.len() / self.log_class.len();
        for (row, (logits, log_class)) in logits.chunks_exact(classes).zip(&mut self.log_class).enumerate() {
            let class = self.guidance.class.of(self.first + (row / self.guidance.particles) as u64);
            let mean = |logit: f32| f64::from(logit) / self.positions as f64;
            *log_class = log_softmax(logits.iter().copied().map(mean), usize::from(class));
        }
        // Of nothing but `sos` all particles are one.
        if self.log_base.is_empty() {
            self.log_base.clone_from(&self.log_class);
        }
        Ok(())
    }

    /// Normalised weights of the particles of each image, `[M]`.
    fn weights(&self) -> impl Iterator<Item = Vec<f64>> + '_ {
        let particles = self.guidance.particles;
        let images = self.log_class.chunks_exact(particles).zip(self.log_base.chunks_exact(particles));
        images.map(|(now, base)| {
            let logs = now.iter().zip(base).map(|(now, base)| self.guidance.strength * (now - base));
            softmax(&logs.collect::<Vec<_>>())
        })
    }

    /// Which row each particle goes on from, if any image's particles are drawn anew at this position.
    fn resample(&mut self, seed: u64, position: usize) -> Option<Vec<usize>> {
        let particles = self.guidance.particles;
        let mut ancestors: Vec<usize> = (0..self.log_class.len()).collect();
        let mut drawn = Vec::new();
        for (image, weights) in self.weights().enumerate() {
            let effective = 1.0 / weights.iter().map(|weight| weight * weight).sum::<f64>();
            if effective < 0.5 * particles as f64 {
                let random = &mut self.random(seed, position, image);
                let rows = image * particles..(image + 1) * particles;
                for (ancestor, chosen) in ancestors[rows].iter_mut().zip(systematic(&weights, random.random())) {
                    *ancestor = image * particles + chosen;
                }
                drawn.push(image);
            }
        }

        // From here on their weights are equal.
        for row in drawn.iter().flat_map(|image| image * particles..(image + 1) * particles) {
            self.log_base[row] = self.log_class[ancestors[row]];
        }
        (!drawn.is_empty()).then_some(ancestors)
    }

    fn reorder(&mut self, device: &D, ancestors: &[usize]) -> Result<()> {
        self.sum = device.gather(&self.sum, ancestors)?;
        self.log_class = ancestors.iter().map(|row| self.log_class[*row]).collect();
        Ok(())
    }

    /// The row that each image becomes, drawn by weight.
    fn choose(&self, seed: u64, position: usize) -> Vec<usize> {
        let chosen = |(image, weights): (usize, Vec<f64>)| {
            let wanted: f64 = self.random(seed, position, image).random();
            let mut cumulative = 0.0;
            let particle = weights.iter().position(|weight| {
                cumulative += weight;
                cumulative > wanted
            });
            image * self.guidance.particles + particle.unwrap_or(0)
        };
        self.weights().enumerate().map(chosen).collect()
    }

    fn random(&self, seed: u64, position: usize, image: usize) -> ChaCha8Rng {
        random::stream(seed, Purpose::Resampling, position as u64, self.first + image as u64)
    }
}

/// As many members as there are weights, in order, each as often as its weight says but for rounding up or down: those at the
/// cumulative weights `(i + uniform) / M` (Kitagawa, 1996).
fn systematic(weights: &[f64], uniform: f64) -> Vec<usize> {
    let (mut member, mut cumulative) = (0, weights[0]);
    let count = weights.len();
    (0..count)
        .map(|i| {
            let wanted = (i as f64 + uniform) / count as f64;
            while cumulative <= wanted && member + 1 < count {
                member += 1;
                cumulative += weights[member];
            }
            member
        })
        .collect()
}

fn softmax(logs: &[f64]) -> Vec<f64> {
    let max = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exps: Vec<f64> = logs.iter().map(|log| (log - max).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.iter().map(|exp| exp / sum).collect()
}

/// The logarithm of member `index` of the softmax of `logits`.
fn log_softmax(mut logits: impl Iterator<Item = f64> + Clone, index: usize) -> f64 {
    let max = logits.clone().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.clone().map(|logit| (logit - max).exp()).sum();
    logits.nth(index).map_or(f64::NEG_INFINITY, |logit| logit - max - sum.ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn particles_go_on_as_often_as_their_weights_say() {
        assert_eq!(systematic(&[0.25; 4], 0.0), [0, 1, 2, 3]);
        assert_eq!(systematic(&[0.25; 4], 0.99), [0, 1, 2, 3]);
        assert_eq!(systematic(&[0.0, 0.5, 0.0, 0.5], 0.5), [1, 1, 3, 3]);
        assert_eq!(systematic(&[0.1, 0.0, 0.9, 0.0], 0.3), [0, 2, 2, 2]);
        assert_eq!(systematic(&[0.1, 0.0, 0.9, 0.0], 0.4), [2, 2, 2, 2]);
        // Nothing can be said of such, and nothing is left out.
        assert_eq!(systematic(&[f64::NAN; 3], 0.5), [0, 0, 0]);

        let weights = [0.37, 0.05, 0.41, 0.17];
        let mut counts = [0.0; 4];
        for step in 0..1000 {
            let drawn = systematic(&weights, (f64::from(step) + 0.5) / 1000.0);
            drawn.into_iter().for_each(|member| counts[member] += 1.0 / 4000.0);
        }
        assert!(counts.iter().zip(weights).all(|(count, weight)| (count - weight).abs() < 1e-3), "{counts:?}");
    }

    #[test]
    fn probabilities_of_large_logits_are_finite() {
        let logits = [1000.0, 1001.0, 990.0];
        let expected = 1.0 - (1.0 + 1_f64.exp() + (-10_f64).exp()).ln();
        assert!((log_softmax(logits.into_iter(), 1) - expected).abs() < 1e-12);
        assert!((softmax(&logits)[1] - expected.exp()).abs() < 1e-12);
    }
}
