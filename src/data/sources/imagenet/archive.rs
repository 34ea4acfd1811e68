//! Images straight out of a tar: found by reading headers only, read where they lie.

use std::ops::Range;
use std::path::{Path, PathBuf};

use image::RgbImage;
use rayon::prelude::*;

use super::index::{Index, Located};
use crate::data::codec::decode::{Alpha, Decoding, decode};
use crate::data::error::{DataError, Result};
use crate::data::files::bytes::Bytes;
use crate::data::fingerprint::Stamp;
use crate::data::progress;
use crate::data::skip_bad::{BadFiles, SkipBad};
use crate::data::source::ImageSource;

/// Bytes of a tar's header, and what everything in it is rounded up to.
const BLOCK: u64 = 512;
/// Maximum bytes of an image, as for files.
const MAX_IMAGE: u64 = 256 << 20;

/// The images of ImageNet's training tar (a tar of one tar per class) or validation tar (a tar of images).
pub struct ImageNetTar {
    path: PathBuf,
    bytes: Bytes,
    index: Index,
    /// Labels of images that no class's tar gives them.
    labels: Option<Vec<u16>>,
    bad: BadFiles,
    alpha: Alpha,
}

impl ImageNetTar {
    /// Opens a tar and finds its images, from the index file beside it or else by reading all headers: a few minutes of
    /// ImageNet's 1,281,167 on a fast disk, so the index is then written beside the tar (if the folder can be written
    /// to) for the next time.
    ///
    /// # Errors
    /// [`DataError::Read`]; [`DataError::Tar`] for a file that is not such a tar, is truncated, or holds anything but
    /// files; [`DataError::Cache`] for a damaged index.
    pub fn open(path: &Path, skip_bad: SkipBad, progress: bool) -> Result<Self> {
        let bytes = Bytes::open(path)?;
        let index = match Index::load(path, bytes.len() as u64)? {
            Some(index) => index,
            None => {
                let index = read_index(path, &bytes, progress)?;
                index.save(path, bytes.len() as u64);
                index
            }
        };
        Ok(ImageNetTar {
            path: path.to_owned(),
            bytes,
            index,
            labels: None,
            bad: BadFiles::new(skip_bad),
            alpha: Alpha::Drop,
        })
    }

    /// Gives the images of a tar without classes labels, one per image in the order of names.
    ///
    /// # Errors
    /// [`DataError::Count`] for another number of labels.
    pub(super) fn with_labels(mut self, labels: &[u16], class_names: Vec<String>, label_path: &Path) -> Result<Self> {
        if labels.len() != self.len() {
            let (examples, label_path) = (self.len(), label_path.to_owned());
            return Err(DataError::Count { path: self.path, examples, label_path, labels: labels.len() });
        }
        (self.labels, self.index.classes) = (Some(labels.to_vec()), class_names);
        Ok(self)
    }

    /// The same, with this done to the alpha of images that have some.
    pub(in crate::data) fn with_alpha(self, alpha: Alpha) -> Self {
        ImageNetTar { alpha, ..self }
    }

    fn load(&self, index: usize) -> Result<RgbImage> {
        let located = self.index.images.get(index).ok_or_else(|| DataError::index(index, self.len()))?;
        let bytes = self.bytes.range(located.range())?;
        decode(Path::new(&self.name(index)), &bytes, Decoding { alpha: self.alpha, upright: false })
    }
}

impl ImageSource for ImageNetTar {
    fn len(&self) -> usize {
        self.index.images.len()
    }

    fn image(&self, index: usize) -> Result<RgbImage> {
        match self.load(index) {
            // A tar that is no longer what it was is no bad image.
            Err(fault @ (DataError::Changed { .. } | DataError::Read { .. })) => Err(fault),
            Err(fault) if index < self.len() => {
                self.bad.stand_in(index, self.len(), fault, |other| self.label(other), |other| self.load(other))
            }
            result => result,
        }
    }

    fn stamp(&self, index: usize) -> Result<Stamp> {
        let located = self.index.images.get(index).ok_or_else(|| DataError::index(index, self.len()))?;
        let Stamp::File { modified, .. } = Stamp::of_file(&self.path, b"")? else { return Ok(Stamp::of(b"")) };
        let (name, bytes) = (located.offset.to_le_bytes().to_vec(), located.length.into());
        Ok(Stamp::File { name, bytes, modified })
    }

    fn label(&self, index: usize) -> Option<u16> {
        match &self.labels {
            Some(labels) => labels.get(index).copied(),
            None => self.index.images.get(index).map(|image| image.class).filter(|_| !self.class_names().is_empty()),
        }
    }

    fn class_names(&self) -> &[String] {
        &self.index.classes
    }

    /// `TAR/CLASS/FILE`: the name is read from the header in front of the image, for the index does not keep it.
    fn name(&self, index: usize) -> String {
        let file = self.index.images.get(index).and_then(|image| {
            let start = image.range().start;
            let header = self.bytes.range(start.checked_sub(BLOCK as usize)?..start).ok()?;
            Some(String::from_utf8_lossy(&tar::Header::from_byte_slice(&header).path_bytes()).into_owned())
        });
        let class = self.label(index).and_then(|label| self.class_names().get(usize::from(label)));
        let class = class.filter(|_| self.labels.is_none()).map_or(String::new(), |class| format!("{class}/"));
        format!("{}/{class}{}", self.path.display(), file.unwrap_or_default())
    }

    fn is_folder(&self) -> bool {
        true
    }

