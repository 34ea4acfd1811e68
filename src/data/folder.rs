//! A folder of JPEG and PNG files, in ImageNet's layout or plain.
//!
//! `DIR/train/<class>/*`, with test images in `DIR/test` or `DIR/val` (or `validation`); without a `train` folder, `DIR`
//! itself holds the class folders or the images. A folder of class folders gives labels (classes sorted by name, as
//! ImageNet's), a folder of files gives none. Files are sorted by name; hidden ones are ignored. What a file is, its
//! first bytes decide, not its name (ImageNet's n02105855_2933.JPEG is a PNG).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use image::{ImageFormat, ImageReader, Limits, RgbImage};
use rayon::prelude::*;

use super::error::{DataError, Result};
use super::progress;
use super::source::{ImageSource, Split};

/// Width and height that are decoded at most, and the memory that decoding may take: a file of a few kilobytes must not
/// unpack to gigabytes. ImageNet's largest image has 61 million pixels.
const MAX_SIDE: u32 = 32_768;
const MAX_MEMORY: u64 = 512 << 20;
/// Bytes of a file that are read at most; a longer one then counts as truncated.
const MAX_FILE: u64 = 256 << 20;
/// What is read of a file to learn its size; most headers, embedded previews included, end well before.
const PROBE_BYTES: u64 = 64 << 10;

/// How a folder is opened.
#[derive(Clone, Copy, Debug)]
pub struct FolderOptions {
    /// Leave out files that are no image, do not decode, or are too small, instead of failing at the first.
    pub skip_bad: bool,
    /// Shortest side that is accepted, in pixels.
    pub min_side: u32,
    /// Show a progress bar on stderr while looking at the files (only if stderr is a terminal).
    pub progress: bool,
}

/// The images of one split of a folder.
///
/// Every file's header is read on opening. A file whose header is good and whose pixels are not shows itself only when
/// it is decoded: that is an error then, unless bad files are skipped. Skipping it then must not move the indices of
/// other images (that would break the held-out split and resuming), so the next readable file of the same class, in
/// order and cyclically, stands in for it: the label stays true and the result is a function of the folder alone.
pub struct ImageFolder {
    root: PathBuf,
    /// Path and class of each image.
    files: Vec<(PathBuf, Option<u16>)>,
    class_names: Vec<String>,
    options: FolderOptions,
    skipped: usize,
    /// Files that turned out bad on decoding.
    replaced: Mutex<BTreeSet<usize>>,
}

impl ImageFolder {
    /// Opens a split ([`Split::Validation`] opens the training images).
    ///
    /// # Errors
    /// [`DataError::NoSplit`], [`DataError::Read`]; [`DataError::Image`] and [`DataError::TooSmall`] for the first bad
    /// file, unless `skip_bad`; [`DataError::NotThere`] for a folder without images.
    pub fn open(folder: &Path, split: Split, options: FolderOptions) -> Result<Self> {
        let root = split_root(folder, split)?;
        let class_names = classes(&root)?;
        // Labels are positions among the training classes, also where the test folder lacks some of them.
        let train_names = if split == Split::Test { classes(&split_root(folder, Split::Train)?)? } else { Vec::new() };
        let names = if train_names.is_empty() { class_names.clone() } else { train_names };
        let mut candidates = Vec::new();
        for class in &class_names {
            let path = root.join(class);
            let label = names.binary_search(class).ok().and_then(|label| u16::try_from(label).ok());
            let Some(label) = label else {
                return Err(DataError::NotThere {
                    path,
                    wanted: "a class of the training images".into(),
                    hint:
                        "its name is not among the folders of the training images (at most 65,536 classes). Rename or \
                           move it"
                            .into(),
                });
            };
            candidates.extend(entries(&path)?.into_iter().map(|(path, _)| (path, Some(label))));
        }
        if class_names.is_empty() {
            candidates.extend(entries(&root)?.into_iter().map(|(path, _)| (path, None)));
        }
        let bar = progress::count("reading image headers", candidates.len() as u64, options.progress);
        let look = |(path, _): &(PathBuf, Option<u16>)| {
            bar.inc(1);
            probe(path, options.min_side).err()
        };
        let faults: Vec<Option<DataError>> = candidates.par_iter().map(look).collect();
        bar.finish_and_clear();
        let found = candidates.len();
        let mut files = Vec::with_capacity(found);
        for (file, fault) in candidates.into_iter().zip(faults) {
            match fault {
                None => files.push(file),
                Some(fault) if !options.skip_bad => return Err(fault),
                Some(_) => {}
            }
        }
        if files.is_empty() {
            return Err(DataError::NotThere {
                path: root,
                wanted: "a folder of images".into(),
                hint: format!(
                    "it holds no JPEG or PNG that can be used ({found} files looked at). Expected are \
                               train/<class>/* or image files"
                ),
            });
        }
        let skipped = found - files.len();
        let class_names = if class_names.is_empty() { class_names } else { names };
        Ok(ImageFolder { root, files, class_names, options, skipped, replaced: Mutex::default() })
    }

    /// Files left out on opening, plus those that turned out bad on decoding so far.
    pub fn skipped(&self) -> usize {
        self.skipped + self.replaced.lock().map_or(0, |replaced| replaced.len())
    }

