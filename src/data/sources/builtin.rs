//! The built-in sample: 1,000 training and 200 test records of CIFAR-10, so that everything runs offline.

use super::cifar::Cifar;
use crate::data::error::Result;
use crate::data::part::Split;

const TRAIN: &[u8] = include_bytes!("../../../assets/cifar10-sample/data_batch_1.bin");
const TEST: &[u8] = include_bytes!("../../../assets/cifar10-sample/test_batch.bin");
const NAMES: &str = include_str!("../../../assets/cifar10-sample/batches.meta.txt");

/// The images of a split ([`Split::Validation`] opens the training images).
///
/// # Errors
/// None, short of a damaged program.
pub fn open(split: Split) -> Result<Cifar> {
    let (name, bytes) = if split == Split::Test { ("test_batch.bin", TEST) } else { ("data_batch_1.bin", TRAIN) };
    Cifar::from_static("the built-in CIFAR-10 sample", &format!("built-in {name}"), bytes, NAMES)
}
