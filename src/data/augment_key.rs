//! What decides how an image is augmented.

use rand_chacha::ChaCha8Rng;

use crate::random::{self, Purpose};

/// One use of an example in training: a key that decides its augmentation, as a pure function of these three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AugmentKey {
    /// Seed of the run.
    pub seed: u64,
    /// Pass over the data, from 0.
    pub epoch: u64,
    /// Index of the example.
    pub index: u64,
}

impl AugmentKey {
    /// The random numbers of this use.
    pub fn random(self) -> ChaCha8Rng {
        random::stream(self.seed, Purpose::Augmentation, self.epoch, self.index)
    }
}
