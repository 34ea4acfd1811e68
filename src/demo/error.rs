//! Why a demo cannot go on.

use std::path::PathBuf;

use crate::checkpoint::CheckpointError;
use crate::data::DataError;
use crate::fs::remedy;
use crate::run::folder::RunFolderError;

/// Result of everything in [`crate::demo`].
pub type Result<T> = std::result::Result<T, DemoError>;

/// An error of the demo. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The images have changed since the demo began.
    #[error(
        "the images of {data} have changed since the demo in {} began (files were added, removed or written anew), so what it \
         found is of others; start again in a new --out, or put the images back",
        path.display()
    )]
    OtherImages {
        /// The folder.
        path: PathBuf,
        /// The data set.
        data: String,
    },
    /// The images cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A stage left no checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A stage's metrics are damaged.
    #[error(transparent)]
    Run(#[from] RunFolderError),
    /// Tokens cannot be shrunk.
    #[error("the demo shrinks and probes images, and {data} holds tokens; give images, e.g. cifar10:DIR")]
    Tokens {
        /// The data set.
        data: String,
    },
    /// Images without labels cannot be told apart.
    #[error(
        "the demo tells classes apart, and {data} has {images} images of {classes} classes; give images of a data set with \
         labels"
    )]
    NoClasses {
        /// The data set in words.
        data: String,
        /// Its images.
        images: usize,
        /// Its classes.
        classes: usize,
    },
    /// The commands could not be typed.
    #[error("--out {}: paths must be UTF-8", path.display())]
    NotUtf8 {
        /// The folder.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}; give another --out: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// `demo.json` is not what the demo writes.
    #[error("{} is damaged; give another --out, or remove the folder: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The folder holds a demo of other settings.
    #[error("{} holds a demo with {flags}; give the same, or another --out", path.display())]
    OtherSettings {
        /// The folder.
        path: PathBuf,
        /// The flags of that demo.
        flags: String,
    },
    /// The folder cannot be made or listed.
    #[error("cannot make the folder {}; give another --out: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The folder holds something else.
    #[error("{} holds other files, and no demo; give another --out", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// Two processes would make one demo.
    #[error("another process is making the demo in {}; wait for it, or give another --out", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}{}", path.display(), remedy(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A stage's results are not what its command writes.
    #[error(
        "{} is not what its command writes; remove it, and the same command makes it again: {source}", path.display()
    )]
    Results {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
}
