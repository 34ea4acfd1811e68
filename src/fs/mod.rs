//! Files and folders that appear whole or not at all, and how paths are told.

pub(crate) mod atomic_dir;
pub(crate) mod atomic_file;
mod error;
pub(crate) mod first_bytes;
mod json_path;
pub(crate) mod output;
pub(crate) mod place;
pub(crate) mod space;
mod temporary;
pub(crate) mod unfinished;

pub(crate) use error::{FsError, remedy};
pub(crate) use json_path::{path_text, serialize_path};
pub(crate) use output::Output;
