//! Held-out validation images: 4 % of ImageNet, 10 % of CIFAR and STL-10 in the paper.

use rand::seq::SliceRandom;

use super::error::{DataError, Result};
use crate::random::{self, Purpose};

/// The indices below `count` that are trained on, and those held out: each set ascending, the same for the same seed,
/// together all. A fraction above 0 holds out at least one and leaves at least one.
///
/// # Errors
/// [`DataError::Option`] for a fraction outside 0..1.
pub fn hold_out(count: usize, fraction: f64, seed: u64) -> Result<(Vec<u32>, Vec<u32>)> {
    if !(0.0..1.0).contains(&fraction) {
        let hint = "pass a fraction of the training images, from 0 to below 1".into();
        return Err(DataError::Option { option: "--holdout", value: fraction.to_string(), hint });
    }
    let mut train = permutation(count, seed, Purpose::HoldOut, 0);
    let held =
        if fraction == 0.0 || count < 2 { 0 } else { ((count as f64 * fraction).round() as usize).clamp(1, count - 1) };
    let mut validation = train.split_off(count - held);
    train.sort_unstable();
    validation.sort_unstable();
    Ok((train, validation))
}

/// A random order of the numbers below `count`. Data sets have fewer than 2^32 examples (checked where they are opened).
pub(super) fn permutation(count: usize, seed: u64, purpose: Purpose, epoch: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    order.shuffle(&mut random::stream(seed, purpose, epoch, 0));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_parts_are_disjoint_complete_and_stable() {
        let (train, validation) = hold_out(1000, 0.1, 7).unwrap();
        assert_eq!((train.len(), validation.len()), (900, 100));
        let mut all = [train.clone(), validation.clone()].concat();
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..1000));
        assert_eq!(hold_out(1000, 0.1, 7).unwrap(), (train, validation.clone()));
        assert_ne!(hold_out(1000, 0.1, 8).unwrap().1, validation);
        // Spread over the whole set, not a block of it: the mean index is near the middle.
        let mean = validation.iter().sum::<u32>() / 100;
        assert!((400..600).contains(&mean), "{mean}");
    }

    #[test]
    fn fractions_at_the_edges() {
        assert_eq!(hold_out(10, 0.0, 1).unwrap().1.len(), 0);
        assert_eq!(hold_out(10, 1e-6, 1).unwrap().1.len(), 1);
        assert_eq!(hold_out(10, 0.9999, 1).unwrap().0.len(), 1);
        assert_eq!(hold_out(1, 0.5, 1).unwrap().0.len(), 1);
        for bad in [-0.1, 1.0, f64::NAN] {
            assert!(hold_out(10, bad, 1).is_err());
        }
    }
}
