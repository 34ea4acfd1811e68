//! Features on disk, so that those of ImageNet fit: written a block of images at a time, read by position.
//!
//! | bytes | hold |
//! |---|---|
//! | 8 | `IGPTFEA1` |
//! | 4, 4 | length of the header in bytes, u32; zero |
//! | 32 | SHA-256 of the header |
//! | header | [`Header`] as JSON, filled up with spaces so that the blocks start at a multiple of 64 |
//! | blocks | of `block` images (the last of what is left): labels u32 `[b]`, features f32 `[depths, b, width]`, SHA-256 of both |
//!
//! All numbers are little-endian. The file is written as `NAME.part` and renamed when complete; what is there of a part is
//! checked, and the writer continues from there.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::header::{FIXED, HASH, Header, MAX_HEADER};
use super::matrix::Rows;
use crate::data::files::bytes::Bytes;
use crate::fs::place::{Place, sync_parent};
use crate::probe::error::{ProbeError, Result};

/// A file under construction.
pub struct FeatureWriter {
    path: PathBuf,
    part: PathBuf,
    header: Header,
    file: BufWriter<File>,
    /// Images written.
    written: usize,
    labels: Vec<u8>,
    /// By depth, what is to come of the block, `[b, width]` each.
    features: Vec<Vec<u8>>,
}

impl FeatureWriter {
    /// Starts `path`, or continues what an interrupted writer of the same header left. [`FeatureWriter::written`] says
    /// from where.
    ///
    /// # Errors
    /// [`ProbeError::Write`]; [`ProbeError::Features`] while another process writes the same file.
    pub fn open(path: &Path, header: Header) -> Result<Self> {
        // Where a link leads, for the part takes the place of what is there.
        let Place::File(path) =
            Place::of(path).map_err(|source| ProbeError::Write { path: path.to_owned(), source })?
        else {
            let problem = "is a pipe or a device, and features are read again; remove it, or give another --out".into();
            return Err(ProbeError::Features { path: path.to_owned(), problem });
        };
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let failed = |source| ProbeError::Write { path: part.clone(), source };

        // Only one process writes.
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&part).map_err(failed)?;
        if matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)) {
            let problem = "is being written by another process; wait for it, or give another --out".into();
            return Err(ProbeError::Features { path: part, problem });
        }

        // Keep the blocks that are whole, and begin after them.
        let start = header.encode();
        let blocks = sound_blocks(&mut file, &header, &start).map_err(failed)?;
        let written = header.images.min(blocks * header.block);
        if written == 0 {
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(&start)).map_err(failed)?;
        } else {
            let whole = header.block_bytes(header.block).unwrap_or(0);
            let rest = header.images % header.block;
            let end = if written == header.images && rest > 0 {
                (blocks - 1) * whole + header.block_bytes(rest).unwrap_or(0)
            } else {
                blocks * whole
            };
            let end = (start.len() + end) as u64;
            file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end)).map(|_| ())).map_err(failed)?;
        }

        let features = vec![Vec::new(); header.depths.len()];
        Ok(FeatureWriter {
            path,
            part,
            header,
            file: BufWriter::with_capacity(1 << 20, file),
            written,
            labels: Vec::new(),
            features,
        })
    }

    /// Images that are there: the next to come is this one.
    pub fn written(&self) -> usize {
        self.written + self.labels.len() / 4
    }

    /// Adds images: a label each, and for every depth of the header their features `[images, width]`.
    ///
    /// # Errors
    /// [`ProbeError::Write`].
    ///
    /// # Panics
    /// For more images than the header has, or features of other shapes.
    pub fn append(&mut self, labels: &[u16], features: &[Vec<f32>]) -> Result<()> {
        let width = self.header.width;
        assert!(self.written() + labels.len() <= self.header.images, "more images than the header has");
        assert!(features.len() == self.header.depths.len(), "features of every depth");
        assert!(features.iter().all(|depth| depth.len() == labels.len() * width), "features of every image");

        // Fill one block after another.
        let mut first = 0;
        while first < labels.len() {
            let room = self.header.images_of(self.written / self.header.block).len() - self.labels.len() / 4;
            let last = labels.len().min(first + room);
            self.labels.extend(labels[first..last].iter().flat_map(|label| u32::from(*label).to_le_bytes()));
            for (block, depth) in self.features.iter_mut().zip(features) {
                block.extend(depth[first * width..last * width].iter().flat_map(|value| value.to_le_bytes()));
            }
            if last - first == room {
                self.flush_block().map_err(|source| ProbeError::Write { path: self.part.clone(), source })?;
            }
            first = last;
        }
        Ok(())
    }

    fn flush_block(&mut self) -> std::io::Result<()> {
        let mut hash = Sha256::new();
        for part in std::iter::once(&self.labels).chain(&self.features) {
            hash.update(part);
            self.file.write_all(part)?;
        }
        self.file.write_all(&hash.finalize())?;
        self.file.flush()?;
        self.written += self.labels.len() / 4;
        self.labels.clear();
        self.features.iter_mut().for_each(Vec::clear);
        Ok(())
    }

    /// Syncs the complete file and gives it its name.
    ///
    /// # Errors
    /// [`ProbeError::Write`]; [`ProbeError::Features`] where images are missing.
    pub fn finish(mut self) -> Result<()> {
        if self.written != self.header.images {
            let problem = format!("has {} of {} images", self.written, self.header.images);
            return Err(ProbeError::Features { path: self.part, problem });
        }
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        let renamed = synced.and_then(|()| std::fs::rename(&self.part, &self.path));
        let done = renamed.and_then(|()| sync_parent(&self.path));
        done.map_err(|source| ProbeError::Write { path: self.path, source })
    }
}

