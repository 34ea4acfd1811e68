//! CIFAR-10 and CIFAR-100: the official binary version and the Python version, read image by image, and either's archive.
//!
//! A record is one label byte (CIFAR-10: class; CIFAR-100: coarse class, then fine class), then the red, the green and
//! the blue plane, each 32 rows of 32 bytes. <https://www.cs.toronto.edu/~kriz/cifar.html>

mod batch;
mod kind;
mod place;
mod python;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbImage;

use crate::data::error::{DataError, Result};
use crate::data::files::archive::{self, Wanted};
use crate::data::files::bytes::Bytes;
use crate::data::files::regular;
use crate::data::part::Split;
use crate::data::source::ImageSource;
use batch::Batch;
pub use kind::CifarKind;
pub use place::CifarPlace;

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
/// What a pickle may take beside its images: labels, and the names of files.
const PICKLED: u64 = 16 << 20;

/// The images of one split.
pub struct Cifar {
    kind: CifarKind,
    title: String,
    batches: Vec<Batch>,
    /// Images before batch `i`; one more entry than batches.
    starts: Vec<usize>,
    class_names: Vec<String>,
    /// Official files of the split that are not there.
    missing: Vec<&'static str>,
    /// What is wrong with files that were left out.
    left_out: Vec<DataError>,
}

/// A file that is there, and its images, if it is sound.
type Found = (PathBuf, Result<Batch>);

impl Cifar {
    /// Opens a split ([`Split::Validation`] opens the training files) of what lies at `path`; see [`CifarPlace::find`]. Of
    /// CIFAR-10's five training files those that exist are used.
    ///
    /// # Errors
    /// [`DataError::NotThere`] without any of the files; [`DataError::PartialRecord`], [`DataError::Oversized`],
    /// [`DataError::Pickle`], [`DataError::Archive`] and [`DataError::Label`] for damaged ones.
    pub fn open(kind: CifarKind, path: &Path, split: Split) -> Result<Self> {
        let mut opened = Self::open_sound(kind, path, split)?;
        if opened.left_out.is_empty() { Ok(opened) } else { Err(opened.left_out.swap_remove(0)) }
    }

    /// As [`Cifar::open`], but leaves damaged files out: see [`ImageSource::left_out`].
    ///
    /// # Errors
    /// [`DataError::NotThere`] without any of the files; [`DataError::Pickle`] and [`DataError::Archive`] for a damaged
    /// file of names or archive.
    pub(in crate::data) fn open_sound(kind: CifarKind, path: &Path, split: Split) -> Result<Self> {
        let place = CifarPlace::find(kind, path);
        let (found, class_names, folder) = match &place {
            Some(CifarPlace::Binary(folder)) => {
                let text = regular::text(&folder.join(kind.names_file())).unwrap_or_default();
                (folder_batches(kind, folder, 0, split), parse_names(&text, kind.classes()), folder.as_path())
            }
            Some(CifarPlace::Python(folder)) => {
                (folder_batches(kind, folder, 1, split), python_names(kind, folder)?, folder.as_path())
            }
            Some(CifarPlace::Archive(archive)) => {
                let (found, names) = archive_batches(kind, archive, split)?;
                (found, names, archive.as_path())
            }
            None => (Vec::new(), Vec::new(), path),
        };

        if found.is_empty() {
            let names: Vec<&str> = kind.files(split).0.iter().map(|[binary, _]| *binary).collect();
            return Err(DataError::NotThere {
                wanted: format!("a folder of {} ({split})", kind.name()),
                hint: format!(
                    "expected {} in it or in its folder {}, the Python version in its folder {}, or {}; `igpt-engine data \
                     fetch {}` gets them",
                    names.join(" or "),
                    kind.folder(),
                    kind.python_folder(),
                    kind.archives().join(" or "),
                    kind.name().replace('-', "").to_lowercase(),
                ),
                path: folder.to_owned(),
            });
        }
        let missing = missing(kind, split, &found);
        let title = format!("{} in {}", kind.name(), folder.display());

        let (mut batches, mut left_out) = (Vec::new(), Vec::new());
        for (_, batch) in found {
            match batch {
                Ok(batch) => batches.push(batch),
                Err(fault) => left_out.push(fault),
            }
        }
        Ok(Cifar { missing, left_out, ..Self::new(kind, title, batches, class_names) })
    }

    /// Records built into the program.
    pub(crate) fn from_static(title: &str, name: &str, bytes: &'static [u8], names: &str) -> Result<Self> {
        let kind = CifarKind::Cifar10;
        let batch = Batch::binary(kind, PathBuf::from(name), Bytes::Static(bytes), 10_000)?;
        Ok(Self::new(kind, title.into(), vec![batch], parse_names(names, kind.classes())))
    }

    fn new(kind: CifarKind, title: String, batches: Vec<Batch>, class_names: Vec<String>) -> Self {
        let mut starts = vec![0];
        let mut total = 0;
        for batch in &batches {
            total += batch.len();
            starts.push(total);
        }
        Cifar { kind, title, batches, starts, class_names, missing: Vec::new(), left_out: Vec::new() }
    }

    /// The files, in order, with the images of each.
    pub fn files(&self) -> impl Iterator<Item = (&Path, usize)> {
        self.batches.iter().map(|batch| (batch.path.as_path(), batch.len()))
    }

