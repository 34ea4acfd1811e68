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
//! Opening verifies the hash (a tenth of a second for ImageNet's 50,000 validation images), so that a shard that was
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
use crate::fs::Output;
use crate::fs::first_bytes::recognise;

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

impl ShardHeader {
    /// The first row with a token that is none of the palette's, if there is one; the tokens begin at byte `start`.
    fn foreign_row(&self, bytes: &Bytes, start: usize) -> Result<Option<usize>> {
        let foreign = |row: usize| -> Result<Option<usize>> {
            let start = start + 2 * self.length * row;
            let row_bytes = bytes.range(start..start + 2 * self.length)?;
            Ok(values(&row_bytes).any(|token| usize::from(token) >= self.vocabulary).then_some(row))
        };
        (0..self.images).into_par_iter().map(foreign).find_map_first(Result::transpose).transpose()
    }
}

/// A shard being written. The file appears at [`ShardWriter::finish`]; before that there is nothing.
pub struct ShardWriter {
    file: Output,
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
        Self::on(Output::open(path)?, header)
    }

    /// Starts a shard in a file that is open already.
    pub(crate) fn on(file: Output, header: &ShardHeader) -> Result<Self> {
        let missing = header.images * header.length;
        let labels = header.labels.then(Vec::new);
        let mut writer = ShardWriter { file, hash: Sha256::new(), missing, labels };
        let header = serde_json::to_vec(header)
            .map_err(|error| DataError::Write { path: writer.file.path().to_owned(), source: error.into() })?;
        writer.write(MAGIC)?;
        writer.write(&(header.len() as u32).to_le_bytes())?;
        writer.write(&header)?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.file.write_all(bytes).map_err(DataError::write(self.file.path()))
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
        self.file.write_all(&hash).map_err(DataError::write(self.file.path()))?;
        Ok(self.file.commit()?)
    }
}

fn little_endian(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The sequences of a shard, read from the file row by row.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    bytes: Bytes,
    header: ShardHeader,
    /// First byte of the tokens.
    tokens: usize,
    labels: Vec<u16>,
    classes: usize,
    /// SHA-256 of everything before it, verified.
    hash: [u8; HASH],
}

impl Shard {
    /// Opens a shard and verifies all of it.
    ///
    /// # Errors
    /// [`DataError::Read`]; [`DataError::Shard`] for anything but a whole, unaltered shard.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = Bytes::open(path)?;
        let beginning = bytes.range(0..bytes.len().min(MAGIC.len() + 4 + MAX_HEADER))?;
        let wrong = |problem: String| DataError::Shard { path: path.to_owned(), problem };
        if !beginning.starts_with(MAGIC) {
            if let Some(found) = recognise(&beginning) {
                return Err(wrong(format!("it {}", found.sentence())));
            }
            return Err(wrong("it is not a shard of tokens: it does not start with IGPTSHD1".into()));
        }
        let truncated = |expected: u128| {
            wrong(format!("it is truncated or has trailing bytes: {} bytes instead of {expected}", bytes.len()))
        };

        // The header.
        let start = MAGIC.len() + 4;
        let length = beginning.get(MAGIC.len()..start).ok_or_else(|| truncated(start as u128))?;
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        if length > MAX_HEADER {
            return Err(wrong(format!("its header should have {length} bytes, more than {MAX_HEADER}")));
        }
        let tokens = start + length;
        let text = beginning.get(start..tokens).ok_or_else(|| truncated(tokens as u128))?;
        let header: ShardHeader =
            serde_json::from_slice(text).map_err(|error| wrong(format!("its header is damaged: {error}")))?;
        drop(beginning);

        // The file must be as long as the header says, and hash to what it ends with.
        let size = header.images as u128 * header.length as u128 * 2;
        let labelled = if header.labels { header.images as u128 * 2 } else { 0 };
        let expected = tokens as u128 + size + labelled + HASH as u128;
        if expected != bytes.len() as u128 {
            return Err(truncated(expected));
        }
        let body = bytes.len() - HASH;
        let hash = bytes.sha256(0..body)?;
        let promised = bytes.range(body..body + HASH)?;
        if hash[..] != *promised {
            return Err(wrong(format!("it was altered: its SHA-256 is not {}", hex(&promised))));
        }
        drop(promised);

        if header.images == 0 || header.length == 0 || u32::try_from(header.images).is_err() {
            return Err(wrong(format!("it has {} images of {} tokens", header.images, header.length)));
        }
        if let Some(row) = header.foreign_row(&bytes, tokens)? {
            let vocabulary = header.vocabulary;
            return Err(wrong(format!("row {row} has a token not below {vocabulary}, the colours of its palette")));
        }

        let labels: Vec<u16> = values(&bytes.range(tokens + size as usize..body)?).collect();
        let classes = labels.iter().max().map_or(0, |label| (usize::from(*label) + 1).max(header.class_names.len()));
        Ok(Shard { path: path.to_owned(), bytes, header, tokens, labels, classes, hash })
    }

    /// SHA-256 of all that the shard holds, in hex, verified on opening.
    pub fn sha256(&self) -> String {
        hex(&self.hash)
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

fn values(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.as_chunks::<2>().0.iter().map(|bytes| u16::from_le_bytes(*bytes))
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
        let start = self.tokens + 2 * index * length;
        let row = self.bytes.range(start..start + 2 * length)?;
        out.iter_mut().zip(values(&row)).for_each(|(out, token)| *out = token);
        if out.iter().any(|token| usize::from(*token) >= self.header.vocabulary) {
            let how = format!("was written to while in use: row {index} has other tokens than when it was opened");
            return Err(DataError::Changed { path: self.path.clone(), how });
        }
        Ok(())
    }

    fn label(&self, index: usize) -> Option<u16> {
        self.labels.get(index).copied()
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
