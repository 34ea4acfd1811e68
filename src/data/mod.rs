//! From image files to batches of tokens. Knows nothing of models or training.
//!
//! ```text
//! files -> ImageSource -> Transform -> Palette -> Examples -> Batches -> Prefetcher
//!          cifar stl      resize crop  512 colours   |         [B, n]
//!          folder sample  augment                    + token arrays (.npy)
//! ```
//!
//! [`open`] does the first half for a `KIND:PATH`, [`Batches`] the second. Every random choice is a pure function of a
//! seed and counters ([`Draw`]), so a run is resumed from a sample number alone.

pub(crate) mod bytes;
mod cifar;
mod error;
mod examples;
mod fetch;
mod folder;
mod hash;
mod kmeans;
mod loader;
pub mod npy;
mod palette;
pub(crate) mod progress;
mod resize;
mod sample;
mod source;
mod spec;
mod split;
mod stl;
mod tokens;
mod transform;

pub use cifar::{Cifar, CifarKind};
pub use error::{DataError, Result};
pub use examples::{Examples, ImageExamples};
pub use fetch::{CIFAR10_FILES, Fetched, Via, fetch_cifar10};
pub use folder::{FolderOptions, ImageFolder};
pub(crate) use hash::sha256;
pub use kmeans::{FitOptions, Histogram, Quality, fit};
pub use loader::{Batch, Batches, Prefetcher};
pub use palette::{MAX_COLOURS, Palette};
pub use resize::{Filter, resize};
pub use sample::open as open_sample;
pub use source::{Draw, ImageSource, Split};
pub use spec::{DataSpec, OpenOptions, evaluation_transform, open, open_image, open_images};
pub use split::hold_out;
pub use stl::{STL_FOLDER, Stl};
pub use tokens::TokenArray;
pub use transform::{Augment, Framing, MAX_RESOLUTION, Transform};
