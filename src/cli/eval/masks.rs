//! `eval`: the masks under which a BERT model is scored.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use crate::data::npy::Npy;
use crate::eval::Masks;
use crate::model::{MASK_RATE, Masking, ModelConfig, Objective};

/// Most masks an image.
const MOST_DRAWS: u64 = 1000;

/// Flags that say which pixels a BERT model must guess.
#[derive(Args, Clone, Debug)]
pub struct MaskArgs {
    /// Masks from a file, [N, tokens of an image], pixels row by row: not 0 is masked
    #[arg(long, value_name = "FILE.npy", conflicts_with_all = ["mask_rate", "mask_seed", "ensemble"])]
    mask: Option<PathBuf>,
    /// Share of the pixels that are masked where masks are drawn [default: 0.15]
    #[arg(long, value_name = "FRACTION", allow_negative_numbers = true)]
    mask_rate: Option<f64>,
    /// Seed of the masks, and of ties between classes [default: 0]
    #[arg(long, value_name = "N")]
    mask_seed: Option<u64>,
    /// Masks an image: a fine-tuned model takes the class that it names most often under them; losses are averaged [default: 1]
    #[arg(long, value_name = "N")]
    ensemble: Option<u64>,
}

impl MaskArgs {
    /// Refuses what does not go with the loss or the model.
    pub fn check(&self, objective: Objective, model: &ModelConfig) -> Result<()> {
        let Self { mask, mask_rate, mask_seed, ensemble } = self;
        if objective == Objective::Ar {
            for (flag, given) in [
                ("--mask", mask.is_some()),
                ("--mask-rate", mask_rate.is_some()),
                ("--mask-seed", mask_seed.is_some()),
                ("--ensemble", ensemble.is_some()),
            ] {
                if given {
                    bail!(
                        "{flag} is for BERT models, and this one predicts the next pixel; leave it out (or give --objective bert)"
                    );
                }
            }
        }
        if mask_rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1.0)) {
            bail!("--mask-rate must be above 0 and at most 1; the paper masks 0.15 of the pixels");
        }
        if ensemble.is_some_and(|draws| draws == 0 || draws > MOST_DRAWS) {
            bail!("--ensemble must be from 1 to {MOST_DRAWS}; the paper takes 5 masks");
        }
        if ensemble.is_some_and(|draws| draws > 1) && model.classes.is_empty() {
            bail!("--ensemble puts classes to the vote, and this model has no class head; see `igpt-engine finetune`");
        }
        Ok(())
    }

    /// The masks of `--mask`, `[images · length]`: those of the first images.
    pub fn given(&self, images: usize, length: usize) -> Result<Option<Vec<bool>>> {
        let Some(path) = &self.mask else { return Ok(None) };
        let array = Npy::open(path)?;
        match *array.shape() {
            [rows, columns] if rows >= images && columns == length => {}
            ref shape => bail!(
                "{} has the shape {shape:?}; needed are masks [{images} or more, {length}], a row for each image",
                path.display()
            ),
        }
        let masks: Vec<bool> = array.f64s(0..images * length).map(|value| value != 0.0).collect();
        if let Some(image) = masks.chunks(length).position(|mask| !mask.contains(&true)) {
            bail!(
                "{} masks nothing of image {image}; the mean over its masked pixels would be of none",
                path.display()
            );
        }
        Ok(Some(masks))
    }

    /// The masks, of which `given` come from [`MaskArgs::given`].
    pub fn masks<'a>(&self, given: Option<&'a [bool]>) -> Masks<'a> {
        match given {
            Some(given) => Masks::Given(given),
            None => {
                let rate = self.mask_rate.unwrap_or(MASK_RATE);
                let masking = Masking { rate, seed: self.mask_seed.unwrap_or(0) };
                Masks::Drawn { masking, draws: self.ensemble.unwrap_or(1) }
            }
        }
    }

    /// In words.
    pub fn describe(&self) -> String {
        match &self.mask {
            Some(path) => format!("masks of {}", path.display()),
            None => {
                let (rate, seed) = (self.mask_rate.unwrap_or(MASK_RATE), self.mask_seed.unwrap_or(0));
                let draws = self.ensemble.unwrap_or(1);
                format!("{draws} mask{} an image at rate {rate}, seed {seed}", if draws == 1 { "" } else { "s" })
            }
        }
    }
}
