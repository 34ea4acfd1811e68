//! Images as a checkpoint's model reads them: which palette, which resolution, and whether data and model go together.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::CheckpointError;
use super::palette_of;
use crate::data::{self, DataError, DataSpec, Examples, Filter, OpenOptions, Palette, SkipBad, Split};
use crate::model::{ModelConfig, Order};

/// Why images cannot be shown to a model. Every text says what to give instead.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// The data set or the palette cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The checkpoint's palette cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The model's sequences are not those of square images.
    #[error(
        "the model has {positions} positions, which is not the square of a resolution; give it token arrays instead"
    )]
    NotSquare {
        /// Positions of the model.
        positions: usize,
    },
    /// The data set has no image in this split.
    #[error("there are no images in this part of the data; see `igpt-engine data info`")]
    Empty,
    /// A model with a pixel order of its own reads images of one resolution only.
    #[error(
        "the model reads the {positions} pixels of its images in the order {order}, and these have {tokens}; give images \
         of its resolution"
    )]
    OtherResolution {
        /// Positions of the model.
        positions: usize,
        /// Name of its pixel order.
        order: &'static str,
        /// Tokens per image.
        tokens: usize,
    },
    /// The images have more tokens than the model has positions.
    #[error("images of {tokens} tokens do not fit a model of {positions} positions; give a smaller --resolution")]
    TooLong {
        /// Tokens per image.
        tokens: usize,
        /// Positions of the model.
        positions: usize,
    },
    /// The palette has more colours than the model.
    #[error("the palette has {palette} colours and the model knows {model}; give the --palette it was trained with")]
    Colours {
        /// Colours of the palette.
        palette: usize,
        /// Colours of the model.
        model: usize,
    },
    /// The images have other classes than the model's class head.
    #[error(
        "the model distinguishes {head} classes ({known}), and the images have {data} others ({found}); give the data set \
         that it was fine-tuned on"
    )]
    Classes {
        /// Classes of the head.
        head: usize,
        /// The first of their names.
        known: String,
        /// Classes of the images.
        data: usize,
        /// The first of their names.
        found: String,
    },
}

/// Which images a trained model is shown.
#[derive(Clone, Debug)]
pub struct ImageSelection {
    /// The data set.
    pub data: DataSpec,
    /// Which part of it.
    pub split: Split,
    /// File of the colours that images are quantised to; without it the checkpoint's, else the built-in ones.
    pub palette: Option<PathBuf>,
    /// Filter of the downsampling.
    pub filter: Filter,
    /// How many bad files are left out.
    pub skip_bad: SkipBad,
    /// Seed of the held-out split, as it was given to training.
    pub seed: u64,
    /// Whether progress bars are drawn on stderr.
    pub progress: bool,
}

/// Images as a model reads them.
pub struct ModelImages {
    /// The images as tokens.
    pub examples: Box<dyn Examples>,
    /// What they are, for people: `cifar10:data (test)`.
    pub description: String,
}

impl ImageSelection {
    /// The test images of a data set, in the model's own colours, no bad file left out.
    pub fn test_images(data: DataSpec) -> Self {
        Self {
            data,
            split: Split::Test,
            palette: None,
            filter: Filter::default(),
            skip_bad: SkipBad::default(),
            seed: 0,
            progress: false,
        }
    }

    /// The colours: the file's, else the checkpoint's, else the built-in ones.
    ///
    /// # Errors
    /// As [`palette_for`].
    pub fn palette(&self, checkpoint: &Path) -> Result<Arc<Palette>, ImagesError> {
        palette_for(self.palette.as_deref(), Some(checkpoint))
    }

