//! The images and labels of one file.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::PLANE;
use super::kind::CifarKind;
use crate::data::error::{DataError, Result};
use crate::data::files::bytes::Bytes;

/// A file's images, wherever in it they lie.
pub(super) struct Batch {
    pub(super) path: PathBuf,
    bytes: Bytes,
    /// Where the planes of the first image start.
    start: usize,
    /// From one image's planes to the next one's.
    stride: usize,
    /// A class per image.
    labels: Vec<u8>,
}

impl Batch {
    /// A file of the binary version: records of label bytes and planes.
    pub(super) fn binary(kind: CifarKind, path: PathBuf, bytes: Bytes, official: u64) -> Result<Self> {
        let record = kind.record();
        let (length, record_bytes) = (bytes.len() as u64, record as u64);
        if length % record_bytes != 0 || length == 0 {
            return Err(DataError::PartialRecord { path, length, record: record_bytes });
        }
        let records = length / record_bytes;
        if records > official {
            return Err(DataError::Oversized { path, records, official, bytes: official * record_bytes });
        }

        let mut labels = Vec::with_capacity(records as usize);
        for index in 0..records as usize {
            let bytes = bytes.range(index * record..index * record + kind.label_bytes())?;
            check_label(&path, index, i64::from(bytes[kind.label_bytes() - 1]), kind.classes())?;
            if kind == CifarKind::Cifar100 {
                check_label(&path, index, i64::from(bytes[0]), 20)?;
            }
            labels.push(bytes[kind.label_bytes() - 1]);
        }
        Ok(Batch { path, bytes, start: kind.label_bytes(), stride: record, labels })
    }

    /// Planes that follow each other from byte `start` on, and a label for each image.
    pub(super) fn planes(kind: CifarKind, path: PathBuf, bytes: Bytes, start: usize, labels: Vec<i64>) -> Result<Self> {
        for (index, &label) in labels.iter().enumerate() {
            check_label(&path, index, label, kind.classes())?;
        }
        // Checked just now: they are below 100.
        let labels = labels.into_iter().map(|label| label as u8).collect();
        Ok(Batch { path, bytes, start, stride: 3 * PLANE, labels })
    }

    /// How many images there are.
    pub(super) fn len(&self) -> usize {
        self.labels.len()
    }

    /// The class of an image.
    pub(super) fn label(&self, index: usize) -> Option<u8> {
        self.labels.get(index).copied()
    }

    /// The red, green and blue plane of an image.
    pub(super) fn image(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        let start = self.start.saturating_add(index.saturating_mul(self.stride));
        self.bytes.range(start..start.saturating_add(3 * PLANE))
    }
}

fn check_label(path: &Path, record: usize, label: i64, classes: usize) -> Result<()> {
    let last = classes as i64 - 1;
    if (0..=last).contains(&label) {
        return Ok(());
    }
    Err(DataError::Label { path: path.to_owned(), record, label, first: 0, last })
}
