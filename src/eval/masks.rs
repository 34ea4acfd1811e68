//! The masks under which a BERT model is scored.

use std::path::PathBuf;

use super::error::SessionError;
use super::evaluate::Masks;
use crate::data::npy::Npy;
use crate::model::{MASK_RATE, Masking, ModelConfig, Objective};

type Result<T> = std::result::Result<T, SessionError>;

/// Maximum masks per image.
const MAX_MASKS: u64 = 1000;

/// Which pixels a BERT model must guess; by default 15 % of them, at random.
#[derive(Clone, Debug, Default)]
pub struct MaskSettings {
    /// Masks from a `.npy` file, `[N, tokens of an image]`, or `[N, side, side]`, pixels row by row: 1 is masked, 0 is not.
    pub file: Option<PathBuf>,
    /// Fraction of the pixels that random masks hide.
    pub rate: Option<f64>,
    /// Seed of the masks, and of ties between classes.
    pub seed: Option<u64>,
    /// Masks per image: a fine-tuned model takes the class that it names most often under them; losses are averaged.
    pub ensemble: Option<u64>,
}

impl MaskSettings {
    /// Refuses what does not go with the loss or the model; the texts name the flags of `eval`.
    pub(super) fn check(&self, objective: Objective, model: &ModelConfig) -> Result<()> {
        let Self { file: mask, rate: mask_rate, seed: mask_seed, ensemble } = self;
        if objective == Objective::Ar {
            for (flag, given) in [
                ("--mask", mask.is_some()),
                ("--mask-rate", mask_rate.is_some()),
                ("--mask-seed", mask_seed.is_some()),
                ("--ensemble", ensemble.is_some()),
            ] {
                if given {
                    return Err(SessionError::Settings(format!(
                        "{flag} is for BERT models, and this one predicts the next pixel; leave it out (or give --objective bert)"
                    )));
                }
            }
        }

        if mask_rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1.0)) {
            return Err(SessionError::Settings(
                "--mask-rate must be above 0 and at most 1; the paper masks 0.15 of the pixels".into(),
            ));
        }

        if ensemble.is_some_and(|masks| masks == 0 || masks > MAX_MASKS) {
            return Err(SessionError::Settings(format!(
                "--ensemble must be from 1 to {MAX_MASKS}; the paper takes 5 masks"
            )));
        }
        if ensemble.is_some_and(|masks| masks > 1) && model.classes.is_empty() {
            return Err(SessionError::Settings(
                "--ensemble puts classes to the vote, and this model has no class head; see `igpt-engine finetune`"
                    .into(),
            ));
        }
        Ok(())
    }

    /// The masks of the file, `[images · length]`: those of the first images.
    pub(super) fn given(&self, images: usize, length: usize) -> Result<Option<Vec<bool>>> {
        let Some(path) = &self.file else { return Ok(None) };
        let array = Npy::open(path)?;
        match *array.shape() {
            [rows, columns] if rows >= images && columns == length => {}
            [rows, height, width] if rows >= images && height == width && height * width == length => {}
            ref shape => {
                return Err(SessionError::Settings(format!(
                    "{} has the shape {shape:?}; needed are masks [{images} or more, {length}], a row for each image",
                    path.display()
                )));
            }
        }

        let mut masks = Vec::with_capacity(images * length);
        for row in 0..array.len() / length.max(1) {
            for (column, value) in array.f64s(row * length..(row + 1) * length)?.enumerate() {
                if value != 0.0 && value != 1.0 {
                    return Err(SessionError::Settings(format!(
                        "{}: row {row} column {column} (counted from 0) is {value}; a mask is 1 where a pixel is hidden and 0 elsewhere",
                        path.display()
                    )));
                }
                if row < images {
                    masks.push(value == 1.0);
                }
            }
        }
        if let Some(image) = masks.chunks(length).position(|mask| !mask.contains(&true)) {
            return Err(SessionError::Settings(format!(
                "{} masks nothing of image {image}; the mean over its masked pixels would be of none",
                path.display()
            )));
        }
        Ok(Some(masks))
    }

    /// The masks, of which `given` come from [`MaskSettings::given`].
    pub(super) fn masks<'a>(&self, given: Option<&'a [bool]>) -> Masks<'a> {
        match given {
            Some(given) => Masks::Given(given),
            None => {
                let rate = self.rate.unwrap_or(MASK_RATE);
                let masking = Masking { rate, seed: self.seed.unwrap_or(0) };
                Masks::Random { masking, per_image: self.ensemble.unwrap_or(1) }
            }
        }
    }

    /// In words.
    pub fn describe(&self) -> String {
        match &self.file {
            Some(path) => format!("masks of {}", path.display()),
            None => {
                let (rate, seed) = (self.rate.unwrap_or(MASK_RATE), self.seed.unwrap_or(0));
                let masks = self.ensemble.unwrap_or(1);
                format!("{masks} mask{} per image at rate {rate}, seed {seed}", if masks == 1 { "" } else { "s" })
            }
        }
    }
}
