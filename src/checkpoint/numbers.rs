//! Floats of any width within a file, read as f32.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// Bytes read and converted at once; a multiple of every width.
const CHUNK: usize = 1 << 20;

/// A type that weights are stored in, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    F32,
    F16,
    BF16,
    F64,
    /// Whole numbers and truth values of so many bytes, as masks are: known, and never read as weights.
    Other(usize),
}

impl Number {
    /// Bytes of a value.
    pub(super) fn size(self) -> usize {
        match self {
            Number::F16 | Number::BF16 => 2,
            Number::F32 => 4,
            Number::F64 => 8,
            Number::Other(size) => size,
        }
    }

    /// Reads `count` values that start at byte `start` of a file, which holds them; each chunk of bytes is also shown to
    /// `see`. [`Number::Other`] is an error.
    pub(super) fn read(
        self,
        file: &mut File,
        start: u64,
        count: usize,
        mut see: impl FnMut(&[u8]),
    ) -> io::Result<Vec<f32>> {
        let convert: fn(&[u8], &mut Vec<f32>) = match self {
            Number::F32 => |bytes, out| out.extend(elements(bytes).map(f32::from_le_bytes)),
            Number::F16 => |bytes, out| out.extend(elements(bytes).map(|b| half::f16::from_le_bytes(b).to_f32())),
            Number::BF16 => |bytes, out| out.extend(elements(bytes).map(|b| half::bf16::from_le_bytes(b).to_f32())),
            Number::F64 => |bytes, out| out.extend(elements(bytes).map(|b| f64::from_le_bytes(b) as f32)),
            Number::Other(_) => return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a type of weights")),
        };

        let mut values = Vec::with_capacity(count);
        let mut left = count.saturating_mul(self.size());
        let mut buffer = vec![0; CHUNK.min(left)];
        file.seek(SeekFrom::Start(start))?;
        while left > 0 {
            let chunk = &mut buffer[..left.min(CHUNK)];
            file.read_exact(chunk)?;
            see(chunk);
            convert(chunk, &mut values);
            left -= chunk.len();
        }
        Ok(values)
    }
}

/// Little-endian elements of `N` bytes.
fn elements<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks().0.iter().copied()
}
