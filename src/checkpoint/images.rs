//! Images as a checkpoint's model reads them: which palette, which resolution, and whether data and model go together.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::CheckpointError;
use super::palette_of;
use crate::data::labels::{describe_unused, unused_classes};
use crate::data::{
    self, Alpha, DataError, DataSpec, Examples, Filter, MAX_COLOURS, OpenOptions, Palette, SkipBad, Split,
};
use crate::model::{MAX_VOCABULARY, ModelConfig, Order};

// A model for every palette.
const _: () = assert!(MAX_COLOURS == MAX_VOCABULARY);

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
    /// The images have another number of tokens than the model has positions.
    #[error(
        "images of {tokens} tokens do not fit a model of {positions} positions; give images of its resolution, or train a model of \
         theirs (--resolution)"
    )]
    Length {
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
    /// The palette of a resumed run was replaced.
    #[error(
        "the palette {} ({found} colours) is not the one that the run was trained with ({saved} colours, saved in {}). Put \
         the old file back or remove it, and the run goes on with its own; or start a new run with --out",
        file.display(), checkpoint.display()
    )]
    OtherPalette {
        /// The file.
        file: PathBuf,
        /// Its colours.
        found: usize,
        /// The run's latest checkpoint.
        checkpoint: PathBuf,
        /// The colours there.
        saved: usize,
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
    /// The data set; without it the run's, else the built-in sample.
    pub data: Option<DataSpec>,
    /// Which part of it.
    pub split: Split,
    /// File of the colours that images are quantised to; without it the checkpoint's, else the built-in ones.
    pub palette: Option<PathBuf>,
    /// Filter of the downsampling; without it the run's, else bilinear.
    pub filter: Option<Filter>,
    /// How many bad files are left out.
    pub skip_bad: SkipBad,
    /// What becomes of the alpha of image files; without it as in the run, else it is dropped.
    pub alpha: Option<Alpha>,
    /// Part of the training images that was held out; without it the run's where these are its images, else the data's own.
    pub holdout: Option<f64>,
    /// Seed of the held-out split; without it the run's where these are its images, else 0.
    pub seed: Option<u64>,
    /// Whether progress bars are drawn on stderr.
    pub progress: bool,
}

/// Images as a model reads them.
pub struct ModelImages {
    /// The images as tokens.
    pub examples: Box<dyn Examples>,
    /// What they are, for people: `cifar10:data (test)`.
    pub description: String,
    /// What a person should know of them.
    pub notes: Vec<String>,
}

impl ImageSelection {
    /// The test images of a data set, in the model's own colours, no bad file left out.
    pub fn test_images(data: DataSpec) -> Self {
        Self {
            data: Some(data),
            split: Split::Test,
            palette: None,
            filter: None,
            skip_bad: SkipBad::default(),
            alpha: None,
            holdout: None,
            seed: None,
            progress: false,
        }
    }

    /// The colours: the file's, else the checkpoint's, else the built-in ones.
    ///
    /// # Errors
    /// As [`palette_for`].
    pub fn palette(&self, checkpoint: &Path) -> Result<ChosenPalette, ImagesError> {
        palette_for(self.palette.as_deref(), Some(checkpoint))
    }

    /// Opens the images at the resolution of `model`, which lies in the folder `checkpoint`.
    ///
    /// # Errors
    /// Those of [`data::open`], [`palette_for`], [`resolution_of`] and [`check_fits`].
    pub fn open(&self, checkpoint: &Path, model: &ModelConfig) -> Result<ModelImages, ImagesError> {
        let ChosenPalette { palette, note } = self.palette(checkpoint)?;
        let data = self.data.clone().unwrap_or_default();
        // Token arrays come with a length of their own; the resolution is not used.
        let resolution = if data.is_tokens() { 32 } else { resolution_of(model)? as u32 };

        let options = OpenOptions {
            resolution,
            filter: self.filter.unwrap_or_default(),
            skip_bad: self.skip_bad,
            alpha: self.alpha.unwrap_or_default(),
            of_model: true,
            augment: false,
            holdout: self.holdout,
            seed: self.seed.unwrap_or(0),
            progress: self.progress,
            ..OpenOptions::new(palette)
        };
        let examples = data::open(&data, self.split, &options)?;
        check_fits(model, examples.as_ref())?;

        let description = format!("{data} ({})", self.split);
        let notes = note.into_iter().chain(examples.notes()).collect();
        Ok(ModelImages { examples, description, notes })
    }
}

