//! Everything random in the engine: one function of a seed, a purpose and two counters.
//!
//! No random number depends on what was asked for before, so nothing needs saving: a run is resumed from its counters
//! alone, and neither the batch size nor the number of threads moves a number.
//!
//! [`stream`] gives ChaCha8 under a key of four 64-bit words, little-endian, at a stream number of ChaCha's own:
//!
//! | part | holds |
//! |---|---|
//! | key word 0 | the seed |
//! | key words 1 and 3 | the purpose |
//! | key word 2 | the first counter |
//! | stream number | the second counter |
//!
//! So different arguments give a different key or stream number, and no two purposes share a stream.
//! [`Purpose::InitialValues`] alone has a key of another form, so that a seed gives the weights that it always gave: the
//! 256 bits that `seed_from_u64` makes of the seed. They are as good as random: that any
//! seed's equal a key of the form above has a probability of about 2^-64.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What random numbers are for. Each purpose has streams of its own, so that asking for more for one moves no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Crop and flip of a training image. Counters: epoch, index of the example.
    Augmentation,
    /// Order of the training examples. Counters: epoch, 0.
    Shuffle,
    /// Which training images are held out for validation. Counters: 0, 0.
    HoldOut,
    /// First centres of k-means. Counters: 0, 0.
    Palette,
    /// BERT's mask of a training sample. Counters: 0, number of the sample within the run.
    TrainingMask,
    /// BERT's mask of an image that is evaluated. Counters: number of the mask, index of the image.
    EvaluationMask,
    /// Which of the classes with equally many votes is predicted. Counters: 0, index of the image.
    TieBreak,
    /// Initial values of parameters. Counters: 0, 1 + index of the parameter.
    InitialValues,
    /// Tokens that are sampled from a model. Counters: number of the particle (0 without guidance), number of the image.
    SampledTokens,
    /// Which particles go on, and which becomes the image. Counters: position, number of the image.
    Resampling,
    /// Order of the rows that SGD fits a probe on. Counters: epoch, 0.
    ProbeShuffle,
    /// Which labelled images a few-label probe is given. Counters: 0, class.
    FewLabels,
    /// Order in which a BERT model fills masked pixels. Counters: 0, 0.
    FillingOrder,
    /// Tokens of a training step whose launches are traced. Counters: 0, 0.
    TracedTokens,
}

impl Purpose {
    /// Key words 1 and 3. They are fixed for good: other words would be other splits, masks and samples for the same seed.
    fn words(self) -> [u64; 2] {
        let mask = |number: u8| {
            let [m, a, s, k, i, n, g] = *b"masking";
            [u64::from_le_bytes([m, a, s, k, i, n, g, number]), u64::from_le_bytes(*b"________")]
        };
        match self {
            Purpose::Augmentation => [1, 0],
            Purpose::Shuffle => [2, 0],
            Purpose::HoldOut => [3, 0],
            Purpose::Palette => [4, 0],
            Purpose::TrainingMask => mask(1),
            Purpose::EvaluationMask => mask(2),
            Purpose::TieBreak => mask(3),
            Purpose::InitialValues => [5, 0],
            Purpose::SampledTokens => [6, 0],
            Purpose::ProbeShuffle => [7, 0],
            Purpose::FewLabels => [8, 0],
            Purpose::Resampling => [9, 0],
            Purpose::FillingOrder => [10, 0],
            Purpose::TracedTokens => [11, 0],
        }
    }
}

/// The random numbers of a seed for one purpose, at two counters whose meaning [`Purpose`] gives.
pub fn stream(seed: u64, purpose: Purpose, a: u64, b: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    let [name, tail] = purpose.words();
    for (bytes, word) in key.chunks_exact_mut(8).zip([seed, name, a, tail]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }

    let mut random = match (purpose, a) {
        (Purpose::InitialValues, 0) => ChaCha8Rng::seed_from_u64(seed),
        _ => ChaCha8Rng::from_seed(key),
    };
    random.set_stream(b);
    random
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::Rng;

    use super::*;

    const ALL: [Purpose; 14] = [
        Purpose::Augmentation,
        Purpose::Shuffle,
        Purpose::HoldOut,
        Purpose::Palette,
        Purpose::TrainingMask,
        Purpose::EvaluationMask,
        Purpose::TieBreak,
        Purpose::InitialValues,
        Purpose::SampledTokens,
        Purpose::Resampling,
        Purpose::ProbeShuffle,
        Purpose::FewLabels,
        Purpose::FillingOrder,
        Purpose::TracedTokens,
    ];

    #[test]
    fn no_two_purposes_share_a_stream() {
        let counters = [0, 1, 2, 3, 1000, u64::from(u32::MAX), u64::MAX];
        let (mut streams, mut first_words, mut asked) = (HashSet::new(), HashSet::new(), 0);
        for seed in [0, 1, 2, 8, 1 << 32, u64::MAX] {
            for purpose in ALL {
                for (a, b) in counters.into_iter().flat_map(|a| counters.map(|b| (a, b))) {
                    let mut random = stream(seed, purpose, a, b);
                    streams.insert((random.get_seed(), random.get_stream()));
                    first_words.insert((random.next_u64(), random.next_u64()));
                    asked += 1;
                }
            }
        }
        assert_eq!((streams.len(), first_words.len()), (asked, asked));
    }

    #[test]
    fn the_same_arguments_give_the_same_numbers() {
        for purpose in ALL {
            let [mut once, mut again] = [(); 2].map(|()| stream(7, purpose, 3, 5));
            assert_eq!(once.next_u64(), again.next_u64(), "{purpose:?}");
        }
    }

    /// Splits, augmentations, masks and initial weights of a seed, as runs on disk were made with them.
    #[test]
    fn streams_of_earlier_runs_are_where_they_were() {
        let key = |purpose, a| stream(0x0807_0605_0403_0201, purpose, a, 9).get_seed();
        assert_eq!(
            key(Purpose::Shuffle, 4),
            *b"\x01\x02\x03\x04\x05\x06\x07\x08\x02\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
        );
        assert_eq!(
            key(Purpose::EvaluationMask, 4),
            *b"\x01\x02\x03\x04\x05\x06\x07\x08masking\x02\x04\0\0\0\0\0\0\0________"
        );
        let values = stream(3, Purpose::InitialValues, 0, 9);
        assert_eq!((values.get_seed(), values.get_stream()), (ChaCha8Rng::seed_from_u64(3).get_seed(), 9));
    }
}
