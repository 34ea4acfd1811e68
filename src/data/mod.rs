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
//! seed and counters (see [`crate::random`]), so a run is resumed from a sample number alone.

mod augment_key;
mod codec;
mod dataset;
mod encode;
mod error;
mod fetch;
pub(crate) mod files;
mod fingerprint;
mod fit_palette;
mod guess;
mod inspect;
pub(crate) mod labels;
mod manifests;
pub mod npy;
mod open;
mod part;
mod prefetch;
pub mod progress;
mod skip_bad;
mod source;
mod sources;
mod spec;
mod split;
mod stream;
mod throughput;
mod verify;

pub use augment_key::AugmentKey;
pub use codec::decode::Alpha;
pub use codec::kmeans::{FitOptions, Histogram, Quality, fit};
pub use codec::palette::{MAX_COLOURS, PAPER_COLOURS, Palette};
pub use codec::resize::{Filter, resize};
pub use codec::transform::{Augment, Framing, MAX_RESOLUTION, Transform};
pub use dataset::{Examples, ImageExamples, tokens_of};
pub use encode::{Encoded, Encoding};
pub use error::{DataError, Result};
pub use fetch::{CIFAR10_FILES, Fetched, Published, Via, fetch_cifar10, fetch_published};
pub use files::hash::PublishedHash;
pub(crate) use files::hash::{hex, sha256};
pub(crate) use files::pickle;
pub use fingerprint::{Fingerprint, Stamp};
pub use fit_palette::{FittedPalette, fit_palette};
pub use guess::data_named;
pub use inspect::{Contents, FileSummary, InspectOptions, SplitSummary, inspect};
pub use manifests::{OfficialFile, official_files};
pub use open::{
    OpenOptions, evaluation_transform, image_size, open, open_image, open_images, read_image, training_transform,
};
pub use part::Split;
pub use prefetch::{DataWait, Prefetcher};
pub use skip_bad::SkipBad;
pub use source::ImageSource;
pub use sources::builtin::open as open_sample;
pub use sources::cifar::{Cifar, CifarKind, CifarPlace};
pub use sources::folder::{FolderOptions, ImageFolder};
pub use sources::imagenet;
pub use sources::shard::{Shard, ShardHeader, ShardWriter};
pub use sources::stl::{STL_FOLDER, Stl};
pub use sources::tokens::TokenArray;
pub use spec::DataSpec;
pub use split::hold_out;
pub use stream::{Batch, Batches, MAX_WORKERS};
pub use throughput::{Measurement, Stages, Throughput};
pub use verify::{Damaged, Duplicates, Shared, Twin, Verification};
