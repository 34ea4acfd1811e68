//! `KIND:PATH`: naming a data set in flags and configurations.

use std::borrow::Cow;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::codec::transform::{Augment, Framing};
use super::error::{DataError, Result};
use super::npy::split_pair;

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
    /// `imagenet:DIR`: ImageNet's class folders; see [`imagenet`](super::imagenet).
    ImageNet(PathBuf),
    /// `imagenet-tar:DIR` or `imagenet-tar:FILE`: ImageNet's official tars; see [`imagenet`](super::imagenet).
    ImageNetTar(PathBuf),
    /// `shard:FILE`: written by `data encode`.
    Shard(PathBuf),
    /// `tokens:FILE.npy[,LABELS.npy]`, or `FILE.npz[:NAME]` in the place of either.
    Tokens {
        /// `[N, n]` or `[N, side, side]` of integers.
        tokens: PathBuf,
        /// `[N]`, `[N, 1]` or one-hot `[N, classes]`.
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
        // A shell leaves ~ alone after a colon.
        let path = &*at_home(path).ok_or_else(|| error("there is no home folder to put in the place of ~"))?;

        match kind {
            "cifar10" => Ok(DataSpec::Cifar10(path.into())),
            "cifar100" => Ok(DataSpec::Cifar100(path.into())),
            "stl10" => Ok(DataSpec::Stl10(path.into())),
            "images" => Ok(DataSpec::Images(path.into())),
            "imagenet" => Ok(DataSpec::ImageNet(path.into())),
            "imagenet-tar" => Ok(DataSpec::ImageNetTar(path.into())),
            "shard" => Ok(DataSpec::Shard(path.into())),
            "tokens" => {
                let (tokens, labels) = match split_pair(path) {
                    Some((_, "")) => return Err(error("the labels' path after the comma is missing")),
                    Some((tokens, labels)) => {
                        let labels =
                            at_home(labels).ok_or_else(|| error("there is no home folder to put in the place of ~"))?;
                        (tokens.into(), Some(labels.into_owned().into()))
                    }
                    None => (path.into(), None),
                };
                Ok(DataSpec::Tokens { tokens, labels })
            }
            _ => Err(error("the KIND is not known")),
        }
    }
}

/// A path whose `~/` is the home folder, as a shell would have it; `None` without a home folder.
fn at_home(path: &str) -> Option<Cow<'_, str>> {
    let Some(rest) = path.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
        return Some(path.into());
    };
    let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty())?;
    Some(format!("{}{rest}", home.to_str()?).into())
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

    /// Whether both name the same data, however the path is spelled.
    pub fn is_same_place(&self, other: &DataSpec) -> bool {
        let place = |path: &PathBuf| std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        match (self, other) {
            (DataSpec::Sample, DataSpec::Sample) => true,
            (DataSpec::Cifar10(a), DataSpec::Cifar10(b))
            | (DataSpec::Cifar100(a), DataSpec::Cifar100(b))
            | (DataSpec::Stl10(a), DataSpec::Stl10(b))
            | (DataSpec::Images(a), DataSpec::Images(b))
            | (DataSpec::ImageNet(a), DataSpec::ImageNet(b))
            | (DataSpec::ImageNetTar(a), DataSpec::ImageNetTar(b))
            | (DataSpec::Shard(a), DataSpec::Shard(b)) => place(a) == place(b),
            (DataSpec::Tokens { tokens: a, .. }, DataSpec::Tokens { tokens: b, .. }) => place(a) == place(b),
            _ => false,
        }
    }

    /// Whether its images are files of their own, of which bad ones can be left out.
    pub fn is_files(&self) -> bool {
        matches!(self, DataSpec::Images(_) | DataSpec::ImageNet(_) | DataSpec::ImageNetTar(_))
    }

    /// Whether it is ImageNet, of which small images are enlarged.
    pub(super) fn is_imagenet(&self) -> bool {
        matches!(self, DataSpec::ImageNet(_) | DataSpec::ImageNetTar(_))
    }

    /// What is cut from its images before they are shrunk.
    pub(super) fn framing(&self) -> Framing {
        if self.is_imagenet() || matches!(self, DataSpec::Images(_)) { Framing::CentreCrop } else { Framing::Whole }
    }

    /// How its training images are augmented.
    pub(super) fn augmentation(&self) -> Augment {
        match self {
            DataSpec::Images(_) | DataSpec::ImageNet(_) | DataSpec::ImageNetTar(_) => Augment::ResizeCrop,
            DataSpec::Tokens { .. } | DataSpec::Shard(_) => Augment::None,
            _ => Augment::PadCropFlip,
        }
    }
}
