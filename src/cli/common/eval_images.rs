//! The data flags of `eval` and `sample`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::checkpoint::images::ImageSelection;
use crate::cli::common::named::named;
use crate::cli::common::unused::refuse_given;
use crate::data::{Alpha, DataSpec, Filter, SkipBad, Split};

/// Flags that say which images a trained model is shown.
#[derive(Args, Clone, Debug)]
pub struct ModelDataArgs {
    /// Images: cifar10:DIR, cifar100:DIR, stl10:DIR, imagenet:DIR, imagenet-tar:DIR, images:DIR,
    /// tokens:FILE.npy[,LABELS.npy] (or arrays of archives, FILE.npz:NAME), shard:FILE, or sample
    /// [default: those of the run, else sample]
    #[arg(long, value_name = "KIND:PATH")]
    pub data: Option<DataSpec>,
    /// Which part of them [default: test]
    #[arg(long, value_parser = named::<Split>())]
    pub split: Option<Split>,
    /// Colours that images are quantised to [default: those saved with the model, else the built-in ones]
    #[arg(long, value_name = "FILE.npy")]
    pub palette: Option<PathBuf>,
    /// How images are shrunk [default: as in the run, else bilinear]
    #[arg(long, value_parser = named::<Filter>())]
    pub filter: Option<Filter>,
    /// Leave out bad image files instead of stopping at the first; with =N, up to N of them
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "N")]
    pub skip_bad: Option<SkipBad>,
    /// What becomes of the alpha of image files: dropped, or the picture laid over white or black [default: as in the run,
    /// else drop]
    #[arg(long, value_parser = named::<Alpha>())]
    pub alpha: Option<Alpha>,
    /// Part of the training images that is held out, as it was given to `train` [default: as in the run, else the data's own]
    #[arg(long, value_name = "FRACTION")]
    pub holdout: Option<f64>,
    /// Seed of the held-out part, as it was given to `train` [default: as in the run, else 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

impl ModelDataArgs {
    /// Refuses flags that would do nothing with the data.
    pub fn check(&self) -> Result<()> {
        let data = self.data.clone().unwrap_or_default();
        if data.is_tokens() {
            refuse_given(
                &format!("with {data}, which holds tokens and is one part"),
                &[
                    ("filter", self.filter.is_some()),
                    ("alpha", self.alpha.is_some()),
                    ("skip-bad", self.skip_bad.is_some()),
                    ("split", self.split.is_some_and(|split| split != Split::Test)),
                    ("holdout", self.holdout.is_some()),
                    ("seed", self.seed.is_some()),
                ],
            )?;
        }
        if self.split.is_none_or(|split| split == Split::Test) {
            let given = [("holdout", self.holdout.is_some()), ("seed", self.seed.is_some())];
            refuse_given("with test images, from which nothing is held out; give --split validation", &given)?;
        }
        Ok(())
    }

    /// The flags as the library takes them; `quiet` shows no progress bars.
    pub fn selection(&self, quiet: bool) -> ImageSelection {
        ImageSelection {
            data: self.data.clone(),
            split: self.split.unwrap_or(Split::Test),
            palette: self.palette.clone(),
            filter: self.filter,
            skip_bad: self.skip_bad.unwrap_or_default(),
            alpha: self.alpha,
            holdout: self.holdout,
            seed: self.seed,
            progress: !quiet,
        }
    }
}