    fn exactly(&self, index: usize) -> Result<RgbImage> {
        self.load(index)
    }

    fn describe(&self) -> String {
        let classes = match self.class_names().len() {
            0 => format!("no labels (without {} beside it)", super::DEVKIT_TAR),
            classes => format!("{classes} classes"),
        };
        format!("images in {}: {} images, {classes}{}", self.path.display(), self.len(), self.bad.remark())
    }
}

/// Whether a tar's first member is itself a tar.
pub(super) fn is_nested(path: &Path) -> Result<bool> {
    let bytes = Bytes::open(path)?;
    let mut archive = tar::Archive::new(bytes.reader(0..bytes.len()));
    let first = archive.entries_with_seek().ok().and_then(|mut entries| entries.next()?.ok());
    Ok(first.is_some_and(|entry| entry.path_bytes().ends_with(b".tar")))
}

/// A file in a tar.
struct Member {
    name: String,
    offset: u64,
    length: u64,
}

/// The images of a tar, in order.
fn read_index(path: &Path, bytes: &Bytes, show: bool) -> Result<Index> {
    let mut outer = members(path, bytes, 0..bytes.len())?;
    outer.sort_by(|a, b| a.name.cmp(&b.name));
    let wrong = |problem: String| DataError::Tar { path: path.to_owned(), problem };
    let Some(first) = outer.first() else { return Err(wrong("there is no file in it".into())) };

    // A tar of images alone: no classes.
    if !first.name.ends_with(".tar") {
        if let Some(other) = outer.iter().find(|member| member.name.ends_with(".tar")) {
            return Err(wrong(format!("it mixes images ({}) and tars ({})", first.name, other.name)));
        }
        let images = outer.iter().map(|member| locate(path, member, 0)).collect::<Result<_>>()?;
        return Ok(Index { classes: Vec::new(), images });
    }

    // A tar of one tar per class, whose name is the class.
    let mut classes: Vec<String> = Vec::with_capacity(outer.len());
    for member in &outer {
        let Some(class) = member.name.strip_suffix(".tar") else {
            return Err(wrong(format!("it mixes tars ({}) and other files ({})", first.name, member.name)));
        };
        if classes.last().is_some_and(|last| last == class) {
            return Err(wrong(format!("the class {class} is in it twice")));
        }
        classes.push(class.to_owned());
    }
    if classes.len() > usize::from(u16::MAX) {
        return Err(wrong(format!("{} classes are more than {}", classes.len(), u16::MAX)));
    }

    // The images of each, in parallel.
    let bar = progress::count("reading the tar's headers", outer.len() as u64, show);
    let inner = |(class, member): (usize, &Member)| -> Result<Vec<Located>> {
        let range = member.offset as usize..(member.offset + member.length) as usize;
        let name = path.join(&member.name);
        let mut images = members(&name, bytes, range)?;
        images.sort_by(|a, b| a.name.cmp(&b.name));
        bar.inc(1);
        images.iter().map(|image| locate(&name, image, class as u16)).collect()
    };
    let images: Vec<Vec<Located>> = outer.par_iter().enumerate().map(inner).collect::<Result<_>>()?;
    bar.finish_and_clear();

    let images = images.concat();
    if images.is_empty() {
        return Err(wrong("the classes' tars in it are empty".into()));
    }
    Ok(Index { classes, images })
}

fn locate(tar: &Path, member: &Member, class: u16) -> Result<Located> {
    if member.length > MAX_IMAGE {
        let problem = format!("{} has {} bytes, too many for an image", member.name, member.length);
        return Err(DataError::Tar { path: tar.to_owned(), problem });
    }
    Ok(Located { offset: member.offset, length: member.length as u32, class })
}

/// The files in the tar that lies in a range of the file: their names without folders, hidden ones apart, and where they lie
/// in the file. Only headers are touched.
fn members(path: &Path, bytes: &Bytes, range: Range<usize>) -> Result<Vec<Member>> {
    let (base, size) = (range.start as u64, range.len() as u64);
    let wrong = |problem: String| DataError::Tar { path: path.to_owned(), problem };
    let mut archive = tar::Archive::new(bytes.reader(range));
    let mut members = Vec::new();
    let mut end = 0;

    for entry in archive.entries_with_seek().map_err(|error| wrong(error.to_string()))? {
        let entry = entry.map_err(|error| wrong(format!("after {} files: {error}", members.len())))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let (offset, length) = (entry.raw_file_position(), entry.size());
        end = offset.checked_add(length).filter(|&end| end <= size).ok_or_else(|| {
            wrong(format!("it is truncated: {name} should have {length} bytes from {offset}, and the tar has {size}"))
        })?;

        let kind = entry.header().entry_type();
        if kind.is_dir() || kind.is_pax_global_extensions() {
            continue;
        }
        if !kind.is_file() {
            return Err(wrong(format!("{name} is not a plain file (tar type {:?})", char::from(kind.as_byte()))));
        }
        let file = name.rsplit('/').next().unwrap_or_default().to_owned();
        if !file.starts_with('.') {
            members.push(Member { name: file, offset: base + offset, length });
        }
    }

    // A tar ends with two blocks of zeros; one that ends between two files has lost the rest without a trace.
    let closed = end.next_multiple_of(BLOCK).checked_add(BLOCK).is_some_and(|end| end <= size);
    if !closed {
        return Err(wrong(format!("it is truncated after {} files: its end marker is missing", members.len())));
    }
    Ok(members)
}