    /// Opens the images at the resolution of `model`, which lies in the folder `checkpoint`.
    ///
    /// # Errors
    /// Those of [`data::open`], [`palette_for`], [`resolution_of`] and [`check_fits`].
    pub fn open(&self, checkpoint: &Path, model: &ModelConfig) -> Result<ModelImages, ImagesError> {
        let palette = self.palette(checkpoint)?;
        // Token arrays come with a length of their own; the resolution is not used.
        let resolution = if self.data.is_tokens() { 32 } else { resolution_of(model)? as u32 };

        let options = OpenOptions {
            resolution,
            filter: self.filter,
            skip_bad: self.skip_bad,
            augment: false,
            seed: self.seed,
            progress: self.progress,
            ..OpenOptions::new(palette)
        };
        let examples = data::open(&self.data, self.split, &options)?;
        check_fits(model, examples.as_ref())?;

        let description = format!("{} ({})", self.data, self.split);
        Ok(ModelImages { examples, description })
    }
}

/// The colours: those in `file`, else the checkpoint's, else the built-in ones.
///
/// # Errors
/// [`ImagesError::Data`] and [`ImagesError::Checkpoint`] for a palette that cannot be read.
pub fn palette_for(file: Option<&Path>, checkpoint: Option<&Path>) -> Result<Arc<Palette>, ImagesError> {
    if let Some(file) = file {
        return Ok(Arc::new(Palette::load(file)?));
    }
    let palette = match checkpoint.map(palette_of).transpose()?.flatten() {
        Some(colours) => Palette::new("the checkpoint's palette", colours)?,
        None => Palette::built_in()?,
    };
    Ok(Arc::new(palette))
}

/// Width and height in pixels of the images that a model of this many positions was made for.
///
/// # Errors
/// [`ImagesError::NotSquare`].
pub fn resolution_of(model: &ModelConfig) -> Result<usize, ImagesError> {
    let side = model.positions.isqrt();
    if side * side != model.positions {
        return Err(ImagesError::NotSquare { positions: model.positions });
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

/// Whether the class head can be evaluated on the images: it can where they have labels and the head was trained for their
/// classes.
///
/// # Errors
/// [`ImagesError::Classes`] for images of other classes than the head's.
pub fn check_classes(model: &ModelConfig, examples: &dyn Examples) -> Result<bool, ImagesError> {
    if model.classes.is_empty() || examples.classes() == 0 {
        return Ok(false);
    }
    let found = class_names(examples);

    // Where the names are only numbers, as those of label arrays, only how many there are can be compared; and an array has
    // no more classes than its highest label says.
    let unnamed = (is_numbered(&found) || is_numbered(&model.classes)) && found.len() <= model.classes.len();
    if !unnamed && found != model.classes {
        let (head, data) = (model.classes.len(), examples.classes());
        return Err(ImagesError::Classes {
            head,
            known: first_names(&model.classes),
            data,
            found: first_names(&found),
        });
    }
    Ok(true)
}

/// Whether the names are 0, 1, 2 and so on.
fn is_numbered(names: &[String]) -> bool {
    names.iter().enumerate().all(|(class, name)| *name == class.to_string())
}

/// The first three names.
fn first_names(names: &[String]) -> String {
    let first = names.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > 3 { format!("{first}, …") } else { first }
}

/// Refuses images that are longer, or have more colours, than the model.
///
/// # Errors
/// [`ImagesError::Empty`], [`ImagesError::OtherResolution`], [`ImagesError::TooLong`] and [`ImagesError::Colours`].
pub fn check_fits(model: &ModelConfig, examples: &dyn Examples) -> Result<(), ImagesError> {
    let (tokens, positions) = (examples.sequence_length(), model.positions);
    if examples.is_empty() {
        return Err(ImagesError::Empty);
    }
    if model.order != Order::Raster && tokens != positions {
        return Err(ImagesError::OtherResolution { positions, order: model.order.name(), tokens });
    }
    if tokens > positions {
        return Err(ImagesError::TooLong { tokens, positions });
    }
    if examples.vocabulary() > model.vocabulary {
        return Err(ImagesError::Colours { palette: examples.vocabulary(), model: model.vocabulary });
    }
    Ok(())
}
