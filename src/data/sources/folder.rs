//! A folder of JPEG and PNG files, in ImageNet's layout or plain.
//!
//! `DIR/train/<class>/*`, with test images in `DIR/test` or `DIR/val` (or `validation`); without a `train` folder, `DIR`
//! itself holds the class folders or the images. A folder of class folders gives labels (classes sorted by name, as
//! ImageNet's), a folder of files gives none. Files are sorted by name; hidden ones are ignored.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use image::RgbImage;
use rayon::prelude::*;

use crate::data::codec::decode::{bad, decode, dimensions};
use crate::data::error::{DataError, Result};
use crate::data::part::Split;
use crate::data::progress;
use crate::data::skip_bad::{BadFiles, SkipBad};
use crate::data::source::ImageSource;

/// Maximum bytes that are read of a file; a longer one then counts as truncated.
const MAX_FILE: u64 = 256 << 20;
/// What is read of a file to learn its size; most headers, embedded previews included, end well before.
const PROBE_BYTES: u64 = 64 << 10;

/// How a folder is opened.
#[derive(Clone, Copy, Debug)]
pub struct FolderOptions {
    /// How many files that are not images, do not decode, or are too small are left out.
    pub skip_bad: SkipBad,
    /// Shortest side that is accepted, in pixels. `None` opens the folder by its names alone: no file is looked at before
    /// it is needed. (Of ImageNet, a look at each header reads most of the 144 GB.)
    pub min_side: Option<u32>,
    /// Show a progress bar on stderr while looking at the files (only if stderr is a terminal).
    pub progress: bool,
}

/// The images of one split of a folder.
///
/// Every file's header is read on opening, unless [`FolderOptions::min_side`] says otherwise. A file whose header is good
/// and whose pixels are not shows itself only when it is decoded: that is an error then, unless bad files are skipped;
/// then the next readable file of the same class stands in for it (see `skip_bad.rs` for why).
pub struct ImageFolder {
    root: PathBuf,
    /// Path and class of each image.
    files: Vec<(PathBuf, Option<u16>)>,
    class_names: Vec<String>,
    bad: BadFiles,
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

        // Every file with the label of its folder.
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

        // Of these, those that can be used.
        let found = candidates.len();
        let mut bad = BadFiles::new(options.skip_bad);
        let files = match options.min_side {
            None => candidates,
            Some(min_side) => usable(candidates, min_side, &mut bad, options.progress)?,
        };
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

        let class_names = if class_names.is_empty() { class_names } else { names };
        Ok(ImageFolder { root, files, class_names, bad })
    }

    /// Files left out on opening, plus those that turned out bad on decoding so far.
    pub fn skipped(&self) -> usize {
        self.bad.count() as usize
    }

    /// Gives images without class folders labels of their own, one per file in the order of names.
    ///
    /// # Errors
    /// [`DataError::Count`] for another number of labels; `label_path` names their file.
    pub(in crate::data) fn with_labels(
        mut self,
        labels: &[u16],
        class_names: Vec<String>,
        label_path: &Path,
    ) -> Result<ImageFolder> {
        if labels.len() != self.files.len() {
            let (path, label_path) = (self.root, label_path.to_owned());
            return Err(DataError::Count { path, examples: self.files.len(), label_path, labels: labels.len() });
        }
        self.files.iter_mut().zip(labels).for_each(|((_, label), &given)| *label = Some(given));
        self.class_names = class_names;
        Ok(self)
    }
}

impl ImageSource for ImageFolder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn image(&self, index: usize) -> Result<RgbImage> {
        let (path, _) = self.files.get(index).ok_or_else(|| DataError::index(index, self.len()))?;
        match load(path) {
            Ok(image) => Ok(image),
            Err(fault) => {
                let load = |other: usize| load(&self.files[other].0);
                self.bad.stand_in(index, self.len(), fault, |other| self.label(other), load)
            }
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
        format!("images in {}: {} files, {classes}{}", self.root.display(), self.len(), self.bad.remark())
    }
}

/// Where the images of a split are.
fn split_root(folder: &Path, split: Split) -> Result<PathBuf> {
    let first = |names: &[&str]| names.iter().map(|name| folder.join(name)).find(|path| path.is_dir());
    match split {
        Split::Train | Split::Validation => Ok(first(&["train"]).unwrap_or_else(|| folder.to_owned())),
        Split::Test => first(&["test", "val", "validation"]).ok_or_else(|| DataError::NoSplit {
            data: folder.display().to_string(),
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
        // A name that is not Unicode cannot be shown or stored; such a folder is not a class.
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
        let entry = entry.map_err(DataError::read(folder))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            let path = entry.path();
            // The listing itself knows the type of all but links: no further look at a million files.
            let is_folder = match entry.file_type() {
                Ok(kind) if !kind.is_symlink() => kind.is_dir(),
                _ => path.is_dir(),
            };
            found.push((path, is_folder));
        }
    }
    found.sort();
    Ok(found)
}

/// The candidates whose header is that of a JPEG or PNG of at least `min_side` pixels per side.
fn usable(
    candidates: Vec<(PathBuf, Option<u16>)>,
    min_side: u32,
    bad: &mut BadFiles,
    show: bool,
) -> Result<Vec<(PathBuf, Option<u16>)>> {
    let bar = progress::count("reading image headers", candidates.len() as u64, show);
    let look = |(path, _): &(PathBuf, Option<u16>)| {
        bar.inc(1);
        probe(path, min_side).err()
    };
    let faults: Vec<Option<DataError>> = candidates.par_iter().map(look).collect();
    bar.finish_and_clear();

    let mut files = Vec::with_capacity(candidates.len());
    for (file, fault) in candidates.into_iter().zip(faults) {
        match fault {
            None => files.push(file),
            Some(fault) => bad.leave_out(fault)?,
        }
    }
    Ok(files)
}

/// Reads the header and checks the size.
fn probe(path: &Path, min_side: u32) -> Result<()> {
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(DataError::read(path))?;
    file.by_ref().take(PROBE_BYTES).read_to_end(&mut bytes).map_err(|error| bad(path, error))?;
    let (width, height) = dimensions(path, &bytes).or_else(|_| {
        file.take(MAX_FILE).read_to_end(&mut bytes).map_err(|error| bad(path, error))?;
        dimensions(path, &bytes)
    })?;
    if width.min(height) < min_side.max(1) {
        let name = path.display().to_string();
        return Err(DataError::TooSmall { name, width, height, needed: min_side, folder: true });
    }
    Ok(())
}

/// Reads and decodes a file to RGB8.
pub(in crate::data) fn load(path: &Path) -> Result<RgbImage> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes)).map_err(DataError::read(path))?;
    decode(path, &bytes)
}
