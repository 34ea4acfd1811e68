//! Features on disk, so that those of ImageNet fit: written a block of images at a time, mapped into memory to be read.
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
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::matrix::Rows;
use crate::data::files::bytes::Bytes;
use crate::fs::atomic_file;
use crate::probe::error::{ProbeError, Result};

const MAGIC: &[u8; 8] = b"IGPTFEA1";
/// Bytes before the header.
const FIXED: usize = 48;
const HASH: usize = 32;
/// Bytes of the longest header that is read.
const MAX_HEADER: usize = 1 << 20;

/// What a file holds, and of what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Images.
    pub images: usize,
    /// The depths whose features are there, in order.
    pub depths: Vec<usize>,
    /// Features of a depth.
    pub width: usize,
    /// Classes of the labels.
    pub classes: usize,
    /// Images of a block.
    pub block: usize,
    /// Where they come from: model, images and how they are read. Another origin is another file.
    pub origin: String,
}

impl Header {
    /// A header with blocks of a comfortable size.
    pub fn new(images: usize, depths: Vec<usize>, width: usize, classes: usize, origin: String) -> Self {
        // 16 MiB: a fraction of a second's work, and large enough for every depth of it to be read in one go.
        let block = ((4 << 20) / (depths.len() * width).max(1)).clamp(16, 1024);
        Header { images, depths, width, classes, block, origin }
    }

    /// Bytes of a block of `images`, hash included; `None` past all bounds.
    fn block_bytes(&self, images: usize) -> Option<usize> {
        let floats = self.depths.len().checked_mul(self.width)?.checked_add(1)?.checked_mul(images)?;
        floats.checked_mul(4)?.checked_add(HASH)
    }

    fn blocks(&self) -> usize {
        self.images.div_ceil(self.block)
    }

    fn images_of(&self, block: usize) -> Range<usize> {
        block * self.block..self.images.min((block + 1) * self.block)
    }

    /// Bytes of all blocks.
    fn body_bytes(&self) -> Option<usize> {
        let whole = self.images / self.block;
        let rest = self.images % self.block;
        let rest = if rest == 0 { 0 } else { self.block_bytes(rest)? };
        self.block_bytes(self.block)?.checked_mul(whole)?.checked_add(rest)
    }

    /// The first bytes of the file, up to its blocks.
    fn encode(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec(self).unwrap_or_default();
        json.resize((FIXED + json.len()).next_multiple_of(64) - FIXED, b' ');
        let mut bytes = MAGIC.to_vec();
        bytes.extend((json.len() as u32).to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(Sha256::digest(&json));
        bytes.extend(json);
        bytes
    }

    /// Reads [`Header::encode`]'s bytes; also where the blocks start.
    fn decode(bytes: &[u8]) -> Result<(Self, usize), String> {
        let problem = "is not a file of features, as `igpt-engine probe` writes them";
        let fixed = bytes.get(..FIXED).filter(|fixed| fixed.starts_with(MAGIC)).ok_or(problem)?;
        let length = u32::from_le_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]) as usize;
        let damaged = "has a damaged header; remove it and probe again";
        let json = bytes.get(FIXED..FIXED + length).filter(|_| length <= MAX_HEADER).ok_or(damaged)?;
        if Sha256::digest(json)[..] != fixed[16..FIXED] {
            return Err(damaged.into());
        }
        let header: Header = serde_json::from_slice(json).map_err(|error| format!("{damaged} ({error})"))?;
        let sane = header.block > 0 && header.images > 0 && header.width > 0 && !header.depths.is_empty();
        if !sane || header.images > u32::MAX as usize || header.classes > 1 << 16 {
            return Err(damaged.into());
        }
        Ok((header, FIXED + length))
    }
}

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
            path: path.to_owned(),
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
        let done = renamed.and_then(|()| atomic_file::sync_parent(&self.path));
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

/// A complete file, mapped.
pub struct FeatureFile {
    path: PathBuf,
    header: Header,
    bytes: Bytes,
    /// Where the blocks start.
    start: usize,
}

impl FeatureFile {
    /// Opens a file and checks all of it.
    ///
    /// # Errors
    /// [`ProbeError::Data`] where it cannot be read, [`ProbeError::Features`] where it is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = Bytes::map(path)?;
        let error = |problem: String| ProbeError::Features { path: path.to_owned(), problem };
        let (header, start) = Header::decode(&bytes).map_err(error)?;
        let expected = header.body_bytes().and_then(|body| body.checked_add(start));
        if expected != Some(bytes.len()) {
            let problem = "is truncated or too long; remove it and probe again";
            return Err(error(format!("{problem} ({} bytes, the header promises {expected:?})", bytes.len())));
        }

        // The blocks, and the labels in them.
        let file = FeatureFile { path: path.to_owned(), header, bytes, start };
        let damaged = (0..file.header.blocks()).into_par_iter().find_first(|block| !is_sound(file.block(*block)));

        match damaged {
            Some(block) => {
                let images = file.header.images_of(block);
                let problem = format!("images {images:?} are damaged (SHA-256 differs); remove it and probe again");
                Err(ProbeError::Features { path: file.path, problem })
            }
            None => match file.labels().iter().position(|label| usize::from(*label) >= file.header.classes) {
                Some(row) => {
                    let problem = format!("image {row} has a label beyond its {} classes", file.header.classes);
                    Err(ProbeError::Features { path: file.path, problem })
                }
                None => Ok(file),
            },
        }
    }

    /// What it holds.
    pub fn header(&self) -> &Header {
        &self.header
    }

    fn block(&self, block: usize) -> &[u8] {
        let whole = self.header.block_bytes(self.header.block).unwrap_or(0);
        let length = self.header.block_bytes(self.header.images_of(block).len()).unwrap_or(0);
        &self.bytes[self.start + block * whole..][..length]
    }

    /// The class of each image.
    pub fn labels(&self) -> Vec<u16> {
        (0..self.header.blocks())
            .flat_map(|block| self.block(block)[..4 * self.header.images_of(block).len()].as_chunks::<4>().0)
            .map(|bytes| u32::from_le_bytes(*bytes).min(u32::from(u16::MAX)) as u16)
            .collect()
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

    fn row(&self, row: usize, out: &mut [f32]) {
        let (header, width) = (&self.file.header, self.file.header.width);
        let (block, offset) = (row / header.block, row % header.block);
        let images = header.images_of(block).len();
        let bytes = self.file.block(block);
        for (depth, out) in self.indices.iter().zip(out.chunks_exact_mut(width)) {
            let first = 4 * (images + (depth * images + offset) * width);
            let values = bytes[first..first + 4 * width].as_chunks::<4>().0;
            out.iter_mut().zip(values).for_each(|(out, bytes)| *out = f32::from_le_bytes(*bytes));
        }
    }
}
