//! Token shards: an encoded split in one checksummed file, for evaluation.
//!
//! ```text
//! 8 bytes   IGPTSHD1
//! u32       length of the header, little-endian as everything here
//! header    JSON, see [`ShardHeader`]
//! tokens    u16 [images, length]
//! labels    u16 [images], if the header says so
//! 32 bytes  SHA-256 of everything before
//! ```
//!
//! Opening verifies the hash (some tenths of a second for ImageNet's 50,000 validation images), so that a shard that was
//! truncated or altered is never evaluated on. Training needs images: a shard's are cropped and resized already.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::data::augment_key::AugmentKey;
use crate::data::codec::palette::Palette;
use crate::data::codec::resize::Filter;
use crate::data::dataset::Examples;
use crate::data::error::{DataError, Result};
use crate::data::files::bytes::Bytes;
use crate::data::files::hash::hex;
use crate::data::part::Split;
use crate::fs::atomic_file::AtomicFile;

const MAGIC: &[u8] = b"IGPTSHD1";
const HASH: usize = 32;
/// Maximum bytes of the header.
const MAX_HEADER: usize = 16 << 20;

/// What a shard says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardHeader {
    /// Rows.
    pub images: usize,
    /// Tokens per row.
    pub length: usize,
    /// Colours of the palette: all tokens are below it.
    pub vocabulary: usize,
    /// [`Palette::id`] of the palette that the images were quantised to.
    pub palette: String,
    /// The data set that was encoded, as `--data` named it.
    pub data: String,
    /// Which part of it.
    pub split: Split,
    /// Side of the squares that were encoded.
    pub resolution: u32,
    /// Kernel of the downsampling.
    pub filter: Filter,
    /// Part of the training images held out, where that was not left to the default.
    pub holdout: Option<f64>,
    /// Seed of the held-out part.
    pub seed: u64,
    /// Whether labels follow the tokens.
    pub labels: bool,
    /// Names of the classes.
    pub class_names: Vec<String>,
}

/// A shard being written. The file appears at [`ShardWriter::finish`]; before that there is nothing.
pub struct ShardWriter {
    path: PathBuf,
    file: AtomicFile,
    hash: Sha256,
    missing: usize,
    /// Labels so far, if there are any.
    labels: Option<Vec<u16>>,
}

impl ShardWriter {
    /// Starts a shard.
    ///
    /// # Errors
    /// [`DataError::Write`].
    pub fn create(path: &Path, header: &ShardHeader) -> Result<Self> {
        let file = AtomicFile::create(path).map_err(DataError::write(path))?;
        let missing = header.images * header.length;
        let labels = header.labels.then(Vec::new);
        let mut writer = ShardWriter { path: path.to_owned(), file, hash: Sha256::new(), missing, labels };
        let header = serde_json::to_vec(header)
            .map_err(|error| DataError::Write { path: path.to_owned(), source: error.into() })?;
        writer.write(MAGIC)?;
        writer.write(&(header.len() as u32).to_le_bytes())?;
        writer.write(&header)?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.file.write_all(bytes).map_err(DataError::write(&self.path))
    }

    /// Appends rows of tokens, with their labels if the shard has any.
    ///
    /// # Errors
    /// [`DataError::Write`]; [`DataError::Bounds`] for more tokens than the header promised.
    pub fn append(&mut self, tokens: &[u16], labels: &[u16]) -> Result<()> {
        self.missing = self.missing.checked_sub(tokens.len()).ok_or_else(|| DataError::Bounds {
            what: "the number of tokens appended",
            got: tokens.len(),
            limit: format!("the shard has room for {} more", self.missing),
        })?;
        if let Some(all) = &mut self.labels {
            all.extend_from_slice(labels);
        }
        self.write(&little_endian(tokens))
    }

    /// Writes labels and hash, syncs the file and renames it into place.
    ///
    /// # Errors
    /// [`DataError::Write`]; [`DataError::Bounds`] for fewer tokens or labels than the header promised.
    pub fn finish(mut self, header: &ShardHeader) -> Result<()> {
        let labels = self.labels.take();
        let short = labels.as_ref().is_some_and(|labels| labels.len() != header.images);
        if self.missing != 0 || short {
            let got = self.missing.max(labels.map_or(0, |labels| header.images.abs_diff(labels.len())));
            let limit = "the shard must be filled before it is finished".into();
            return Err(DataError::Bounds { what: "the number of missing tokens or labels", got, limit });
        }
        if let Some(labels) = labels {
            self.write(&little_endian(&labels))?;
        }
        let hash = self.hash.clone().finalize();
        self.file.write_all(&hash).map_err(DataError::write(&self.path))?;
        self.file.commit().map_err(DataError::write(&self.path))
    }
}

fn little_endian(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The sequences of a shard, memory-mapped.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    bytes: Bytes,
    header: ShardHeader,
    /// First byte of the tokens, and of the labels.
    tokens: usize,
    labels: usize,
    classes: usize,
}

