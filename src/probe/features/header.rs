//! The header of a file of features: what it holds, and where its blocks lie.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const MAGIC: &[u8; 8] = b"IGPTFEA1";
/// Bytes before the header.
pub(super) const FIXED: usize = 48;
/// Bytes of a SHA-256.
pub(super) const HASH: usize = 32;
/// Bytes of the longest header that is read.
pub(super) const MAX_HEADER: usize = 1 << 20;

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
    pub(super) fn block_bytes(&self, images: usize) -> Option<usize> {
        let floats = self.depths.len().checked_mul(self.width)?.checked_add(1)?.checked_mul(images)?;
        floats.checked_mul(4)?.checked_add(HASH)
    }

    pub(super) fn blocks(&self) -> usize {
        self.images.div_ceil(self.block)
    }

    pub(super) fn images_of(&self, block: usize) -> Range<usize> {
        block * self.block..self.images.min((block + 1) * self.block)
    }

    /// Bytes of all blocks.
    pub(super) fn body_bytes(&self) -> Option<usize> {
        let whole = self.images / self.block;
        let rest = self.images % self.block;
        let rest = if rest == 0 { 0 } else { self.block_bytes(rest)? };
        self.block_bytes(self.block)?.checked_mul(whole)?.checked_add(rest)
    }

    /// The first bytes of the file, up to its blocks.
    pub(super) fn encode(&self) -> Vec<u8> {
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
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, usize), String> {
        let problem = "is not a file of features, as `igpt-engine probe` writes them";
        let fixed = bytes.get(..FIXED).filter(|fixed| fixed.starts_with(MAGIC)).ok_or(problem)?;
        let length = u32::from_le_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]) as usize;
        let damaged = "has a damaged header; remove it and probe again";
        if fixed[12..16] != [0; 4] {
            return Err(damaged.into());
        }
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
