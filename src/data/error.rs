//! What can go wrong with data, each text naming the file and the fix.

use std::path::{Path, PathBuf};

use super::part::Split;
use crate::fs::{FsError, remedy};

/// Result of everything in [`crate::data`].
pub type Result<T, E = DataError> = std::result::Result<T, E>;

/// An error of the data side. The text says which file, what is wrong with it, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder could not be read.
    #[error("cannot read {}: {source}. Check that the path exists and is readable", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is no longer as it was when it was opened.
    #[error("{} {how}. Put the whole file back, leave it alone while it is in use, and start again (training: with --resume)",
            path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What happened to it.
        how: String,
    },
    /// A file that saves time was damaged.
    #[error("{}: {problem}. Remove it: it is made again when it is needed", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file could not be written. Nothing was changed: files are written to a temporary name and renamed.
    #[error("cannot write {}: {source}{}", path.display(), remedy(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder holds none of the files that its kind of data set consists of.
    #[error("{} is not {wanted}: {hint}", path.display())]
    NotThere {
        /// The folder.
        path: PathBuf,
        /// The data set that was looked for.
        wanted: String,
        /// Which files were expected, and what to do.
        hint: String,
    },
    /// A file of fixed-size records ends inside a record.
    #[error(
        "{} is truncated or has trailing bytes: {length} bytes are {} records of {record} bytes and {} bytes more. \
         Fetch the file again",
        path.display(), length / record, length % record
    )]
    PartialRecord {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
        /// Bytes of a record.
        record: u64,
    },
    /// A file holds more records than the official one.
    #[error(
        "{} is oversized: {records} records, the official file has {official}. Fetch it again, or truncate it to {bytes} bytes",
        path.display()
    )]
    Oversized {
        /// The file.
        path: PathBuf,
        /// Records in the file.
        records: u64,
        /// Records in the official file.
        official: u64,
        /// Length in bytes of the official file.
        bytes: u64,
    },
    /// A label is outside its range.
    #[error(
        "{}: record {record} (counted from 0) has label {label}, valid are {first} to {last}. The file is damaged or of \
         another data set",
        path.display()
    )]
    Label {
        /// The file.
        path: PathBuf,
        /// The record, from 0.
        record: usize,
        /// The label found.
        label: i64,
        /// Lowest valid label.
        first: i64,
        /// Highest valid label.
        last: i64,
    },
    /// Two files that belong together disagree on how many examples there are.
    #[error("{} has {labels} labels for the {examples} examples of {}. Pass the files that belong together",
        label_path.display(), path.display())]
    Count {
        /// The file of examples.
        path: PathBuf,
        /// Its examples.
        examples: usize,
        /// The file of labels.
        label_path: PathBuf,
        /// Its labels.
        labels: usize,
    },
    /// A file is not the `.npy` array that is needed.
    #[error("{}: {problem}", path.display())]
    Npy {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the fix.
        problem: String,
    },
    /// A file is not a palette.
    #[error("{} is not a palette: {problem}. A palette is a .npy of float32 [k, 3], 1 <= k <= 4096, with values in \
             [-1, 1] (colour / 127.5 - 1); `igpt-engine data palette` makes one", path.display())]
    Palette {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A palette cannot be fitted as asked.
    #[error("cannot fit a palette: {0}")]
    Fit(String),
    /// A file in an image folder cannot be decoded.
    #[error("{}: {problem}. Mend or remove the file, or pass --skip-bad to leave such files out (--skip-bad=N: up to N)",
            path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        problem: String,
    },
    /// A tar is not one of ImageNet's, or damaged.
    #[error("{}: {problem}. Expected is a tar of images, or a tar of one tar of images per class; if its size or MD5 is not the \
             official one (`igpt-engine data info --verify`), download it again", path.display())]
    Tar {
        /// The tar, or the tar in it.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A pickle is hostile, damaged, or holds something else.
    #[error("{}: {problem}", path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The archive of a data set is damaged, or none.
    #[error("{}: {problem}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// ImageNet's development kit cannot be understood.
    #[error("{}: {problem}. It gives the validation images their labels: download ILSVRC2012_devkit_t12.tar.gz again, or \
             move it away to go on without labels", path.display())]
    Devkit {
        /// The archive, or the file of it.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file is not a token shard, or not as it was written.
    #[error("{}: {problem}. Make it again by `igpt-engine data encode --out FILE.shard`", path.display())]
    Shard {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// More files are bad than may be left out.
    #[error("there are more than {limit} bad files, the limit of --skip-bad={limit}; the next one is {fault}")]
    TooManyBad {
        /// How many may be left out.
        limit: u64,
        /// What is wrong with the next one.
        fault: Box<DataError>,
    },
    /// A picture that the user gave by its own name cannot be used.
    #[error("{}: {problem}. Mend the picture, or give another one", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// An image is smaller than the square that is cropped from it.
    #[error(
        "{name}: {width}x{height} pixels are too small for {needed}x{needed}{}{}, or give larger images",
        if *of_model { ", what the model sees" } else { "" },
        match (*of_model, *folder) {
            (false, false) => ". Use a lower --resolution",
            (false, true) => ". Use a lower --resolution, pass --skip-bad to leave such files out",
            (true, false) => ". Use a model of smaller images",
            (true, true) => ". Pass --skip-bad to leave such files out",
        }
    )]
    TooSmall {
        /// The file, or the data set and the index in it.
        name: String,
        /// Width of the image.
        width: u32,
        /// Height of the image.
        height: u32,
        /// Side of the square that is needed.
        needed: u32,
        /// Whether the image is a file of a folder, where `--skip-bad` helps.
        folder: bool,
        /// Whether the square is that of a trained model, where no `--resolution` helps.
        of_model: bool,
    },
    /// An image that cannot be brought to the model's resolution.
    #[error("cannot resize to {resolution}x{resolution}: {problem}")]
    Resize {
        /// The resolution asked for.
        resolution: u32,
        /// What is wrong.
        problem: String,
    },
    /// A token array holds a token that the palette does not have.
    #[error(
        "{}: row {row} column {column} (counted from 0) holds token {token}, but the palette has {vocabulary} colours \
         (tokens 0 to {}). Pass the palette that the tokens were made with",
        path.display(), vocabulary.saturating_sub(1)
    )]
    Token {
        /// The file.
        path: PathBuf,
        /// Row, from 0.
        row: usize,
        /// Column, from 0.
        column: usize,
        /// The token found.
        token: i64,
        /// Colours of the palette.
        vocabulary: usize,
    },
    /// The text after `--data` is not understood.
    #[error(
        "--data {text:?}: {problem}. Write KIND:PATH with one of cifar10:DIR, cifar100:DIR, stl10:DIR, imagenet:DIR, \
         imagenet-tar:DIR, images:DIR, tokens:FILE.npy[,LABELS.npy], shard:FILE, or sample for the built-in images"
    )]
    Spec {
        /// What was given.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There is nothing at a path.
    #[error("there is no file or folder {}; give its path, or KIND:PATH as for --data, e.g. cifar10:DIR", path.display())]
    Nowhere {
        /// The path.
        path: PathBuf,
    },
    /// A file is of no kind that is known.
    #[error("{} is a file, but neither a .npy or .shard of tokens nor a tar. Pass a folder, or KIND:PATH", path.display())]
    UnknownFile {
        /// The file.
        path: PathBuf,
    },
    /// The data set has no such split.
    #[error("{data} has no {split} split: {hint}")]
    NoSplit {
        /// The data set.
        data: String,
        /// The split asked for.
        split: Split,
        /// What to do.
        hint: String,
    },
    /// An index beyond the end, or an output buffer of the wrong length.
    #[error("{what} is {got}, but {limit}. This is a mistake of the caller")]
    Bounds {
        /// What is out of bounds.
        what: &'static str,
        /// The value.
        got: usize,
        /// What would be valid.
        limit: String,
    },
    /// A value given by the user is outside its range.
    #[error("{option} is {value}: {hint}")]
    Option {
        /// The flag.
        option: &'static str,
        /// The value given.
        value: String,
        /// What is valid.
        hint: String,
    },
    /// The system gives no thread for loading ahead.
    #[error(
        "cannot start the thread that loads data ahead: {0}. Close other programs, or raise the limit of processes"
    )]
    Thread(#[source] std::io::Error),
    /// A download failed.
    #[error("cannot fetch {url}: {problem}")]
    Fetch {
        /// The address or package.
        url: String,
        /// What went wrong, and what to do.
        problem: String,
    },
    /// A file does not have the published length.
    #[error("{}: {found} bytes, expected {expected}. {fix}", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// Published length.
        expected: u64,
        /// What to do.
        fix: String,
    },
    /// A file does not fit on the disk.
    #[error("{} needs {needed} bytes and the disk has {free} free. Make room, or choose another --out", path.display())]
    Space {
        /// The file.
        path: PathBuf,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// A file does not have the published hash.
    #[error("{}: SHA-256 is {found}, expected {expected}. {fix}", path.display())]
    Hash {
        /// The file.
        path: PathBuf,
        /// Hash of the file.
        found: String,
        /// Published hash.
        expected: String,
        /// What to do.
        fix: String,
    },
}

impl From<FsError> for DataError {
    fn from(FsError { path, source, .. }: FsError) -> Self {
        DataError::Write { path, source }
    }
}

impl DataError {
    /// For `map_err` on reads.
    pub(crate) fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| DataError::Read { path: path.to_owned(), source }
    }

    /// For `map_err` on writes.
    pub(crate) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| DataError::Write { path: path.to_owned(), source }
    }

    /// For `map_err` on pickles.
    pub(crate) fn pickle<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> Self + '_ {
        move |problem| DataError::Pickle { path: path.to_owned(), problem: problem.to_string() }
    }

    /// Index `got` of a set of `len`.
    pub(crate) fn index(got: usize, len: usize) -> Self {
        DataError::Bounds { what: "the example's index", got, limit: format!("there are {len} examples") }
    }
}
