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

mod bad;
pub(crate) mod bytes;
mod cifar;
mod decode;
mod error;
mod examples;
mod fetch;
mod folder;
mod hash;
pub mod imagenet;
mod kmeans;
mod loader;
pub mod npy;
mod official;
mod palette;
pub(crate) mod progress;
mod resize;
mod sample;
mod shard;
mod source;
mod spec;
mod split;
mod stl;
mod tokens;
mod transform;

pub use bad::SkipBad;
pub use cifar::{Cifar, CifarKind};
pub use error::{DataError, Result};
pub use examples::{Examples, ImageExamples};
pub use fetch::{CIFAR10_FILES, Fetched, Via, fetch_cifar10};
pub use folder::{FolderOptions, ImageFolder};
pub use hash::PublishedHash;
pub(crate) use hash::sha256;
pub use kmeans::{FitOptions, Histogram, Quality, fit};
pub use loader::{Batch, Batches, DataWait, MAX_WORKERS, Prefetcher};
pub use official::{OfficialFile, official_files};
pub use palette::{MAX_COLOURS, Palette};
pub use resize::{Filter, resize};
pub use sample::open as open_sample;
pub use shard::{Shard, ShardHeader, ShardWriter};
pub use source::{Draw, ImageSource, Split};
pub use spec::{DataSpec, OpenOptions, evaluation_transform, open, open_image, open_images, training_transform};
pub use split::hold_out;
pub use stl::{STL_FOLDER, Stl};
pub use tokens::TokenArray;
pub use transform::{Augment, Framing, MAX_RESOLUTION, Transform};
