//! Opening a data set: as images, or as the token sequences that a model reads.

use std::path::Path;
use std::sync::Arc;

use super::codec::palette::Palette;
use super::codec::resize::Filter;
use super::codec::transform::{Augment, Framing, Transform};
use super::dataset::{Examples, ImageExamples};
use super::error::{DataError, Result};
use super::part::Split;
use super::skip_bad::SkipBad;
use super::source::ImageSource;
use super::sources::cifar::{Cifar, CifarKind};
use super::sources::folder::{self, FolderOptions, ImageFolder};
use super::sources::shard::Shard;
use super::sources::stl::Stl;
use super::sources::tokens::TokenArray;
use super::sources::{builtin, imagenet};
use super::spec::DataSpec;
use super::split::hold_out;

/// How a data set is opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Side of the square that the model sees, in pixels. Token arrays have their own length and ignore it.
    pub resolution: u32,
    /// Kernel of every resize.
    pub filter: Filter,
    /// Colours; of a token array, only their number counts.
    pub palette: Arc<Palette>,
    /// How many bad files of a folder or tar are left out; the one after is an error.
    pub skip_bad: SkipBad,
    /// Augment training images as the paper does for the data set. Token arrays and the other splits never are.
    pub augment: bool,
    /// Part of the training images held out for validation; `None` for the paper's: see [`DataSpec::default_holdout`].
    pub holdout: Option<f64>,
    /// Seed of the held-out split.
    pub seed: u64,
    /// Show progress bars on stderr (only if it is a terminal).
    pub progress: bool,
}

impl OpenOptions {
    /// The paper's options for a palette: resolution 32, bilinear, augmented, seed 0.
    pub fn new(palette: Arc<Palette>) -> Self {
        OpenOptions {
            resolution: 32,
            filter: Filter::default(),
            palette,
            skip_bad: SkipBad::NONE,
            augment: true,
            holdout: None,
            seed: 0,
            progress: true,
        }
    }
}

/// Opens a split of a data set of images: the source, and which of its images are the split's.
///
/// # Errors
/// As the data set's own `open`; [`DataError::NoSplit`] for token arrays (they hold no images), and for validation where
/// nothing is held out.
pub fn open_images(spec: &DataSpec, split: Split, options: &OpenOptions) -> Result<(Arc<dyn ImageSource>, Vec<u32>)> {
    let no_split = |hint: &str| DataError::NoSplit { data: spec.to_string(), split, hint: hint.into() };
    let source: Arc<dyn ImageSource> = match spec {
        DataSpec::Sample => Arc::new(builtin::open(split)?),
        DataSpec::Cifar10(folder) => Arc::new(Cifar::open(CifarKind::Cifar10, folder, split)?),
        DataSpec::Cifar100(folder) => Arc::new(Cifar::open(CifarKind::Cifar100, folder, split)?),
        DataSpec::Stl10(folder) => Arc::new(Stl::open(folder, split)?),
        DataSpec::Images(folder) => {
            let (skip_bad, progress) = (options.skip_bad, options.progress);
            let options = FolderOptions { skip_bad, min_side: Some(options.resolution), progress };
            Arc::new(ImageFolder::open(folder, split, options)?)
        }
        DataSpec::ImageNet(folder) => {
            Arc::new(imagenet::open_folder(folder, split, options.skip_bad, options.progress)?)
        }
        DataSpec::ImageNetTar(path) => Arc::new(imagenet::open_tar(path, split, options.skip_bad, options.progress)?),
        DataSpec::Tokens { .. } | DataSpec::Shard(_) => {
            return Err(no_split("it holds tokens, not images. Give a data set of images"));
        }
    };

    let Ok(count) = u32::try_from(source.len()) else {
        return Err(no_split("it has more than 2^32 - 1 images. Use a part of it"));
    };
    if split == Split::Test {
        return Ok((source, (0..count).collect()));
    }

    // Training and validation are two parts of the same images.
    let fraction = options.holdout.unwrap_or(spec.default_holdout());
    let (train, validation) = hold_out(count as usize, fraction, options.seed)?;
    let indices = if split == Split::Train { train } else { validation };
    if indices.is_empty() {
        return Err(no_split("no image is held out of the training ones. Pass a --holdout above 0, or --split test"));
    }
    Ok((source, indices))
}

/// How images of a data set reach the resolution when they are not augmented.
///
/// # Errors
/// As [`Transform::new`].
pub fn evaluation_transform(spec: &DataSpec, options: &OpenOptions) -> Result<Transform> {
    transform(spec, options, Augment::None)
}

/// How images of a data set reach the resolution in training.
///
/// # Errors
/// As [`Transform::new`].
pub fn training_transform(spec: &DataSpec, options: &OpenOptions) -> Result<Transform> {
    transform(spec, options, if options.augment { spec.augmentation() } else { Augment::None })
}

fn transform(spec: &DataSpec, options: &OpenOptions, augment: Augment) -> Result<Transform> {
    let transform = Transform::new(options.resolution, options.filter, spec.framing(), augment)?;
    Ok(if spec.is_imagenet() { transform.enlarging() } else { transform })
}

/// Opens a split of a data set as token sequences. Of a token array or shard, every split is the file itself.
///
/// # Errors
/// As the data set's own `open`, [`open_images`] and [`Transform::new`]; [`DataError::Shard`] for a shard of another
/// palette.
pub fn open(spec: &DataSpec, split: Split, options: &OpenOptions) -> Result<Box<dyn Examples>> {
    if let DataSpec::Tokens { tokens, labels } = spec {
        return Ok(Box::new(TokenArray::open(tokens, labels.as_deref(), options.palette.len())?));
    }
    if let DataSpec::Shard(path) = spec {
        let shard = Shard::open(path)?;
        shard.check_palette(&options.palette)?;
        return Ok(Box::new(shard));
    }
    let transform = match split {
        Split::Train => training_transform(spec, options)?,
        Split::Validation | Split::Test => evaluation_transform(spec, options)?,
    };
    let (source, indices) = open_images(spec, split, options)?;
    Ok(Box::new(ImageExamples::new(source, indices, transform, Arc::clone(&options.palette))))
}

/// Brings any image to the model's resolution as evaluation does: short side to 224, central square, downsampled.
/// For images given one by one, as prompts of `sample`.
///
/// # Errors
/// [`DataError::Read`], [`DataError::Image`], [`DataError::TooSmall`], [`DataError::Resize`].
pub fn open_image(path: &Path, resolution: u32, filter: Filter) -> Result<image::RgbImage> {
    let transform = Transform::new(resolution, filter, Framing::CentreCrop, Augment::None)?;
    let image = folder::load(path)?;
    if image.dimensions() == (resolution, resolution) {
        return Ok(image);
    }
    transform.apply(image, None, || path.display().to_string(), false)
}
