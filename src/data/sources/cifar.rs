//! CIFAR-10 and CIFAR-100, official binary version, memory-mapped.
//!
//! A record is one label byte (CIFAR-10: class; CIFAR-100: coarse class, then fine class), then the red, the green and
//! the blue plane, each 32 rows of 32 bytes. <https://www.cs.toronto.edu/~kriz/cifar.html>

use std::path::{Path, PathBuf};

use image::RgbImage;

use crate::data::error::{DataError, Result};
use crate::data::files::bytes::Bytes;
use crate::data::part::Split;
use crate::data::source::ImageSource;

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CifarKind {
    /// Ten classes.
    Cifar10,
    /// A hundred classes (the fine labels).
    Cifar100,
}

impl CifarKind {
    /// The name people know.
    pub fn name(self) -> &'static str {
        match self {
            CifarKind::Cifar10 => "CIFAR-10",
            CifarKind::Cifar100 => "CIFAR-100",
        }
    }

    /// Folder inside the official archive.
    pub fn folder(self) -> &'static str {
        match self {
            CifarKind::Cifar10 => "cifar-10-batches-bin",
            CifarKind::Cifar100 => "cifar-100-binary",
        }
    }

    /// Number of classes.
    pub fn classes(self) -> usize {
        match self {
            CifarKind::Cifar10 => 10,
            CifarKind::Cifar100 => 100,
        }
    }

    /// The files of a split and the records of each official one. Validation is held out of train by the caller.
    fn files(self, split: Split) -> (&'static [&'static str], u64) {
        match (self, split) {
            (CifarKind::Cifar10, Split::Test) => (&["test_batch.bin"], 10_000),
            (CifarKind::Cifar10, _) => (
                &["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"],
                10_000,
            ),
            (CifarKind::Cifar100, Split::Test) => (&["test.bin"], 10_000),
            (CifarKind::Cifar100, _) => (&["train.bin"], 50_000),
        }
    }

    /// Bytes before the pixels: the class is the last of them.
    fn label_bytes(self) -> usize {
        match self {
            CifarKind::Cifar10 => 1,
            CifarKind::Cifar100 => 2,
        }
    }

    fn record(self) -> usize {
        self.label_bytes() + 3 * PLANE
    }

    fn names_file(self) -> &'static str {
        match self {
            CifarKind::Cifar10 => "batches.meta.txt",
            CifarKind::Cifar100 => "fine_label_names.txt",
        }
    }
}

/// The records of one split.
pub struct Cifar {
    kind: CifarKind,
    title: String,
    files: Vec<(PathBuf, Bytes)>,
    /// Records before file `i`; one more entry than files.
    starts: Vec<usize>,
    class_names: Vec<String>,
}

impl Cifar {
    /// Opens a split ([`Split::Validation`] opens the training files). `folder` holds the `.bin` files, or holds the
    /// official folder that does. Of CIFAR-10's five training files those that exist are used.
    ///
    /// # Errors
    /// [`DataError::NotThere`] without any of the files; [`DataError::PartialRecord`], [`DataError::Oversized`] and
    /// [`DataError::Label`] for damaged ones.
    pub fn open(kind: CifarKind, folder: &Path, split: Split) -> Result<Self> {
        let (names, official) = kind.files(split);
        let inner = folder.join(kind.folder());
        let folder = if inner.is_dir() { inner } else { folder.to_owned() };

        let mut files = Vec::new();
        for path in names.iter().map(|name| folder.join(name)).filter(|path| path.exists()) {
            let bytes = Bytes::map(&path)?;
            files.push((path, bytes));
        }
        if files.is_empty() {
            return Err(DataError::NotThere {
                wanted: format!("a folder of {} ({split})", kind.name()),
                hint: format!(
                    "expected {} in it or in its folder {}{}",
                    names.join(" or "),
                    kind.folder(),
                    if kind == CifarKind::Cifar10 { "; `igpt-engine data fetch cifar10` gets them" } else { "" }
                ),
                path: folder,
            });
        }

        let class_names = read_names(&folder.join(kind.names_file()), kind.classes());
        let title = format!("{} in {}", kind.name(), folder.display());
        Self::new(kind, title, files, official, class_names)
    }

