//! The Python version: pickles of a dictionary with `data`, uint8 `[N, 3072]` (the planes of an image, as in the binary
//! version), and `labels` or `fine_labels`. The official files are of Python 2 and NumPy 1; any later Python and NumPy may
//! have written them again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::batch::Batch;
use super::kind::CifarKind;
use super::{PICKLED, PLANE};
use crate::data::error::{DataError, Result};
use crate::data::files::bytes::Bytes;
use crate::data::files::pickle::{self, PickleError, numpy};

/// The images and labels in a pickle, which stay where they are if they lie there one after the other.
pub(super) fn batch(kind: CifarKind, path: PathBuf, bytes: Bytes, official: u64) -> Result<Batch> {
    // Held in memory only while it is taken apart.
    let most = official.saturating_mul(kind.record() as u64) + PICKLED;
    if bytes.len() as u64 > most {
        let problem = format!("at most {most} bytes; it has {}", bytes.len());
        return Err(DataError::pickle(&path)(PickleError::Content(problem)));
    }
    let (start, moved, labels) =
        content(kind, &bytes.range(0..bytes.len())?, official).map_err(DataError::pickle(&path))?;
    match moved {
        None => Batch::planes(kind, path, bytes, start, labels),
        Some(planes) => Batch::planes(kind, path, Bytes::Owned(Arc::new(planes)), 0, labels),
    }
}

/// Where the planes start, the planes if they had to be decoded or reordered, and the labels.
#[expect(clippy::type_complexity, reason = "three parts of one result, named above")]
fn content(kind: CifarKind, bytes: &[u8], official: u64) -> Result<(usize, Option<Vec<u8>>, Vec<i64>), PickleError> {
    let wrong = |problem: String| Err(PickleError::Content(problem));
    let pickle = pickle::parse(bytes, numpy::GLOBALS)?;
    let labels_key = if kind == CifarKind::Cifar10 { "labels" } else { "fine_labels" };
    let (Some(data), Some(labels)) =
        (numpy::get(&pickle, pickle.root, "data"), numpy::get(&pickle, pickle.root, labels_key))
    else {
        return wrong(format!("a dictionary with data and {labels_key}. Is it of {}?", kind.name()));
    };

    // As many images as labels, each of 3 planes.
    let array = numpy::array(&pickle, data, "data")?;
    let labels = numpy::integers(&pickle, labels, labels_key)?;
    let images = match array.shape[..] {
        [images, 3072] | [images, 3, 32, 32] if array.dtype.kind == b'u' && array.dtype.size == 1 => images,
        _ => return wrong(format!("data of uint8 [N, 3072]; it has the shape {:?}", array.shape)),
    };
    if images == 0 || images as u64 > official {
        return wrong(format!("1 to {official} images; it holds {images}"));
    }
    if labels.len() != images {
        return wrong(format!("a label for each image; it holds {} labels and {images} images", labels.len()));
    }

    if array.fortran && array.shape.len() > 1 {
        if array.shape.len() != 2 {
            return wrong("data in C order; write it again with numpy.ascontiguousarray".into());
        }
        let planes = (0..images * 3 * PLANE).map(|at| array.bytes[at % (3 * PLANE) * images + at / (3 * PLANE)]);
        return Ok((0, Some(planes.collect()), labels));
    }
    match array.place {
        Some(start) => Ok((start, None, labels)),
        None => Ok((0, Some(array.bytes.into_owned()), labels)),
    }
}

/// The names of the classes in a pickle; `None` where there are not as many as classes.
pub(super) fn names(kind: CifarKind, path: &Path, bytes: &[u8]) -> Result<Option<Vec<String>>> {
    let pickle = pickle::parse(bytes, numpy::GLOBALS).map_err(DataError::pickle(path))?;
    let (_, key) = kind.python_names();
    let items = numpy::get(&pickle, pickle.root, key).and_then(|list| pickle.items(list));
    let names = items.and_then(|items| items.iter().map(|&item| numpy::text(&pickle, item)).collect());
    Ok(names.filter(|names: &Vec<String>| names.len() == kind.classes()))
}
