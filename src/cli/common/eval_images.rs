//! Images for a trained model: the data flags of `eval` and `sample`, with what the checkpoint knows filled in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;

use crate::checkpoint;
use crate::data::{self, DataSpec, Examples, Filter, OpenOptions, Palette, SkipBad, Split};
use crate::model::{ModelConfig, Order};

/// Flags that say which images a trained model is shown.
#[derive(Args, Clone, Debug)]
pub struct ModelDataArgs {
    /// Images: cifar10:DIR, cifar100:DIR, stl10:DIR, imagenet:DIR, imagenet-tar:DIR, images:DIR,
    /// tokens:FILE.npy[,LABELS.npy], shard:FILE, or sample
    #[arg(long, value_name = "KIND:PATH", default_value = "sample")]
    pub data: DataSpec,
    /// Which part of them
    #[arg(long, value_enum, default_value_t = Split::Test)]
    pub split: Split,
    /// Colours to code images with [default: those saved with the model, else the built-in ones]
    #[arg(long, value_name = "FILE.npy")]
    pub palette: Option<PathBuf>,
    /// How images are shrunk
    #[arg(long, value_enum, default_value_t)]
    pub filter: Filter,
    /// Leave out bad image files instead of stopping at the first; with =N, up to N of them
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "N")]
    pub skip_bad: Option<SkipBad>,
    /// Seed of the held-out split, as it was given to `train`
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// Images as a model reads them.
pub struct Opened {
    /// The images as tokens.
    pub examples: Box<dyn Examples>,
    /// What they are, for people.
    pub description: String,
}

impl ModelDataArgs {
    /// The colours: `--palette`, else the checkpoint's, else the built-in ones.
    pub fn palette(&self, checkpoint: &Path) -> Result<Arc<Palette>> {
        palette_for(self.palette.as_deref(), Some(checkpoint))
    }

    /// Opens the images at the resolution of the model in `checkpoint`; `quiet` shows no progress.
    pub fn open(&self, checkpoint: &Path, model: &ModelConfig, quiet: bool) -> Result<Opened> {
        let palette = self.palette(checkpoint)?;
        // Sequences of tokens have their own length.
        let tokens = self.data.is_tokens();
        let resolution = if tokens { 32 } else { resolution_of(model)? as u32 };
        let options = OpenOptions {
            resolution,
            filter: self.filter,
            skip_bad: self.skip_bad.unwrap_or_default(),
            augment: false,
            seed: self.seed,
            progress: !quiet,
            ..OpenOptions::new(palette)
        };
        let examples = data::open(&self.data, self.split, &options)?;
        check_fits(model, examples.as_ref())?;
        let description = format!("{} ({})", self.data, self.split);
        Ok(Opened { examples, description })
    }
}

/// The colours: `file`, else the checkpoint's, else the built-in ones.
pub fn palette_for(file: Option<&Path>, checkpoint: Option<&Path>) -> Result<Arc<Palette>> {
    if let Some(file) = file {
        return Ok(Arc::new(Palette::load(file)?));
    }
    let palette = match checkpoint.map(checkpoint::palette_of).transpose()?.flatten() {
        Some(colours) => Palette::new("the checkpoint's palette", colours)?,
        None => Palette::built_in()?,
    };
    Ok(Arc::new(palette))
}

/// Width and height of the images that a model of this many positions was made for.
pub fn resolution_of(model: &ModelConfig) -> Result<usize> {
    let side = model.positions.isqrt();
    if side * side != model.positions {
        bail!("the model has {} positions, which is no square of a resolution", model.positions);
    }
    Ok(side)
}

/// The names of the images' classes, or their numbers where they have no names.
pub fn class_names(examples: &dyn Examples) -> Vec<String> {
    let names = examples.class_names();
    if names.len() == examples.classes() {
        return names.to_vec();
    }
    (0..examples.classes()).map(|class| class.to_string()).collect()
}

/// Whether a class head can be judged by the images: it can where they have labels and the head was trained for their classes.
///
/// # Errors
/// Images of other classes than the head's.
pub fn check_classes(model: &ModelConfig, examples: &dyn Examples) -> Result<bool> {
    if model.classes.is_empty() || examples.classes() == 0 {
        return Ok(false);
    }
    let found = class_names(examples);
    // Where the names are but numbers, as those of label arrays, only how many there are can be compared; and an array has no
    // more classes than its highest label says.
    let unnamed = (is_numbered(&found) || is_numbered(&model.classes)) && found.len() <= model.classes.len();
    if !unnamed && found != model.classes {
        let (head, data) = (model.classes.len(), examples.classes());
        bail!(
            "the model tells {head} classes apart ({}), and the images have {data} others ({}); give the data set that it was \
             fine-tuned on",
            some(&model.classes),
            some(&found)
        );
    }
    Ok(true)
}

/// Whether the names are 0, 1, 2 and so on.
fn is_numbered(names: &[String]) -> bool {
    names.iter().enumerate().all(|(class, name)| *name == class.to_string())
}

/// The first of some names.
fn some(names: &[String]) -> String {
    let first = names.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > 3 { format!("{first}, …") } else { first }
}

/// Refuses images that are longer, or have more colours, than the model.
pub fn check_fits(model: &ModelConfig, examples: &dyn Examples) -> Result<()> {
    if examples.is_empty() {
        bail!("there are no images in this part of the data; see `igpt-engine data info`");
    }
    let length = examples.sequence_length();
    if model.order != Order::Raster && length != model.positions {
        bail!(
            "the model reads the {} pixels of its images in the order {}, and these have {length}; give images of its \
             resolution",
            model.positions,
            model.order.name()
        );
    }
    if length > model.positions {
        bail!(
            "images of {length} tokens do not fit a model of {} positions; give a smaller --resolution",
            model.positions
        );
    }
    if examples.vocabulary() > model.vocabulary {
        bail!(
            "the palette has {} colours and the model knows {}; give the --palette it was trained with",
            examples.vocabulary(),
            model.vocabulary
        );
    }
    Ok(())
}
