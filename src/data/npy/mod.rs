//! NumPy's `.npy` and `.npz`: reading versions 1 to 3, and writing version 1.
//!
//! Own code, because arrays stay on disk (encoded ImageNet is 2.6 GB) and because headers come from outside: every length is
//! checked before it is used, and nothing is allocated on a header's word.
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.
//!
//! A `.npy` that is written here ends with a trailer of 40 bytes behind the values: `IGPTSUM1` and the SHA-256 of all before it.
//! NumPy does not look there, and what is read here is checked against it. Other bytes behind the values are refused.

mod fortran;
mod header;
mod npz;
mod npz_write;
mod write;

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::error::{DataError, Result};
use super::files::bytes::Bytes;
use super::files::hash::hex;
pub use header::Dtype;
pub(crate) use npz::{file_of, split_pair};
pub(crate) use npz_write::{NpzWriter, write_npz};
pub(crate) use write::write_to;
pub use write::{Element, Writer, write, write_f32, write_i64, write_u16};

const TRAILER_MAGIC: &[u8; 8] = b"IGPTSUM1";
const TRAILER: usize = 40;
/// Values converted at a time.
const PIECE: usize = 1 << 16;

/// What follows the values, which hash with their header to `hash`.
fn trailer(hash: [u8; 32]) -> [u8; TRAILER] {
    let mut bytes = [0; TRAILER];
    bytes[..8].copy_from_slice(TRAILER_MAGIC);
    bytes[8..].copy_from_slice(&hash);
    bytes
}

/// A read-only array, read from its file value by value as C order has them.
#[derive(Clone, Debug)]
pub struct Npy {
    path: PathBuf,
    /// The file, or the values in C order where they lie otherwise there.
    bytes: Bytes,
    dtype: Dtype,
    big_endian: bool,
    shape: Vec<usize>,
    /// Where the values start.
    start: usize,
    elements: usize,
    /// SHA-256 of header and values, of a file with a trailer.
    hash: Option<[u8; 32]>,
}