    /// The batch that holds an image, and the image's number in it.
    fn place(&self, index: usize) -> Option<(&Batch, usize)> {
        let batch = self.starts.partition_point(|&start| start <= index).checked_sub(1)?;
        Some((self.batches.get(batch)?, index - self.starts[batch]))
    }
}

/// The files of a split that are in a folder; `version` is 0 for the binary one, 1 for Python's.
fn folder_batches(kind: CifarKind, folder: &Path, version: usize, split: Split) -> Vec<Found> {
    let (names, official) = kind.files(split);
    let paths = names.iter().map(|names| folder.join(names[version])).filter(|path| path.exists());
    let read = |path: &PathBuf| batch(kind, path.clone(), Bytes::open(path)?, version, official);
    paths.map(|path| (path.clone(), read(&path))).collect()
}

/// The official files of a split that are not among those found, in their version.
fn missing(kind: CifarKind, split: Split, found: &[Found]) -> Vec<&'static str> {
    let is_there = |name: &str| found.iter().any(|(path, _)| path.file_name().is_some_and(|there| there == name));
    let (names, _) = kind.files(split);
    let version = usize::from(!names.iter().any(|names| is_there(names[0])));
    names.iter().map(|names| names[version]).filter(|name| !is_there(name)).collect()
}

fn batch(kind: CifarKind, path: PathBuf, bytes: Bytes, version: usize, official: u64) -> Result<Batch> {
    match version {
        0 => Batch::binary(kind, path, bytes, official),
        _ => python::batch(kind, path, bytes, official),
    }
}

/// The names of the classes in the folder of the Python version; numbers where they are missing.
fn python_names(kind: CifarKind, folder: &Path) -> Result<Vec<String>> {
    let path = folder.join(kind.python_names().0);
    let names = if path.exists() {
        let bytes = Bytes::open(&path)?;
        python::names(kind, &path, &bytes.range(0..bytes.len().min(PICKLED as usize))?)?
    } else {
        None
    };
    Ok(names.unwrap_or_else(|| parse_names("", kind.classes())))
}

/// The files of a split, and the names of the classes, out of an archive of either version.
fn archive_batches(kind: CifarKind, archive: &Path, split: Split) -> Result<(Vec<Found>, Vec<String>)> {
    let (names, official) = kind.files(split);
    let folders = [kind.folder(), kind.python_folder()];
    let limit = official * kind.record() as u64 + PICKLED;
    let mut paths: Vec<String> = (0..2)
        .flat_map(|version| names.iter().map(move |names| format!("{}/{}", folders[version], names[version])))
        .collect();
    paths.push(format!("{}/{}", folders[0], kind.names_file()));
    paths.push(format!("{}/{}", folders[1], kind.python_names().0));
    let wanted: Vec<Wanted<'_>> = paths.iter().map(|path| Wanted { path, limit }).collect();
    let mut found = archive::read(archive, &wanted)?;

    // The last two are the names, as text and as a pickle.
    let class_names = match (found.pop().flatten(), found.pop().flatten()) {
        (Some(pickle), _) => python::names(kind, &archive.join(&paths[paths.len() - 1]), &pickle)?,
        (None, Some(text)) => Some(parse_names(&String::from_utf8_lossy(&text), kind.classes())),
        (None, None) => None,
    };
    let mut batches = Vec::new();
    for (at, bytes) in found.into_iter().enumerate() {
        let Some(bytes) = bytes else { continue };
        let (path, bytes) = (archive.join(&paths[at]), Bytes::Owned(Arc::new(bytes)));
        batches.push((path.clone(), batch(kind, path, bytes, at / names.len(), official)));
    }
    Ok((batches, class_names.unwrap_or_else(|| parse_names("", kind.classes()))))
}

/// The names in a text of one name per line; numbers where there is another number of names.
pub(super) fn parse_names(text: &str, classes: usize) -> Vec<String> {
    let names: Vec<String> = text.lines().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if names.len() == classes { names } else { (0..classes).map(|class| class.to_string()).collect() }
}

impl ImageSource for Cifar {
    fn len(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    fn image(&self, index: usize) -> Result<RgbImage> {
        let (batch, at) = self.place(index).ok_or_else(|| DataError::index(index, self.len()))?;
        let planes = batch.image(at)?;
        let pixels = (0..PLANE).flat_map(|at| [planes[at], planes[PLANE + at], planes[2 * PLANE + at]]).collect();
        RgbImage::from_raw(SIDE as u32, SIDE as u32, pixels).ok_or_else(|| DataError::index(index, self.len()))
    }

    fn label(&self, index: usize) -> Option<u16> {
        self.place(index).and_then(|(batch, at)| batch.label(at)).map(u16::from)
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }

    fn name(&self, index: usize) -> String {
        format!("image {index} of {}", self.title)
    }

    fn describe(&self) -> String {
        format!("{}: {} images of 32x32, {} classes", self.title, self.len(), self.kind.classes())
    }

    fn left_out(&self) -> &[DataError] {
        &self.left_out
    }

    /// A part of the files is taken, for some want no more of them; but nobody should take it for the whole.
    fn notes(&self) -> Vec<String> {
        if self.missing.is_empty() {
            return Vec::new();
        }
        let found = self.batches.len();
        let all = found + self.left_out.len() + self.missing.len();
        let missing = self.missing.join(", ");
        vec![format!("{missing} is missing: only {found} of the {all} files of {} are used", self.title)]
    }
}
