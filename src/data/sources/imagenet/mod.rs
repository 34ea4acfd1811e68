//! ImageNet ILSVRC2012, as class folders or straight from the official tars.
//!
//! | `--data` | training images | test images (ImageNet's validation images) |
//! |---|---|---|
//! | `imagenet:DIR` | `DIR/train/<wnid>/*` | `DIR/val/<wnid>/*`, or `DIR/val/*` with the devkit in `DIR` |
//! | `imagenet-tar:DIR` | `DIR/ILSVRC2012_img_train.tar` | `DIR/ILSVRC2012_img_val.tar`, with the devkit in `DIR` |
//! | `imagenet-tar:FILE` | FILE, a tar of the classes' tars | FILE, a tar of images; else `ILSVRC2012_img_val.tar` beside it |
//!
//! A class's label is the index of its wnid in sorted order, images are ordered by class and then by name, and validation
//! images by name: the same from folders and tars. The devkit (`ILSVRC2012_devkit_t12.tar.gz`, or its unpacked folder)
//! gives the validation images' labels; without it they have none, and only need them for accuracies.

mod archive;
mod devkit;
mod index;
mod mat;

use std::path::{Path, PathBuf};

pub use archive::ImageNetTar;
pub use devkit::{DEVKIT_TAR, Devkit};

use super::folder::{FolderOptions, ImageFolder};
use crate::data::error::{DataError, Result};
use crate::data::part::Split;
use crate::data::skip_bad::SkipBad;
use crate::data::source::ImageSource;

/// The official tar of training images, a tar of a thousand tars.
pub const TRAIN_TAR: &str = "ILSVRC2012_img_train.tar";
/// The official tar of validation images, which are tested on.
pub const VAL_TAR: &str = "ILSVRC2012_img_val.tar";

/// Opens a split of `imagenet:DIR`.
///
/// # Errors
/// As [`ImageFolder::open`] and [`Devkit::find`]; [`DataError::Count`] where devkit and images do not belong together.
pub fn open_folder(folder: &Path, split: Split, skip_bad: SkipBad, progress: bool) -> Result<ImageFolder> {
    let images = ImageFolder::open(folder, split, FolderOptions { skip_bad, min_side: None, progress })?;
    if split != Split::Test || !images.class_names().is_empty() {
        return Ok(images);
    }
    match Devkit::find(folder)? {
        Some(devkit) => images.with_labels(&devkit.labels, devkit.wnids, &devkit.path),
        None => Ok(images),
    }
}

/// Opens a split of `imagenet-tar:PATH`.
///
/// # Errors
/// [`DataError::NotThere`] without the tar; as [`ImageNetTar::open`] and [`Devkit::find`].
pub fn open_tar(path: &Path, split: Split, skip_bad: SkipBad, progress: bool) -> Result<ImageNetTar> {
    let (tar, folder) = tar_of(path, split)?;
    let images = ImageNetTar::open(&tar, skip_bad, progress)?;
    let nested = !images.class_names().is_empty();

    if split != Split::Test {
        return match nested {
            true => Ok(images),
            false => Err(DataError::NoSplit {
                data: format!("imagenet-tar:{}", path.display()),
                split,
                hint: format!(
                    "{} holds images rather than the tars of classes. Give the folder with {TRAIN_TAR}",
                    tar.display()
                ),
            }),
        };
    }

    // The test images of a tar of images have their labels from the devkit.
    match Devkit::find(&folder)? {
        Some(devkit) if !nested => images.with_labels(&devkit.labels, devkit.wnids, &devkit.path),
        _ => Ok(images),
    }
}

/// The tar that holds a split, and the folder that the devkit is looked for in.
pub fn tar_of(path: &Path, split: Split) -> Result<(PathBuf, PathBuf)> {
    let name = if split == Split::Test { VAL_TAR } else { TRAIN_TAR };
    let missing = |folder: &Path, hint: String| DataError::NotThere {
        path: folder.to_owned(),
        wanted: format!("a folder with ImageNet's tars ({split})"),
        hint,
    };

    if path.is_dir() {
        let tar = path.join(name);
        return match tar.exists() {
            true => Ok((tar, path.to_owned())),
            false => Err(missing(path, format!("{name} is not in it. Download it from https://image-net.org"))),
        };
    }

    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
    // Test images beside a tar of training images; a tar of test images itself.
    if split == Split::Test && path.exists() && archive::is_nested(path)? {
        let tar = folder.join(VAL_TAR);
        return match tar.exists() {
            true => Ok((tar, folder)),
            false => Err(missing(&folder, format!("{VAL_TAR} is not beside {}", path.display()))),
        };
    }
    Ok((path.to_owned(), folder))
}
