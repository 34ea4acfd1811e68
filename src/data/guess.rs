//! Which data set a path is, by what lies there.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::{DataError, Result};
use super::files::archive;
use super::npy::file_of;
use super::sources::cifar::{CifarKind, CifarPlace};
use super::sources::imagenet;
use super::sources::stl::{STL_ARCHIVE, STL_FOLDER};
use super::spec::DataSpec;

/// The data set that a user means by a path, whose kind is guessed, or by `KIND:PATH`.
///
/// # Errors
/// [`DataError::Nowhere`] for a path where nothing is, [`DataError::UnknownFile`] for a file of no known kind,
/// [`DataError::Spec`] for a `KIND:PATH` that is not understood.
pub fn data_named(text: &str) -> Result<DataSpec> {
    let path = Path::new(text);
    match text.parse() {
        _ if path.exists() => guess(path),
        _ if text.contains(".npz:") && file_of(path).is_file() => {
            Ok(DataSpec::Tokens { tokens: path.to_owned(), labels: None })
        }
        Err(_) if !text.contains(':') => Err(DataError::Nowhere { path: path.to_owned() }),
        parsed => parsed,
    }
}

/// The data set that a path looks like.
fn guess(path: &Path) -> Result<DataSpec> {
    let path_buf = path.to_owned();
    if path.is_file() {
        return match path.extension().and_then(|extension| extension.to_str()) {
            Some("npy" | "npz") => Ok(DataSpec::Tokens { tokens: path_buf, labels: None }),
            Some("shard") => Ok(DataSpec::Shard(path_buf)),
            _ if archive_kind(path).is_some() => Ok(archive_kind(path).map_or(DataSpec::Sample, |kind| kind(path_buf))),
            Some("tar") => Ok(DataSpec::ImageNetTar(path_buf)),
            _ => Err(DataError::UnknownFile { path: path_buf }),
        };
    }

    let holds = |names: &[&str]| names.iter().any(|name| path.join(name).exists());
    let is = |kind: CifarKind| holds(&[kind.folder(), kind.python_folder()]) || CifarPlace::find(kind, path).is_some();
    Ok(if is(CifarKind::Cifar10) {
        DataSpec::Cifar10(path_buf)
    } else if is(CifarKind::Cifar100) {
        DataSpec::Cifar100(path_buf)
    } else if holds(&[STL_FOLDER, STL_ARCHIVE, "train_X.bin", "test_X.bin"]) {
        DataSpec::Stl10(path_buf)
    } else if holds(&[imagenet::TRAIN_TAR, imagenet::VAL_TAR]) {
        DataSpec::ImageNetTar(path_buf)
    } else if holds_wnids(&path.join("train")) {
        DataSpec::ImageNet(path_buf)
    } else {
        DataSpec::Images(path_buf)
    })
}

/// The data set of which a file is the archive, by its first entries or its name.
fn archive_kind(path: &Path) -> Option<fn(PathBuf) -> DataSpec> {
    type Kind = (&'static [&'static str], fn(PathBuf) -> DataSpec);
    let kinds: [Kind; 3] = [
        (&["cifar-100-binary", "cifar-100-python"], DataSpec::Cifar100),
        (&["cifar-10-batches-bin", "cifar-10-batches-py", "cifar-10-binary", "cifar-10-python"], DataSpec::Cifar10),
        (&[STL_FOLDER], DataSpec::Stl10),
    ];
    let mut names = archive::first_paths(path, 8);
    names.extend(path.file_name().and_then(|name| name.to_str()).map(str::to_owned));
    let is = |stems: &[&str]| {
        names.iter().any(|name| stems.iter().any(|stem| name.trim_start_matches("./").starts_with(stem)))
    };
    kinds.into_iter().find(|(stems, _)| is(stems)).map(|(_, kind)| kind)
}

/// Whether a folder holds one that is named like ImageNet's classes: n01440764.
fn holds_wnids(folder: &Path) -> bool {
    let is_wnid =
        |name: &str| name.len() == 9 && name.strip_prefix('n').is_some_and(|rest| rest.parse::<u32>().is_ok());
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.take(16).any(|entry| entry.file_name().to_str().is_some_and(is_wnid))
}
