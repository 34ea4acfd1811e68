//! A folder of image files, in ImageNet's layout or plain.
//!
//! `DIR/train/<class>/**`, with test images in `DIR/test` or `DIR/val` (the names in any case, also `training`, `testing`,
//! `valid`, `validation`); without a `train` folder, `DIR` itself holds the class folders or the images. A folder of class
//! folders gives labels (classes sorted by name, as ImageNet's), all files below one being of its class; a folder of files
//! gives none. Files are sorted by folder and name, as torchvision's are. Nothing is passed over in silence: what is not
//! used is an error, or counted in the source's notes.

mod layout;
mod walk;

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use image::RgbImage;
use rayon::prelude::*;

use self::layout::{Part, find, first_names, training_classes};
use crate::data::codec::decode::{Decoding, bad, decode, dimensions};
use crate::data::error::{DataError, Result};
use crate::data::files::regular;
use crate::data::fingerprint::Stamp;
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
    decoding: Decoding,
    notes: Vec<String>,
}

impl ImageFolder {
    /// Opens a split ([`Split::Validation`] opens the training images).
    ///
    /// # Errors
    /// [`DataError::NoSplit`], [`DataError::Read`]; [`DataError::Image`] and [`DataError::TooSmall`] for the first bad
    /// file, unless `skip_bad`; [`DataError::NotThere`] for a folder without images.
    pub fn open(folder: &Path, split: Split, options: FolderOptions) -> Result<Self> {
        let Part { root, classes, unlabelled, faults, notes } = find(folder, split)?;
        // Labels are positions among the training classes, also where the test folder lacks some of them.
        let train = if split == Split::Test { training_classes(folder)? } else { Vec::new() };
        let own = || classes.iter().map(|class| class.name.clone()).collect();
        let names: Vec<OsString> = if train.is_empty() { own() } else { train };

        // Every file with the label of its folder.
        let labelled = !classes.is_empty();
        let mut candidates: Vec<(PathBuf, Option<u16>)> = unlabelled.into_iter().map(|path| (path, None)).collect();
        for class in classes {
            let label = names.binary_search(&class.name).ok().and_then(|label| u16::try_from(label).ok());
            let Some(label) = label else { return Err(unknown_class(root.join(class.name))) };
            candidates.extend(class.files.into_iter().map(|path| (path, Some(label))));
        }

        // Of these, those that can be used.
        let found = candidates.len() + faults.len();
        let mut bad = BadFiles::new(options.skip_bad);
        faults.into_iter().try_for_each(|fault| bad.leave_out(fault))?;
        let files = match options.min_side {
            None => candidates,
            Some(min_side) => usable(candidates, min_side, &mut bad, options.progress)?,
        };
        if files.is_empty() {
            return Err(DataError::NotThere {
                path: root,
                wanted: "a folder of images".into(),
                hint: format!(
                    "it holds no image that can be used ({found} files looked at{}). Expected are train/<class>/* or image \
                     files",
                    notes.iter().map(|note| format!("; {note}")).collect::<String>()
                ),
            });
        }

        // Names that are not Unicode are shown as well as they can be.
        let shown = names.iter().map(|name| name.to_string_lossy().into_owned());
        let class_names = if labelled { shown.collect() } else { Vec::new() };
        Ok(ImageFolder { root, files, class_names, bad, decoding: Decoding::default(), notes })
    }

    /// The same, its files decoded in another way.
    pub(in crate::data) fn with_decoding(self, decoding: Decoding) -> Self {
        ImageFolder { decoding, ..self }
    }

    /// A note on classes without images, if there are any.
    fn empty_classes(&self) -> Option<String> {
        let mut is_empty = vec![true; self.class_names.len()];
        for label in self.files.iter().filter_map(|(_, label)| *label) {
            if let Some(is_empty) = is_empty.get_mut(usize::from(label)) {
                *is_empty = false;
            }
        }
        let named = self.class_names.iter().zip(is_empty).filter(|(_, is_empty)| *is_empty);
        let names: Vec<String> = named.map(|(name, _)| name.clone()).collect();
        match names.len() {
            0 => None,
            1 => Some(format!("the class {} has no images", names[0])),
            count => Some(format!("{count} classes have no images: {}", first_names(&names))),
        }
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
        match load(path, self.decoding) {
            Ok(image) => Ok(image),
            Err(fault) => {
                let load = |other: usize| load(&self.files[other].0, self.decoding);
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

    fn stamp(&self, index: usize) -> Result<Stamp> {
        let (path, _) = self.files.get(index).ok_or_else(|| DataError::index(index, self.len()))?;
        let name = path.strip_prefix(&self.root).unwrap_or(path);
        Stamp::of_file(path, name.as_os_str().as_encoded_bytes())
    }

    fn is_folder(&self) -> bool {
        true
    }

    fn notes(&self) -> Vec<String> {
        self.notes.iter().cloned().chain(self.empty_classes()).collect()
    }

    fn left_out(&self) -> &[DataError] {
        self.bad.left_out()
    }

    fn exactly(&self, index: usize) -> Result<RgbImage> {
        let (path, _) = self.files.get(index).ok_or_else(|| DataError::index(index, self.len()))?;
        load(path, self.decoding)
    }

    fn describe(&self) -> String {
        let classes = match self.class_names.len() {
            0 => "no labels".into(),
            classes => format!("{classes} classes"),
        };
        format!("images in {}: {} files, {classes}{}", self.root.display(), self.len(), self.bad.remark())
    }
}

/// The error of a test class that is not trained on.
fn unknown_class(path: PathBuf) -> DataError {
    let hint = "its name is not among the folders of the training images (at most 65,536 classes). Rename or move it";
    DataError::NotThere { path, wanted: "a class of the training images".into(), hint: hint.into() }
}

/// The candidates whose header is that of an image of at least `min_side` pixels per side.
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
    let mut file = regular::open(path).map_err(|error| bad(path, error))?;
    file.by_ref().take(PROBE_BYTES).read_to_end(&mut bytes).map_err(|error| bad(path, error))?;
    let (width, height) = dimensions(path, &bytes).or_else(|_| {
        file.take(MAX_FILE).read_to_end(&mut bytes).map_err(|error| bad(path, error))?;
        dimensions(path, &bytes)
    })?;
    if width.min(height) < min_side.max(1) {
        let name = path.display().to_string();
        return Err(DataError::TooSmall { name, width, height, needed: min_side, folder: true, of_model: false });
    }
    Ok(())
}

/// Reads and decodes a file to RGB8.
pub(in crate::data) fn load(path: &Path, decoding: Decoding) -> Result<RgbImage> {
    decode(path, &read(path)?, decoding)
}

/// The bytes of a picture's file.
pub(in crate::data) fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = regular::open(path).map_err(|error| bad(path, error))?;
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(|error| bad(path, error))?;
    Ok(bytes)
}
