//! What a demo shows, and where.

use std::path::PathBuf;

use crate::data::DataSpec;

/// Settings of a [`Demo`](super::Demo).
#[derive(Clone, Debug)]
pub struct Settings {
    /// Images with labels.
    pub data: DataSpec,
    /// Folder for everything that is made.
    pub out: PathBuf,
    /// A much smaller model, for seconds.
    pub quick: bool,
    /// Seed of weights, order, held-out images and samples.
    pub seed: u64,
    /// Flags about the device that each command is given.
    pub device_flags: Vec<String>,
}

/// What the sample cannot show.
pub const SMALL_SAMPLE: &str = "The built-in sample has 1,000 training and 200 test images: enough to see how everything works, too few \
                            for accuracies that mean much. For those: igpt-engine data fetch cifar10 --out data, then \
                            igpt-engine demo --data cifar10:data --out demo-cifar10.";

impl Settings {
    /// What to know before believing the figures.
    pub(super) fn caution(&self) -> Option<String> {
        let sample = (self.data == DataSpec::Sample).then_some(SMALL_SAMPLE);
        let quick =
            self.quick.then_some("This was --quick: a toy model after a few steps, which shows that everything runs.");
        let said: Vec<&str> = quick.into_iter().chain(sample).collect();
        (!said.is_empty()).then(|| said.join(" "))
    }
}
