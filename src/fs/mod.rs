//! Files and folders that appear whole or not at all.

pub(crate) mod atomic_dir;
pub(crate) mod atomic_file;
mod error;

pub(crate) use error::FsError;