    /// The next file of the same class that decodes, for a bad one under `skip_bad`.
    fn replacement(&self, index: usize, fault: DataError) -> Result<RgbImage> {
        if let Ok(mut replaced) = self.replaced.lock() {
            replaced.insert(index);
        }
        let label = self.label(index);
        let after = (index + 1..self.files.len()).chain(0..index);
        after.filter(|&other| self.label(other) == label).find_map(|other| load(&self.files[other].0).ok()).ok_or(fault)
    }
}

impl ImageSource for ImageFolder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn image(&self, index: usize) -> Result<RgbImage> {
        let (path, _) = self.files.get(index).ok_or_else(|| DataError::index(index, self.len()))?;
        match load(path) {
            Err(fault) if self.options.skip_bad => self.replacement(index, fault),
            result => result,
        }
    }

    fn label(&self, index: usize) -> Option<u16> {
        self.files.get(index)?.1
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }

    fn name(&self, index: usize) -> String {
        self.files.get(index).map_or_else(String::new, |(path, _)| path.display().to_string())
    }

    fn is_folder(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        let classes = match self.class_names.len() {
            0 => "no labels".into(),
            classes => format!("{classes} classes"),
        };
        let skipped = match self.skipped() {
            0 => String::new(),
            skipped => format!(", {skipped} bad files left out"),
        };
        format!("images in {}: {} files, {classes}{skipped}", self.root.display(), self.len())
    }
}

/// Where the images of a split are.
fn split_root(folder: &Path, split: Split) -> Result<PathBuf> {
    let first = |names: &[&str]| names.iter().map(|name| folder.join(name)).find(|path| path.is_dir());
    match split {
        Split::Train | Split::Validation => Ok(first(&["train"]).unwrap_or_else(|| folder.to_owned())),
        Split::Test => first(&["test", "val", "validation"]).ok_or_else(|| DataError::NoSplit {
            data: format!("images:{}", folder.display()),
            split,
            hint:
                "expected a folder test or val in it. Use --split validation for images held out of the training ones"
                    .into(),
        }),
    }
}

/// Names of the class folders in `root`, sorted.
fn classes(root: &Path) -> Result<Vec<String>> {
    let is_split = |name: &str| matches!(name, "val" | "validation" | "test");
    let mut names = Vec::new();
    for (path, is_folder) in entries(root)? {
        // A name that is not Unicode cannot be shown or stored; such a folder is no class.
        let name = path.file_name().and_then(|name| name.to_str());
        names.extend(name.filter(|name| is_folder && !is_split(name)).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// What is in a folder, hidden entries apart, sorted; and whether each is a folder.
fn entries(folder: &Path) -> Result<Vec<(PathBuf, bool)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::read(folder))? {
        let path = entry.map_err(DataError::read(folder))?.path();
        if !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            let is_folder = path.is_dir();
            found.push((path, is_folder));
        }
    }
    found.sort();
    Ok(found)
}

/// Reads the header and checks the size.
fn probe(path: &Path, min_side: u32) -> Result<()> {
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(DataError::read(path))?;
    file.by_ref().take(PROBE_BYTES).read_to_end(&mut bytes).map_err(|error| bad(path, error))?;
    let dimensions = reader(path, &bytes)?.into_dimensions().or_else(|_| {
        file.take(MAX_FILE).read_to_end(&mut bytes).map_err(|error| bad(path, error))?;
        reader(path, &bytes)?.into_dimensions().map_err(|error| bad(path, error))
    });
    let (width, height) = dimensions?;
    if width.max(height) > MAX_SIDE {
        return Err(bad(path, format!("{width}x{height} pixels are more than {MAX_SIDE} on a side")));
    }
    if width.min(height) < min_side.max(1) {
        let name = path.display().to_string();
        return Err(DataError::TooSmall { name, width, height, needed: min_side, folder: true });
    }
    Ok(())
}

/// Decodes a file to RGB8: grey is spread, alpha dropped, 16 bits rounded to 8, palettes and CMYK converted.
pub(super) fn load(path: &Path) -> Result<RgbImage> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes)).map_err(DataError::read(path))?;
    let reader = reader(path, &bytes)?;
    if reader.format() == Some(ImageFormat::Jpeg) && !is_complete_jpeg(&bytes) {
        return Err(bad(path, "the JPEG is truncated (no end marker)"));
    }
    Ok(reader.decode().map_err(|error| bad(path, error))?.into_rgb8())
}

fn reader<'a>(path: &Path, bytes: &'a [u8]) -> Result<ImageReader<Cursor<&'a [u8]>>> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| bad(path, error))?;
    if !matches!(reader.format(), Some(ImageFormat::Jpeg | ImageFormat::Png)) {
        return Err(bad(path, "is neither JPEG nor PNG"));
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_MEMORY);
    reader.limits(limits);
    Ok(reader)
}

/// Whether an end-of-image marker follows the last start of scan. The decoder fills what is missing with grey; and
/// inside a scan neither marker can occur, so that embedded previews do not mislead.
fn is_complete_jpeg(bytes: &[u8]) -> bool {
    let marker = |wanted: u8| bytes.windows(2).rposition(|pair| pair == [0xff, wanted]);
    matches!((marker(0xda), marker(0xd9)), (Some(scan), Some(end)) if end > scan)
}

fn bad(path: &Path, problem: impl ToString) -> DataError {
    DataError::Image { path: path.to_owned(), problem: problem.to_string() }
}
