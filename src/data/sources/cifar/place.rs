//! In which of its forms a data set lies at a path.

use std::path::{Path, PathBuf};

use super::kind::CifarKind;
use crate::data::part::Split;

/// A form that CIFAR is had in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CifarPlace {
    /// The folder with the `.bin` files.
    Binary(PathBuf),
    /// The folder with the pickles.
    Python(PathBuf),
    /// A `.tar.gz` of either, as downloaded.
    Archive(PathBuf),
}

impl CifarPlace {
    /// What lies at `path`, or in the official folder in it: the binary version first, then the Python version, then an
    /// archive.
    pub fn find(kind: CifarKind, path: &Path) -> Option<Self> {
        if path.is_file() {
            return Some(CifarPlace::Archive(path.to_owned()));
        }
        let holds = |folder: &Path, version: usize| {
            let splits = [Split::Train, Split::Test].into_iter();
            let mut names = splits.flat_map(|split| kind.files(split).0.iter().map(|names| names[version]));
            names.any(|name| folder.join(name).is_file())
        };

        let inside = [path.join(kind.folder()), path.to_owned()];
        if let Some(folder) = inside.iter().find(|folder| holds(folder, 0)) {
            return Some(CifarPlace::Binary(folder.clone()));
        }
        let inside = [path.join(kind.python_folder()), path.to_owned()];
        if let Some(folder) = inside.iter().find(|folder| holds(folder, 1)) {
            return Some(CifarPlace::Python(folder.clone()));
        }
        let archives = kind.archives().map(|name| path.join(name));
        archives.into_iter().find(|archive| archive.is_file()).map(CifarPlace::Archive)
    }

    /// What it is, for people.
    pub(in crate::data) fn version(&self) -> &'static str {
        match self {
            CifarPlace::Binary(_) => "binary version",
            CifarPlace::Python(_) => "Python version",
            CifarPlace::Archive(_) => "the archive as downloaded",
        }
    }
}