    /// Records built into the program.
    pub(crate) fn from_static(title: &str, name: &str, bytes: &'static [u8], names: &str) -> Result<Self> {
        let kind = CifarKind::Cifar10;
        let class_names = parse_names(names, kind.classes());
        Self::new(kind, title.into(), vec![(PathBuf::from(name), Bytes::Static(bytes))], 10_000, class_names)
    }

    fn new(
        kind: CifarKind,
        title: String,
        files: Vec<(PathBuf, Bytes)>,
        official: u64,
        class_names: Vec<String>,
    ) -> Result<Self> {
        let record = kind.record();
        let mut starts = vec![0];
        let mut total = 0;
        for (path, bytes) in &files {
            let (length, record_bytes) = (bytes.len() as u64, record as u64);
            if length % record_bytes != 0 || length == 0 {
                return Err(DataError::PartialRecord { path: path.clone(), length, record: record_bytes });
            }

            let records = length / record_bytes;
            if records > official {
                let bytes = official * record_bytes;
                return Err(DataError::Oversized { path: path.clone(), records, official, bytes });
            }

            for (index, bytes) in bytes.chunks_exact(record).enumerate() {
                check_label(path, index, bytes[kind.label_bytes() - 1], kind.classes())?;
                if kind == CifarKind::Cifar100 {
                    check_label(path, index, bytes[0], 20)?;
                }
            }

            total += records as usize;
            starts.push(total);
        }
        Ok(Cifar { kind, title, files, starts, class_names })
    }

    /// The files, in order, with the records of each.
    pub fn files(&self) -> impl Iterator<Item = (&Path, usize)> {
        self.files.iter().zip(self.starts.windows(2)).map(|((path, _), ends)| (path.as_path(), ends[1] - ends[0]))
    }

    fn record(&self, index: usize) -> Option<&[u8]> {
        let file = self.starts.partition_point(|&start| start <= index).checked_sub(1)?;
        let (_, bytes) = self.files.get(file)?;
        bytes.chunks_exact(self.kind.record()).nth(index - self.starts[file])
    }
}

fn check_label(path: &Path, record: usize, label: u8, classes: usize) -> Result<()> {
    if usize::from(label) < classes {
        return Ok(());
    }
    let (label, last) = (i64::from(label), classes as i64 - 1);
    Err(DataError::Label { path: path.to_owned(), record, label, first: 0, last })
}

/// The names in a file of one name per line; numbers where the file is missing or has another number of names.
fn read_names(path: &Path, classes: usize) -> Vec<String> {
    parse_names(&std::fs::read_to_string(path).unwrap_or_default(), classes)
}

pub(super) fn parse_names(text: &str, classes: usize) -> Vec<String> {
    let names: Vec<String> = text.lines().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if names.len() == classes { names } else { (0..classes).map(|class| class.to_string()).collect() }
}

impl ImageSource for Cifar {
    fn len(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    fn image(&self, index: usize) -> Result<RgbImage> {
        let record = self.record(index).ok_or_else(|| DataError::index(index, self.len()))?;
        let planes = &record[self.kind.label_bytes()..];
        let pixels = (0..PLANE).flat_map(|at| [planes[at], planes[PLANE + at], planes[2 * PLANE + at]]).collect();
        RgbImage::from_raw(SIDE as u32, SIDE as u32, pixels).ok_or_else(|| DataError::index(index, self.len()))
    }

    fn label(&self, index: usize) -> Option<u16> {
        self.record(index).map(|record| u16::from(record[self.kind.label_bytes() - 1]))
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
}