/// A palette, and what a person should know of the choice.
pub struct ChosenPalette {
    /// The colours.
    pub palette: Arc<Palette>,
    /// That it is not the model's own, or is only assumed to be.
    pub note: Option<String>,
}

/// The colours: those in `file`, else the checkpoint's, else the built-in ones.
///
/// # Errors
/// [`ImagesError::Data`] and [`ImagesError::Checkpoint`] for a palette that cannot be read.
pub fn palette_for(file: Option<&Path>, checkpoint: Option<&Path>) -> Result<ChosenPalette, ImagesError> {
    let own = checkpoint.map(saved_palette).transpose()?.flatten();
    if let Some(file) = file {
        let palette = Arc::new(Palette::load(file)?);
        let other = own.is_some_and(|own| own.id() != palette.id());
        let note = other.then(|| {
            format!(
                "the palette {} is not the one that is saved with the model, whose tokens mean other colours; without \
                 --palette the model's own is taken",
                file.display()
            )
        });
        return Ok(ChosenPalette { palette, note });
    }

    let Some(own) = own else {
        let note = checkpoint.map(|checkpoint| {
            format!(
                "no palette is saved with the model in {}, so the built-in one (fitted on CIFAR-10) is assumed; if the \
                 model was trained with another, give it with --palette",
                checkpoint.display()
            )
        });
        return Ok(ChosenPalette { palette: Arc::new(Palette::built_in()?), note });
    };
    Ok(ChosenPalette { palette: Arc::new(own), note: None })
}

/// The colours that a resumed run goes on with: those saved in its latest checkpoint, whatever became of the file that
/// they came from.
///
/// # Errors
/// [`ImagesError::OtherPalette`] where `file` holds other colours by now; those of [`palette_for`].
pub fn resumed_palette(file: Option<&Path>, checkpoint: &Path) -> Result<ChosenPalette, ImagesError> {
    let Some(own) = saved_palette(checkpoint)? else { return palette_for(file, None) };
    let mut note = None;
    if let Some(file) = file {
        match Palette::load(file) {
            Ok(palette) if palette.id() != own.id() => {
                let (file, checkpoint) = (file.to_owned(), checkpoint.to_owned());
                return Err(ImagesError::OtherPalette { file, found: palette.len(), checkpoint, saved: own.len() });
            }
            Ok(_) => {}
            Err(problem) => {
                note = Some(format!("{problem}. The run goes on with its own palette, which its checkpoint holds"));
            }
        }
    }
    Ok(ChosenPalette { palette: Arc::new(own), note })
}

fn saved_palette(checkpoint: &Path) -> Result<Option<Palette>, ImagesError> {
    let colours = palette_of(checkpoint)?;
    Ok(colours.map(|colours| Palette::new("the checkpoint's palette", colours)).transpose()?)
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

/// A sentence for people where some classes have no images.
pub fn note_on_classes(examples: &dyn Examples) -> Option<String> {
    let labels = (0..examples.len()).filter_map(|index| examples.label(index));
    describe_unused(&unused_classes(labels, examples.classes()), examples.class_names())
}

/// A sentence for people where classes are only numbers, and the images have fewer than the model.
pub fn note_on_fewer_classes(model: &ModelConfig, examples: &dyn Examples) -> Option<String> {
    let (head, data) = (model.classes.len(), examples.classes());
    let unnamed = is_numbered(&model.classes) || is_numbered(&class_names(examples));
    (data > 0 && data < head && unnamed).then(|| {
        format!(
            "the model distinguishes {head} classes, and the labels name only 0 to {}; if one of the two counts from 1, every \
             answer is off by one",
            data - 1
        )
    })
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

/// Refuses images of another length than the model's sequences, or of more colours.
///
/// # Errors
/// [`ImagesError::Empty`], [`ImagesError::OtherResolution`], [`ImagesError::Length`] and [`ImagesError::Colours`].
pub fn check_fits(model: &ModelConfig, examples: &dyn Examples) -> Result<(), ImagesError> {
    let (tokens, positions) = (examples.sequence_length(), model.positions);
    if examples.is_empty() {
        return Err(ImagesError::Empty);
    }
    if model.order != Order::Raster && tokens != positions {
        return Err(ImagesError::OtherResolution { positions, order: model.order.name(), tokens });
    }
    if tokens != positions {
        return Err(ImagesError::Length { tokens, positions });
    }
    if examples.vocabulary() > model.vocabulary {
        return Err(ImagesError::Colours { palette: examples.vocabulary(), model: model.vocabulary });
    }
    Ok(())
}
