//! `KIND:PATH`: naming a data set on the command line and in a configuration, and opening it.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::codec::palette::Palette;
use super::codec::resize::Filter;
use super::codec::transform::{Augment, Framing, Transform};
use super::dataset::{Examples, ImageExamples};
use super::error::{DataError, Result};
use super::skip_bad::SkipBad;
use super::source::{ImageSource, Split};
use super::sources::builtin;
use super::sources::cifar::{Cifar, CifarKind};
use super::sources::folder::{FolderOptions, ImageFolder};
use super::sources::imagenet;
use super::sources::shard::Shard;
use super::sources::stl::Stl;
use super::sources::tokens::TokenArray;
use super::split::hold_out;

/// A data set, as given to `--data`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum DataSpec {
    /// `sample`: the built-in CIFAR-10 sample.
    #[default]
    Sample,
    /// `cifar10:DIR`: official binary version.
    Cifar10(PathBuf),
    /// `cifar100:DIR`: official binary version.
    Cifar100(PathBuf),
    /// `stl10:DIR`: official binary version.
    Stl10(PathBuf),
    /// `images:DIR`: JPEG and PNG files.
    Images(PathBuf),
    /// `imagenet:DIR`: ImageNet's class folders; see [`imagenet`].
    ImageNet(PathBuf),
    /// `imagenet-tar:DIR` or `imagenet-tar:FILE`: ImageNet's official tars; see [`imagenet`].
    ImageNetTar(PathBuf),
    /// `shard:FILE`: written by `data encode`.
    Shard(PathBuf),
    /// `tokens:FILE.npy[,LABELS.npy]`.
    Tokens {
        /// `[N, n]` of integers.
        tokens: PathBuf,
        /// `[N]` or one-hot `[N, classes]`.
        labels: Option<PathBuf>,
    },
}

impl FromStr for DataSpec {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self> {
        let error = |problem: &str| DataError::Spec { text: text.into(), problem: problem.into() };
        if text == "sample" {
            return Ok(DataSpec::Sample);
        }
        let (kind, path) = text.split_once(':').ok_or_else(|| error("there is no KIND before the path"))?;
        if path.is_empty() {
            return Err(error("the path is missing"));
        }
        match kind {
            "cifar10" => Ok(DataSpec::Cifar10(path.into())),
            "cifar100" => Ok(DataSpec::Cifar100(path.into())),
            "stl10" => Ok(DataSpec::Stl10(path.into())),
            "images" => Ok(DataSpec::Images(path.into())),
            "imagenet" => Ok(DataSpec::ImageNet(path.into())),
            "imagenet-tar" => Ok(DataSpec::ImageNetTar(path.into())),
            "shard" => Ok(DataSpec::Shard(path.into())),
            "tokens" => {
                // At ".npy," and not at any comma, which paths may hold.
                let (tokens, labels) = match path.split_once(".npy,") {
                    Some((_, "")) => return Err(error("the labels' path after the comma is missing")),
                    Some((stem, labels)) => (format!("{stem}.npy").into(), Some(labels.into())),
                    None => (path.into(), None),
                };
                Ok(DataSpec::Tokens { tokens, labels })
            }
            _ => Err(error("the KIND is not known")),
        }
    }
}

impl std::fmt::Display for DataSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DataSpec::Sample => f.write_str("sample"),
            DataSpec::Cifar10(path) => write!(f, "cifar10:{}", path.display()),
            DataSpec::Cifar100(path) => write!(f, "cifar100:{}", path.display()),
            DataSpec::Stl10(path) => write!(f, "stl10:{}", path.display()),
            DataSpec::Images(path) => write!(f, "images:{}", path.display()),
            DataSpec::ImageNet(path) => write!(f, "imagenet:{}", path.display()),
            DataSpec::ImageNetTar(path) => write!(f, "imagenet-tar:{}", path.display()),
            DataSpec::Shard(path) => write!(f, "shard:{}", path.display()),
            DataSpec::Tokens { tokens, labels: None } => write!(f, "tokens:{}", tokens.display()),
            DataSpec::Tokens { tokens, labels: Some(labels) } => {
                write!(f, "tokens:{},{}", tokens.display(), labels.display())
            }
        }
    }
}

impl From<DataSpec> for String {
    fn from(spec: DataSpec) -> Self {
        spec.to_string()
    }
}

impl TryFrom<String> for DataSpec {
    type Error = DataError;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

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

impl DataSpec {
    /// The paper's held-out part of the training images: 10 % of CIFAR and STL-10, 4 % of ImageNet; 0 for token arrays
    /// and shards, whose splits are files of their own.
    pub fn default_holdout(&self) -> f64 {
        match self {
            DataSpec::Sample | DataSpec::Cifar10(_) | DataSpec::Cifar100(_) | DataSpec::Stl10(_) => 0.10,
            DataSpec::Images(_) | DataSpec::ImageNet(_) | DataSpec::ImageNetTar(_) => 0.04,
            DataSpec::Tokens { .. } | DataSpec::Shard(_) => 0.0,
        }
    }

    /// Whether it holds tokens, which have a length of their own and are one split, rather than images.
    pub fn is_tokens(&self) -> bool {
        matches!(self, DataSpec::Tokens { .. } | DataSpec::Shard(_))
    }

    fn is_imagenet(&self) -> bool {
        matches!(self, DataSpec::ImageNet(_) | DataSpec::ImageNetTar(_))
    }

    fn framing(&self) -> Framing {
        if self.is_imagenet() || matches!(self, DataSpec::Images(_)) { Framing::CentreCrop } else { Framing::Whole }
    }

    fn transform(&self, options: &OpenOptions, augment: Augment) -> Result<Transform> {
        let transform = Transform::new(options.resolution, options.filter, self.framing(), augment)?;
        Ok(if self.is_imagenet() { transform.enlarging() } else { transform })
    }

    fn augmentation(&self) -> Augment {
        match self {
            DataSpec::Images(_) | DataSpec::ImageNet(_) | DataSpec::ImageNetTar(_) => Augment::ResizeCrop,
            DataSpec::Tokens { .. } | DataSpec::Shard(_) => Augment::None,
            _ => Augment::PadCropFlip,
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
    spec.transform(options, Augment::None)
}

/// How images of a data set reach the resolution in training.
///
/// # Errors
/// As [`Transform::new`].
pub fn training_transform(spec: &DataSpec, options: &OpenOptions) -> Result<Transform> {
    spec.transform(options, if options.augment { spec.augmentation() } else { Augment::None })
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
pub fn open_image(path: &std::path::Path, resolution: u32, filter: Filter) -> Result<image::RgbImage> {
    let transform = Transform::new(resolution, filter, Framing::CentreCrop, Augment::None)?;
    let image = super::sources::folder::load(path)?;
    if image.dimensions() == (resolution, resolution) {
        return Ok(image);
    }
    transform.apply(image, None, || path.display().to_string(), false)
}
