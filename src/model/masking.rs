//! Which positions a BERT model must guess: each by itself with one probability (the paper: 0.15), at least one an
//! image.
//!
//! A mask is a pure function of the seed, what it is for, and the number of the image or sample: a resumed run, another
//! batch size or another number of threads meets the same masks.

use rand::{Rng, RngExt};

use crate::random::{self, Purpose};

/// The paper's mask rate; 20 % did as well there, 25 % and more worse.
pub const MASK_RATE: f64 = 0.15;

/// How masks are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Masking {
    /// Probability of a position being masked, above 0 and at most 1.
    pub rate: f64,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Masking {
    fn default() -> Self {
        Self { rate: MASK_RATE, seed: 0 }
    }
}

impl Masking {
    /// Masks of the training samples `first..first + images`, `[images · length]`; `true` is masked. Samples are
    /// counted over the whole run, so an image is masked anew in each epoch.
    pub fn training(&self, first: u64, images: usize, length: usize) -> Vec<bool> {
        self.masks(Purpose::TrainingMask, 0, first, images, length)
    }

    /// Masks number `draw` of the images `first..first + images` of a data set, `[images · length]`; `true` is masked.
    pub fn evaluation(&self, draw: u64, first: u64, images: usize, length: usize) -> Vec<bool> {
        self.masks(Purpose::EvaluationMask, draw, first, images, length)
    }

    fn masks(&self, purpose: Purpose, draw: u64, first: u64, images: usize, length: usize) -> Vec<bool> {
        let mut masks = Vec::with_capacity(images * length);
        for image in (first..).take(images) {
            let mut random = random::stream(self.seed, purpose, draw, image);
            let start = masks.len();
            masks.extend((0..length).map(|_| f64::from(random.next_u32()) < self.rate * 4_294_967_296.0));
            if length > 0 && !masks[start..].contains(&true) {
                masks[start + random.random_range(0..length)] = true;
            }
        }
        masks
    }
}

/// The class that most of the `votes` name; among equals one by chance, decided by the seed and the number of the
/// image. This is how the paper turns several masked views of an image into one prediction (section 4.6). `None`
/// without votes.
pub fn modal_class(votes: &[u16], seed: u64, image: u64) -> Option<u16> {
    let mut sorted = votes.to_vec();
    sorted.sort_unstable();
    let runs: Vec<&[u16]> = sorted.chunk_by(|a, b| a == b).collect();
    let max_votes = runs.iter().map(|run| run.len()).max()?;
    let tied: Vec<u16> = runs.into_iter().filter(|run| run.len() == max_votes).map(|run| run[0]).collect();
    Some(tied[random::stream(seed, Purpose::TieBreak, 0, image).random_range(0..tied.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_and_positions_are_independent() {
        for rate in [0.15, 0.2, 0.5, 1.0] {
            let (images, length) = (100, 1024);
            let masks = Masking { rate, seed: 3 }.training(0, images, length);
            let fraction = masks.iter().filter(|masked| **masked).count() as f64 / masks.len() as f64;
            let deviation = (rate * (1.0 - rate) / masks.len() as f64).sqrt();
            assert!((fraction - rate).abs() <= 4.0 * deviation, "{fraction} for {rate}");
            let both = masks.windows(2).filter(|pair| pair[0] && pair[1]).count() as f64 / masks.len() as f64;
            assert!((both - rate * rate).abs() < 0.01, "neighbours are masked together: {both} for {rate}");
        }
    }

    #[test]
    fn at_least_one_position_is_masked_and_not_always_the_same() {
        let masking = Masking { rate: 1e-6, seed: 0 };
        let masks = masking.training(0, 400, 4);
        let mut counts = [0; 4];
        for mask in masks.chunks(4) {
            assert_eq!(mask.iter().filter(|masked| **masked).count(), 1);
            counts[mask.iter().position(|masked| *masked).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (60..140).contains(count)), "{counts:?}");
        assert_eq!(masking.evaluation(0, 0, 3, 1), [true; 3]);
    }

    #[test]
    fn masks_are_functions_of_their_numbers_alone() {
        let masking = Masking { rate: 0.15, seed: 7 };
        let together = masking.training(5, 4, 64);
        let apart: Vec<bool> = (5..9).flat_map(|sample| masking.training(sample, 1, 64)).collect();
        assert_eq!(together, apart);
        let one = |masking: Masking, sample| masking.training(sample, 1, 64);
        assert_ne!(one(masking, 1), one(masking, 2));
        assert_ne!(one(masking, 1), one(Masking { seed: 8, ..masking }, 1));
        assert_ne!(masking.training(1, 1, 64), masking.evaluation(0, 1, 1, 64));
        assert_ne!(masking.evaluation(0, 1, 1, 64), masking.evaluation(1, 1, 1, 64));
    }

    #[test]
    fn the_modal_class_wins_and_ties_fall_to_each_side() {
        assert_eq!(modal_class(&[3, 1, 3, 2, 1, 3], 0, 0), Some(3));
        assert_eq!(modal_class(&[9], 0, 0), Some(9));
        assert_eq!(modal_class(&[], 0, 0), None);
        let wins = (0..1000).filter(|image| modal_class(&[4, 1, 4, 1, 0], 5, *image) == Some(4)).count();
        assert!((420..580).contains(&wins), "{wins}");
        assert!((0..1000).all(|image| modal_class(&[4, 1, 4, 1, 0], 5, image) != Some(0)));
        assert_eq!(modal_class(&[4, 1], 5, 11), modal_class(&[1, 4], 5, 11));
    }
}