/// How many blocks of an interrupted file are whole; none if it begins otherwise.
fn sound_blocks(file: &mut File, header: &Header, start: &[u8]) -> std::io::Result<usize> {
    let mut begin = vec![0; start.len()];
    file.rewind()?;
    if file.read_exact(&mut begin).is_err() || begin != start {
        return Ok(0);
    }
    let mut sound = 0;
    for block in 0..header.blocks() {
        let mut bytes = vec![0; header.block_bytes(header.images_of(block).len()).unwrap_or(0)];
        if file.read_exact(&mut bytes).is_err() || !is_sound(&bytes) {
            break;
        }
        sound += 1;
    }
    Ok(sound)
}

fn is_sound(block: &[u8]) -> bool {
    let (content, hash) = block.split_at(block.len() - HASH);
    Sha256::digest(content)[..] == *hash
}

/// A complete file.
pub struct FeatureFile {
    path: PathBuf,
    header: Header,
    bytes: Bytes,
    /// Where the blocks start.
    start: usize,
    /// The class of each image.
    labels: Vec<u16>,
}

impl FeatureFile {
    /// Opens a file and checks all of it.
    ///
    /// # Errors
    /// [`ProbeError::Data`] where it cannot be read, [`ProbeError::Features`] where it is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = Bytes::open(path)?;
        let error = |problem: String| ProbeError::Features { path: path.to_owned(), problem };
        let beginning = bytes.range(0..bytes.len().min(FIXED + MAX_HEADER))?;
        let (header, start) = Header::decode(&beginning).map_err(error)?;
        drop(beginning);
        let expected = header.body_bytes().and_then(|body| body.checked_add(start));
        if expected != Some(bytes.len()) {
            let problem = "is truncated or too long; remove it and probe again";
            return Err(error(format!("{problem} ({} bytes, the header promises {expected:?})", bytes.len())));
        }

