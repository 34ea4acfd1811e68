//! From image files to batches of tokens. Knows nothing of models or training.
//!
//! ```text
//! files -> ImageSource -> Transform -> Palette -> Examples -> Batches -> Prefetcher
//!          cifar stl      resize crop  512 colours   |         [B, n]
//!          folder sample  augment                    + token arrays (.npy), shards
//!          imagenet
//! ```
//!
//! [`open`] does the first half for a `KIND:PATH`, [`Batches`] the second. Every random choice is a pure function of a
//! seed and counters ([`Draw`]), so a run is resumed from a sample number alone.

pub(crate) mod bytes;
mod codec;
mod dataset;
mod error;
mod fetch;
mod hash;
pub mod npy;
mod prefetch;
pub(crate) mod progress;
mod skip_bad;
mod source;
mod sources;
mod spec;
mod split;

pub use codec::kmeans::{FitOptions, Histogram, Quality, fit};
pub use codec::palette::{MAX_COLOURS, Palette};
pub use codec::resize::{Filter, resize};
pub use codec::transform::{Augment, Framing, MAX_RESOLUTION, Transform};
pub use dataset::{Examples, ImageExamples};
pub use error::{DataError, Result};
pub use fetch::{CIFAR10_FILES, Fetched, Via, fetch_cifar10};
pub use hash::PublishedHash;
pub(crate) use hash::sha256;
pub use prefetch::{Batch, Batches, DataWait, MAX_WORKERS, Prefetcher};
pub use skip_bad::SkipBad;
pub use source::{Draw, ImageSource, Split};
pub use sources::builtin::open as open_sample;
pub use sources::cifar::{Cifar, CifarKind};
pub use sources::folder::{FolderOptions, ImageFolder};
pub use sources::imagenet;
pub use sources::manifests::{OfficialFile, official_files};
pub use sources::shard::{Shard, ShardHeader, ShardWriter};
pub use sources::stl::{STL_FOLDER, Stl};
pub use sources::tokens::TokenArray;
pub use spec::{DataSpec, OpenOptions, evaluation_transform, open, open_image, open_images, training_transform};
pub use split::hold_out;