impl Npy {
    /// Opens and checks a file: header, dtype, that the values fill the rest of it exactly, and the trailer where there is
    /// one. `FILE.npz` is the only array in it, `FILE.npz:NAME` the one of that name.
    ///
    /// Values stay in the file, except those in Fortran order and compressed ones, which are held in memory once.
    ///
    /// # Errors
    /// [`DataError::Read`] and [`DataError::Npy`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        match npz::split_name(path) {
            Some((file, name)) => {
                let (bytes, range) = npz::open(path, &file, name.as_deref())?;
                Self::parse(path, bytes, range)
            }
            None => {
                let bytes = Bytes::open(path)?;
                let range = 0..bytes.len();
                Self::parse(path, bytes, range)
            }
        }
    }

    /// As [`Npy::open`], from bytes built into the program; `name` stands in for the path in errors.
    ///
    /// # Errors
    /// [`DataError::Npy`].
    pub fn from_static(name: &str, bytes: &'static [u8]) -> Result<Self> {
        Self::parse(Path::new(name), Bytes::Static(bytes), 0..bytes.len())
    }

    /// The array in a range of bytes.
    fn parse(path: &Path, bytes: Bytes, range: Range<usize>) -> Result<Self> {
        let error = |problem: String| DataError::Npy { path: path.to_owned(), problem };
        let beginning = bytes.range(range.start..range.end.min(range.start + header::LONGEST))?;
        let header = header::parse(&beginning).map_err(error)?;
        drop(beginning);

        // Lengths come from outside: their product is checked before it is used.
        let values = range.len() - header.start;
        let elements = header.shape.iter().try_fold(1_usize, |product, &side| product.checked_mul(side));
        let expected = elements.and_then(|elements| elements.checked_mul(header.dtype.size()));
        let (Some(elements), Some(expected)) = (elements, expected) else {
            return Err(error(format!("the shape {:?} is too large for any file", header.shape)));
        };
        let start = range.start + header.start;
        let hash = if expected == values {
            None
        } else if let Some(hash) = Self::trailer(&bytes, start..range.end, expected)? {
            let found = bytes.sha256(range.start..start + expected)?;
            if found != hash {
                let problem = "was altered since it was written: its SHA-256 is not the one at its end. Make it again";
                return Err(error(problem.into()));
            }
            Some(hash)
        } else {
            return Err(error(format!(
                "the header promises {expected} bytes of values (shape {:?} of {}), the file holds {values}. It is \
                 truncated or has trailing bytes: write it again",
                header.shape,
                header.dtype.name()
            )));
        };

        let header::Header { dtype, big_endian, fortran, shape, .. } = header;
        let array = Npy { path: path.to_owned(), bytes, dtype, big_endian, shape, start, elements, hash };
        if fortran { array.into_c_order() } else { Ok(array) }
    }

    /// The hash in the trailer behind `expected` bytes of values, if nothing but a trailer is there.
    fn trailer(bytes: &Bytes, values: Range<usize>, expected: usize) -> Result<Option<[u8; 32]>> {
        if expected.checked_add(TRAILER) != Some(values.len()) {
            return Ok(None);
        }
        let trailer = bytes.range(values.start + expected..values.end)?;
        Ok(trailer.strip_prefix(TRAILER_MAGIC).and_then(|hash| hash.try_into().ok()))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Type of the values.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Values in all.
    pub fn len(&self) -> usize {
        self.elements
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.elements == 0
    }

    /// SHA-256 of header and values, in hex, verified on opening; `None` for a file that was not written here.
    pub fn sha256(&self) -> Option<String> {
        self.hash.map(|hash| hex(&hash))
    }

    /// The raw little-endian values `range` (in values, not bytes), clipped to what there is.
    fn raw(&self, range: Range<usize>) -> Result<Cow<'_, [u8]>> {
        let size = self.dtype.size();
        let end = range.end.min(self.elements);
        let start = range.start.min(end);
        let mut raw = self.bytes.range(self.start + start * size..self.start + end * size)?;
        if self.big_endian {
            raw.to_mut().chunks_exact_mut(size).for_each(<[u8]>::reverse);
        }
        Ok(raw)
    }

    /// All values as f32, rounded to the nearest.
    ///
    /// # Errors
    /// As [`Npy::f64s`].
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let mut values = Vec::with_capacity(self.elements);
        for first in (0..self.elements).step_by(PIECE) {
            values.extend(self.f64s(first..first + PIECE)?.map(|value| value as f32));
        }
        Ok(values)
    }

    /// The values `range` (clipped to what there is) as f64, whatever the dtype.
    ///
    /// # Errors
    /// [`DataError::Read`] and [`DataError::Changed`] for a file that can no longer be read as it was.
    pub fn f64s(&self, range: Range<usize>) -> Result<impl Iterator<Item = f64> + '_> {
        let (dtype, size, raw) = (self.dtype, self.dtype.size(), self.raw(range)?);
        Ok((0..raw.len() / size).map(move |at| dtype.float(&raw[at * size..][..size])))
    }

    /// The values `range` (clipped to what there is) as integers. Values of u64 beyond `i64::MAX` become `i64::MAX`,
    /// which is out of range for every use here just the same.
    ///
    /// # Errors
    /// [`DataError::Npy`] where the dtype is not an integer; as [`Npy::f64s`].
    pub fn integers(&self, range: Range<usize>) -> Result<impl Iterator<Item = i64> + '_> {
        let (dtype, size) = (self.dtype, self.dtype.size());
        if !dtype.is_integer() {
            return Err(self.wrong_dtype("integers"));
        }
        let raw = self.raw(range)?;
        Ok((0..raw.len() / size).map(move |at| dtype.integer(&raw[at * size..][..size])))
    }

    fn wrong_dtype(&self, wanted: &str) -> DataError {
        DataError::Npy {
            path: self.path.clone(),
            problem: format!("holds {}, needed are {wanted}. Convert it with array.astype", self.dtype.name()),
        }
    }
}