impl Shard {
    /// Opens a shard and verifies all of it.
    ///
    /// # Errors
    /// [`DataError::Read`]; [`DataError::Shard`] for anything but a whole, unaltered shard.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = Bytes::map(path)?;
        let wrong = |problem: String| DataError::Shard { path: path.to_owned(), problem };
        if !bytes.starts_with(MAGIC) {
            return Err(wrong("it is not a shard of tokens: it does not start with IGPTSHD1".into()));
        }
        let truncated = |expected: u128| {
            wrong(format!("it is truncated or has trailing bytes: {} bytes instead of {expected}", bytes.len()))
        };

        // The header.
        let start = MAGIC.len() + 4;
        let length = bytes.get(MAGIC.len()..start).ok_or_else(|| truncated(start as u128))?;
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        if length > MAX_HEADER {
            return Err(wrong(format!("its header should have {length} bytes, more than {MAX_HEADER}")));
        }
        let tokens = start + length;
        let text = bytes.get(start..tokens).ok_or_else(|| truncated(tokens as u128))?;
        let header: ShardHeader =
            serde_json::from_slice(text).map_err(|error| wrong(format!("its header is damaged: {error}")))?;

        // The file must be as long as the header says, and hash to what it ends with.
        let size = header.images as u128 * header.length as u128 * 2;
        let labelled = if header.labels { header.images as u128 * 2 } else { 0 };
        let expected = tokens as u128 + size + labelled + HASH as u128;
        if expected != bytes.len() as u128 {
            return Err(truncated(expected));
        }
        let body = bytes.len() - HASH;
        if Sha256::digest(&bytes[..body])[..] != bytes[body..] {
            return Err(wrong(format!("it was altered: its SHA-256 is not {}", hex(&bytes[body..]))));
        }

        // Every token must be one of the palette.
        if header.images == 0 || header.length == 0 || u32::try_from(header.images).is_err() {
            return Err(wrong(format!("it has {} images of {} tokens", header.images, header.length)));
        }
        let labels = tokens + size as usize;
        let mut shard = Shard { path: path.to_owned(), bytes, header, tokens, labels, classes: 0 };
        let vocabulary = shard.header.vocabulary;
        let out_of_range =
            shard.bytes[tokens..labels].par_chunks_exact(2).any(|token| usize::from(value(token)) >= vocabulary);
        if out_of_range {
            return Err(wrong(format!("a token is not below {vocabulary}, the colours of its palette")));
        }

        let highest = shard.bytes[labels..body].chunks_exact(2).map(value).max();
        shard.classes = highest.map_or(0, |label| (usize::from(label) + 1).max(shard.header.class_names.len()));
        Ok(shard)
    }

    /// What the shard says about itself.
    pub fn header(&self) -> &ShardHeader {
        &self.header
    }

    /// Refuses a palette that is not the shard's.
    ///
    /// # Errors
    /// [`DataError::Shard`].
    pub fn check_palette(&self, palette: &Palette) -> Result<()> {
        let id = palette.id();
        if self.header.palette == id {
            return Ok(());
        }
        let problem = format!(
            "it was quantised to the palette {}…, and the one in use is {}…; the same tokens are other colours there",
            self.header.palette.get(..12).unwrap_or(&self.header.palette),
            &id[..12]
        );
        Err(DataError::Shard { path: self.path.clone(), problem })
    }
}

fn value(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}

impl Examples for Shard {
    fn len(&self) -> usize {
        self.header.images
    }

    fn sequence_length(&self) -> usize {
        self.header.length
    }

    fn vocabulary(&self) -> usize {
        self.header.vocabulary
    }

    fn tokens(&self, index: usize, _augment: Option<AugmentKey>, out: &mut [u16]) -> Result<()> {
        if index >= self.len() {
            return Err(DataError::index(index, self.len()));
        }
        let length = self.sequence_length();
        if out.len() != length {
            let limit = format!("a row has {length} tokens");
            return Err(DataError::Bounds { what: "the length of the token buffer", got: out.len(), limit });
        }
        let row = self.bytes[self.tokens + 2 * index * length..].chunks_exact(2);
        out.iter_mut().zip(row).for_each(|(token, bytes)| *token = value(bytes));
        Ok(())
    }

    fn label(&self, index: usize) -> Option<u16> {
        let all = self.bytes.get(self.labels..self.bytes.len() - HASH)?;
        all.chunks_exact(2).nth(index).map(value)
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn class_names(&self) -> &[String] {
        &self.header.class_names
    }

    fn describe(&self) -> String {
        let ShardHeader { images, length, vocabulary, data, split, filter, .. } = &self.header;
        format!(
            "{images} of {data} ({split}) in {}: {length} tokens each, {vocabulary} colours, {filter} filter",
            self.path.display()
        )
    }
}
