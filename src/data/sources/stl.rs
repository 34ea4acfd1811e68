//! STL-10, official binary version, read image by image, or out of the archive as downloaded.
//!
//! `*_X.bin`: 27,648 bytes per image, the red, green and blue plane of 96x96, each stored column by column: the byte of
//! (channel c, column x, row y) is `9216 c + 96 x + y`. `*_y.bin`: a label byte, 1 to 10, per image.
//! <https://cs.stanford.edu/~acoates/stl10/>

use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::{Rgb, RgbImage};

use super::cifar::parse_names;
use crate::data::error::{DataError, Result};
use crate::data::files::archive::{self, Wanted};
use crate::data::files::bytes::Bytes;
use crate::data::files::regular;
use crate::data::part::Split;
use crate::data::source::ImageSource;

const SIDE: usize = 96;
const PLANE: usize = SIDE * SIDE;
const RECORD: usize = 3 * PLANE;
const CLASSES: usize = 10;

/// Folder inside the official archive.
pub const STL_FOLDER: &str = "stl10_binary";
/// The official archive.
pub const STL_ARCHIVE: &str = "stl10_binary.tar.gz";
const NAMES_FILE: &str = "class_names.txt";

/// The labelled images of one split.
pub struct Stl {
    title: String,
    path: PathBuf,
    images: Bytes,
    labels: Option<Vec<u8>>,
    class_names: Vec<String>,
}

impl Stl {
    /// Opens `train_X.bin` or `test_X.bin` in `folder` or in its folder `stl10_binary` ([`Split::Validation`] opens
    /// train). Without the `_y.bin` beside it the images have no labels.
    ///
    /// # Errors
    /// [`DataError::NotThere`] without the file; [`DataError::PartialRecord`], [`DataError::Oversized`],
    /// [`DataError::Count`] and [`DataError::Label`] for damaged ones.
    pub fn open(folder: &Path, split: Split) -> Result<Self> {
        let inner = folder.join(STL_FOLDER);
        let inside = [inner.as_path(), folder].into_iter().find(|folder| holds_images(folder)).map(Path::to_owned);
        let archive = if folder.is_file() { folder.to_owned() } else { folder.join(STL_ARCHIVE) };
        if inside.is_none() && archive.is_file() {
            return Self::open_archive(&archive, split);
        }
        let folder = inside.unwrap_or(if inner.is_dir() { inner } else { folder.to_owned() });
        let (stem, official) = stem(split);
        let path = folder.join(format!("{stem}_X.bin"));
        if !path.exists() {
            return Err(DataError::NotThere {
                wanted: format!("a folder of STL-10 ({split})"),
                hint: format!(
                    "expected {stem}_X.bin in it, in its folder {STL_FOLDER}, or {STL_ARCHIVE} from \
                     https://cs.stanford.edu/~acoates/stl10/; `igpt-engine data fetch stl10` gets it"
                ),
                path: folder,
            });
        }

        let images = Bytes::open(&path)?;
        let label_path = folder.join(format!("{stem}_y.bin"));
        let labels = if label_path.exists() { Some(Bytes::open(&label_path)?) } else { None };
        let names = regular::text(&folder.join(NAMES_FILE)).unwrap_or_default();
        let title = format!("STL-10 in {}", folder.display());
        Self::new(title, (path, images), (label_path, labels), official, &names)
    }

    /// Takes a split out of the official archive.
    fn open_archive(archive: &Path, split: Split) -> Result<Self> {
        let (stem, official) = stem(split);
        let paths = [format!("{stem}_X.bin"), format!("{stem}_y.bin"), NAMES_FILE.to_owned()]
            .map(|name| format!("{STL_FOLDER}/{name}"));
        let limits = [official * RECORD as u64, official, 1 << 16];
        let wanted: Vec<_> = paths.iter().zip(limits).map(|(path, limit)| Wanted { path, limit }).collect();
        let mut found = archive::read(archive, &wanted)?;

        let (names, labels, images) = (found.pop().flatten(), found.pop().flatten(), found.pop().flatten());
        let Some(images) = images else {
            let hint =
                format!("{} is not in it; take {STL_ARCHIVE} from https://cs.stanford.edu/~acoates/stl10/", paths[0]);
            return Err(DataError::NotThere { path: archive.to_owned(), wanted: "the archive of STL-10".into(), hint });
        };
        let owned = |bytes| Bytes::Owned(Arc::new(bytes));
        let names = String::from_utf8_lossy(&names.unwrap_or_default()).into_owned();
        let title = format!("STL-10 in {}", archive.display());
        let [path, label_path, _] = paths.map(|path| archive.join(path));
        Self::new(title, (path, owned(images)), (label_path, labels.map(owned)), official, &names)
    }

    /// Checks images and labels: whole records, and no more than the official file has.
    fn new(
        title: String,
        (path, images): (PathBuf, Bytes),
        (label_path, labels): (PathBuf, Option<Bytes>),
        official: u64,
        names: &str,
    ) -> Result<Self> {
        let (length, record) = (images.len() as u64, RECORD as u64);
        if length % record != 0 || length == 0 {
            return Err(DataError::PartialRecord { path, length, record });
        }
        let records = length / record;
        if records > official {
            return Err(DataError::Oversized { path, records, official, bytes: official * record });
        }

        // Labels, if there are any: one per image, 1 to 10.
        let labels = match labels {
            Some(labels) => Some(labels.range(0..labels.len().min(official as usize + 1))?.into_owned()),
            None => None,
        };
        if let Some(labels) = &labels {
            if labels.len() as u64 != records {
                return Err(DataError::Count { path, examples: records as usize, label_path, labels: labels.len() });
            }
            if let Some(record) = labels.iter().position(|&label| !(1..=CLASSES as u8).contains(&label)) {
                let label = i64::from(labels[record]);
                return Err(DataError::Label { path: label_path, record, label, first: 1, last: CLASSES as i64 });
            }
        }

        let class_names = if labels.is_some() { parse_names(names, CLASSES) } else { Vec::new() };
        Ok(Stl { title, path, images, labels, class_names })
    }

    /// The file of images.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// How a split's files start, and the images of the official one.
fn stem(split: Split) -> (&'static str, u64) {
    if split == Split::Test { ("test", 8_000) } else { ("train", 5_000) }
}

fn holds_images(folder: &Path) -> bool {
    ["train_X.bin", "test_X.bin"].iter().any(|name| folder.join(name).is_file())
}

impl ImageSource for Stl {
    fn len(&self) -> usize {
        self.images.len() / RECORD
    }

    fn image(&self, index: usize) -> Result<RgbImage> {
        if index >= self.len() {
            return Err(DataError::index(index, self.len()));
        }
        let planes = self.images.range(index * RECORD..(index + 1) * RECORD)?;
        Ok(RgbImage::from_fn(SIDE as u32, SIDE as u32, |x, y| {
            let at = SIDE * x as usize + y as usize;
            Rgb([planes[at], planes[PLANE + at], planes[2 * PLANE + at]])
        }))
    }

    fn label(&self, index: usize) -> Option<u16> {
        self.labels.as_ref()?.get(index).map(|&label| u16::from(label) - 1)
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }

    fn name(&self, index: usize) -> String {
        format!("image {index} of {}", self.title)
    }

    fn describe(&self) -> String {
        let labels = if self.labels.is_some() { "10 classes" } else { "no labels" };
        format!("{}: {} images of 96x96, {labels}", self.title, self.len())
    }
}
