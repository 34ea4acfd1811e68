//! The data flags of `eval` and `sample`.

use std::path::PathBuf;

use clap::Args;

use crate::checkpoint::images::ImageSelection;
use crate::cli::common::named::named;
use crate::data::{DataSpec, Filter, SkipBad, Split};

/// Flags that say which images a trained model is shown.
#[derive(Args, Clone, Debug)]
pub struct ModelDataArgs {
    /// Images: cifar10:DIR, cifar100:DIR, stl10:DIR, imagenet:DIR, imagenet-tar:DIR, images:DIR,
    /// tokens:FILE.npy[,LABELS.npy], shard:FILE, or sample
    #[arg(long, value_name = "KIND:PATH", default_value = "sample")]
    pub data: DataSpec,
    /// Which part of them
    #[arg(long, value_parser = named::<Split>(), default_value_t = Split::Test)]
    pub split: Split,
    /// Colours that images are quantised to [default: those saved with the model, else the built-in ones]
    #[arg(long, value_name = "FILE.npy")]
    pub palette: Option<PathBuf>,
    /// How images are shrunk
    #[arg(long, value_parser = named::<Filter>(), default_value_t)]
    pub filter: Filter,
    /// Leave out bad image files instead of stopping at the first; with =N, up to N of them
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "N")]
    pub skip_bad: Option<SkipBad>,
    /// Seed of the held-out split, as it was given to `train`
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

impl ModelDataArgs {
    /// The flags as the library takes them; `quiet` shows no progress bars.
    pub fn selection(&self, quiet: bool) -> ImageSelection {
        ImageSelection {
            data: self.data.clone(),
            split: self.split,
            palette: self.palette.clone(),
            filter: self.filter,
            skip_bad: self.skip_bad.unwrap_or_default(),
            seed: self.seed,
            progress: !quiet,
        }
    }
}
