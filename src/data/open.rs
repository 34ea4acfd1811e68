//! Opening a data set: as images, or as the token sequences that a model reads.

use std::path::Path;
use std::sync::Arc;

use super::codec::decode::{Alpha, Decoding, decode, dimensions};
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
    /// What becomes of the alpha of image files that have some.
    pub alpha: Alpha,
    /// Whether the resolution is that of a trained model, which no `--resolution` changes: it only decides what is advised.
    pub of_model: bool,
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
            alpha: Alpha::default(),
            of_model: false,
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
    let source = open_source(spec, split, options, Some(options.resolution))?;
    // Not above 2^32: checked on opening.
    let count = source.len() as u32;
    if split == Split::Test {
        return Ok((source, (0..count).collect()));
    }

    // Training and validation are two parts of the same images.
    let fraction = options.holdout.unwrap_or(spec.default_holdout());
    let (train, validation) = hold_out(count as usize, fraction, options.seed)?;
    let indices = if split == Split::Train { train } else { validation };
    if indices.is_empty() {
        let hint = "no image is held out of the training ones. Pass a --holdout above 0, or --split test".into();
        return Err(DataError::NoSplit { data: spec.to_string(), split, hint });
    }
    Ok((source, indices))
}

/// Opens the images of a split, those held out included. `min_side` is that which headers of files are checked for; `None`
/// opens the split to find everything that is wrong with it: no header is looked at, and of CIFAR's files the sound ones are
/// taken (see [`ImageSource::left_out`]).
///
/// # Errors
/// As [`open_images`].
pub(super) fn open_source(
    spec: &DataSpec,
    split: Split,
    options: &OpenOptions,
    min_side: Option<u32>,
) -> Result<Arc<dyn ImageSource>> {
    let (skip_bad, progress, alpha) = (options.skip_bad, options.progress, options.alpha);
    let cifar = |kind, folder: &Path| match min_side {
        Some(_) => Cifar::open(kind, folder, split),
        None => Cifar::open_sound(kind, folder, split),
    };

    let source: Arc<dyn ImageSource> = match spec {
        DataSpec::Sample => Arc::new(builtin::open(split)?),
        DataSpec::Cifar10(folder) => Arc::new(cifar(CifarKind::Cifar10, folder)?),
        DataSpec::Cifar100(folder) => Arc::new(cifar(CifarKind::Cifar100, folder)?),
        DataSpec::Stl10(folder) => Arc::new(Stl::open(folder, split)?),
        DataSpec::Images(folder) => {
            let images = ImageFolder::open(folder, split, FolderOptions { skip_bad, min_side, progress })?;
            Arc::new(images.with_decoding(Decoding { alpha, upright: true }))
        }
        DataSpec::ImageNet(folder) => {
            let images = imagenet::open_folder(folder, split, skip_bad, progress)?;
            Arc::new(images.with_decoding(Decoding { alpha, upright: false }))
        }
        DataSpec::ImageNetTar(path) => Arc::new(imagenet::open_tar(path, split, skip_bad, progress)?.with_alpha(alpha)),
        DataSpec::Tokens { .. } | DataSpec::Shard(_) => {
            let hint = "it holds tokens, not images. Give a data set of images".into();
            return Err(DataError::NoSplit { data: spec.to_string(), split, hint });
        }
    };

    // An image's index is a u32 in orders and splits.
    if u32::try_from(source.len()).is_err() {
        let hint = "it has more than 2^32 - 1 images. Use a part of it".into();
        return Err(DataError::NoSplit { data: spec.to_string(), split, hint });
    }
    Ok(source)
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
    let transform = transform.of_model(options.of_model);
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

/// Width and height of a picture as its file has them, from the header alone.
///
/// # Errors
/// [`DataError::Image`], also of a picture larger than any that is read.
pub fn image_size(path: &Path) -> Result<(u32, u32)> {
    dimensions(path, &folder::read(path)?)
}

/// Brings any image to the model's resolution as evaluation does the images of a folder: turned upright, short side to 224
/// unless it is below that, central square, resized to the resolution unless it has it. For images given one by one, as
/// prompts of `sample`.
///
/// # Errors
/// [`DataError::Picture`], [`DataError::TooSmall`], [`DataError::Resize`].
pub fn open_image(path: &Path, resolution: u32, filter: Filter, alpha: Alpha) -> Result<image::RgbImage> {
    prompt(path, folder::load(path, Decoding { alpha, upright: true }), resolution, filter)
}

/// [`open_image`] of a file that is in memory; `name` is what messages call it.
///
/// # Errors
/// As [`open_image`].
pub fn read_image(name: &Path, bytes: &[u8], resolution: u32, filter: Filter, alpha: Alpha) -> Result<image::RgbImage> {
    prompt(name, decode(name, bytes, Decoding { alpha, upright: true }), resolution, filter)
}

/// A decoded picture at the model's resolution.
fn prompt(path: &Path, decoded: Result<image::RgbImage>, resolution: u32, filter: Filter) -> Result<image::RgbImage> {
    let transform = Transform::new(resolution, filter, Framing::CentreCrop, Augment::None)?.of_model(true);
    let image = decoded.map_err(|error| match error {
        // Nothing of a folder's advice helps with a picture that was asked for.
        DataError::Image { path, problem } => DataError::Picture { path, problem },
        other => other,
    })?;
    transform.apply(image, None, || path.display().to_string(), false)
}