        // The blocks, and the labels in them.
        let mut file = FeatureFile { path: path.to_owned(), header, bytes, start, labels: Vec::new() };
        let labels = (0..file.header.blocks()).into_par_iter().map(|block| file.verified_labels(block));
        file.labels = labels.collect::<Result<Vec<_>>>()?.concat();

        match file.labels.iter().position(|label| usize::from(*label) >= file.header.classes) {
            Some(row) => {
                let problem = format!("image {row} has a label beyond its {} classes", file.header.classes);
                Err(ProbeError::Features { path: file.path, problem })
            }
            None => Ok(file),
        }
    }

    /// Compares a block with its hash and reads its labels.
    fn verified_labels(&self, block: usize) -> Result<Vec<u16>> {
        let images = self.header.images_of(block);
        let length = self.header.block_bytes(images.len()).unwrap_or(0);
        let start = self.block_start(block);
        let bytes = self.bytes.range(start..start + length)?;
        if !is_sound(&bytes) {
            let problem = format!("images {images:?} are damaged (SHA-256 differs); remove it and probe again");
            return Err(ProbeError::Features { path: self.path.clone(), problem });
        }
        let labels = bytes[..4 * images.len()].as_chunks::<4>().0.iter();
        Ok(labels.map(|label| u32::from_le_bytes(*label).min(u32::from(u16::MAX)) as u16).collect())
    }

    /// What it holds.
    pub fn header(&self) -> &Header {
        &self.header
    }

    fn block_start(&self, block: usize) -> usize {
        self.start + block * self.header.block_bytes(self.header.block).unwrap_or(0)
    }

    /// The class of each image.
    pub fn labels(&self) -> Vec<u16> {
        self.labels.clone()
    }

    /// The features of some depths, side by side in the order given.
    ///
    /// # Errors
    /// [`ProbeError::Features`] for a depth that the file does not have.
    pub fn at(&self, depths: &[usize]) -> Result<FeatureView<'_>> {
        let index = |depth: &usize| self.header.depths.iter().position(|there| there == depth);
        let indices: Option<Vec<usize>> = depths.iter().map(index).collect();
        let missing = || {
            let problem = format!("has the depths {:?}, not all of {depths:?}", self.header.depths);
            ProbeError::Features { path: self.path.clone(), problem }
        };
        Ok(FeatureView { file: self, indices: indices.filter(|indices| !indices.is_empty()).ok_or_else(missing)? })
    }
}

/// Some depths of a file as rows, `[images, depths · width]`.
pub struct FeatureView<'a> {
    file: &'a FeatureFile,
    /// Which of the file's depths, in order.
    indices: Vec<usize>,
}

impl Rows for FeatureView<'_> {
    fn len(&self) -> usize {
        self.file.header.images
    }

    fn width(&self) -> usize {
        self.indices.len() * self.file.header.width
    }

    fn row(&self, row: usize, out: &mut [f32]) -> Result<()> {
        self.read(row..row + 1, out)
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        let (header, width) = (&self.file.header, self.file.header.width);
        let mut next = rows.start;
        while next < rows.end {
            // Rows of one block lie side by side at each depth.
            let (block, offset) = (next / header.block, next % header.block);
            let images = header.images_of(block);
            let count = rows.end.min(images.end) - next;
            let out = &mut out[(next - rows.start) * self.width()..][..count * self.width()];
            for (place, depth) in self.indices.iter().enumerate() {
                let first = 4 * (images.len() + (depth * images.len() + offset) * width);
                let start = self.file.block_start(block) + first;
                let bytes = self.file.bytes.range(start..start + 4 * count * width)?;
                let values = bytes.as_chunks::<4>().0.chunks_exact(width);
                for (row, values) in out.chunks_exact_mut(self.width()).zip(values) {
                    let row = &mut row[place * width..][..width];
                    row.iter_mut().zip(values).for_each(|(out, bytes)| *out = f32::from_le_bytes(*bytes));
                }
            }
            next += count;
        }
        Ok(())
    }
}
