//! STL-10, official binary version, memory-mapped.
//!
//! `*_X.bin`: 27,648 bytes per image, the red, green and blue plane of 96x96, each stored column by column: the byte of
//! (channel c, column x, row y) is `9216 c + 96 x + y`. `*_y.bin`: a label byte, 1 to 10, per image.
//! <https://cs.stanford.edu/~acoates/stl10/>

use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};

use super::cifar::parse_names;
use crate::data::error::{DataError, Result};
use crate::data::files::bytes::Bytes;
use crate::data::part::Split;
use crate::data::source::ImageSource;

const SIDE: usize = 96;
const PLANE: usize = SIDE * SIDE;
const RECORD: usize = 3 * PLANE;
const CLASSES: usize = 10;

/// Folder inside the official archive.
pub const STL_FOLDER: &str = "stl10_binary";

/// The labelled images of one split.
pub struct Stl {
    title: String,
    path: PathBuf,
    images: Bytes,
    labels: Option<Bytes>,
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
        let folder = if inner.is_dir() { inner } else { folder.to_owned() };
        let (stem, official) = if split == Split::Test { ("test", 8_000) } else { ("train", 5_000) };
        let path = folder.join(format!("{stem}_X.bin"));
        if !path.exists() {
            return Err(DataError::NotThere {
                wanted: format!("a folder of STL-10 ({split})"),
                hint: format!(
                    "expected {stem}_X.bin in it or in its folder {STL_FOLDER}; unpack stl10_binary.tar.gz from \
                     https://cs.stanford.edu/~acoates/stl10/"
                ),
                path: folder,
            });
        }

        // Whole records, and no more than the official file has.
        let images = Bytes::map(&path)?;
        let (length, record) = (images.len() as u64, RECORD as u64);
        if length % record != 0 || length == 0 {
            return Err(DataError::PartialRecord { path, length, record });
        }
        let records = length / record;
        if records > official {
            return Err(DataError::Oversized { path, records, official, bytes: official * record });
        }

        // Labels, if there are any: one per image, 1 to 10.
        let label_path = folder.join(format!("{stem}_y.bin"));
        let labels = if label_path.exists() { Some(Bytes::map(&label_path)?) } else { None };
        if let Some(labels) = &labels {
            if labels.len() as u64 != records {
                return Err(DataError::Count { path, examples: records as usize, label_path, labels: labels.len() });
            }
            if let Some(record) = labels.iter().position(|&label| !(1..=CLASSES as u8).contains(&label)) {
                let label = i64::from(labels[record]);
                return Err(DataError::Label { path: label_path, record, label, first: 1, last: CLASSES as i64 });
            }
        }

        let names = std::fs::read_to_string(folder.join("class_names.txt")).unwrap_or_default();
        let class_names = if labels.is_some() { parse_names(&names, CLASSES) } else { Vec::new() };
        Ok(Stl { title: format!("STL-10 in {}", folder.display()), path, images, labels, class_names })
    }

    /// The file of images.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl ImageSource for Stl {
    fn len(&self) -> usize {
        self.images.len() / RECORD
    }

    fn image(&self, index: usize) -> Result<RgbImage> {
        let planes = self.images.chunks_exact(RECORD).nth(index).ok_or_else(|| DataError::index(index, self.len()))?;
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
