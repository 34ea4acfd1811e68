//! NumPy's `.npy`: reading versions 1 to 3 and writing version 1.
//!
//! Own code, because the arrays are memory-mapped (encoded ImageNet is 2.6 GB) and because headers come from
//! outside: every length is checked before it is used, and nothing is allocated on a header's word.
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

mod header;
mod write;

use std::path::{Path, PathBuf};

use super::error::{DataError, Result};
use super::files::bytes::Bytes;
pub use header::Dtype;
pub use write::{Element, Writer, write, write_f32, write_i64, write_u16};

/// A read-only array in C order, memory-mapped.
#[derive(Clone, Debug)]
pub struct Npy {
    path: PathBuf,
    bytes: Bytes,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Where the values start.
    start: usize,
    elements: usize,
}

impl Npy {
    /// Opens and checks a file: header, dtype, order, and that the values fill the rest of it exactly.
    ///
    /// # Errors
    /// [`DataError::Read`] and [`DataError::Npy`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(path, Bytes::map(path)?)
    }

    /// As [`Npy::open`], from bytes built into the program; `name` stands in for the path in errors.
    ///
    /// # Errors
    /// [`DataError::Npy`].
    pub fn from_static(name: &str, bytes: &'static [u8]) -> Result<Self> {
        Self::parse(Path::new(name), Bytes::Static(bytes))
    }

    fn parse(path: &Path, bytes: Bytes) -> Result<Self> {
        let error = |problem: String| DataError::Npy { path: path.to_owned(), problem };
        let header = header::parse(&bytes).map_err(error)?;

        // Lengths come from outside: their product is checked before it is used.
        let values = bytes.len() - header.start;
        let elements = header.shape.iter().try_fold(1_usize, |product, &side| product.checked_mul(side));
        let expected = elements.and_then(|elements| elements.checked_mul(header.dtype.size()));

        match (elements, expected) {
            (Some(elements), Some(expected)) if expected == values => Ok(Npy {
                path: path.to_owned(),
                dtype: header.dtype,
                shape: header.shape,
                start: header.start,
                bytes,
                elements,
            }),
            (_, Some(expected)) => Err(error(format!(
                "the header promises {expected} bytes of values (shape {:?} of {}), the file holds {values}. It is \
                 truncated or has trailing bytes: write it again",
                header.shape,
                header.dtype.name()
            ))),
            (_, None) => Err(error(format!("the shape {:?} is too large for any file", header.shape))),
        }
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

    /// The raw little-endian values `range` (in values, not bytes), clipped to what there is.
    fn raw(&self, range: std::ops::Range<usize>) -> &[u8] {
        let size = self.dtype.size();
        let end = range.end.min(self.elements);
        let start = range.start.min(end);
        &self.bytes[self.start + start * size..self.start + end * size]
    }

    /// All values as f32; f64 is rounded to the nearest.
    ///
    /// # Errors
    /// [`DataError::Npy`] where the dtype is an integer.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        if !matches!(self.dtype, Dtype::F32 | Dtype::F64) {
            return Err(self.wrong_dtype("float32"));
        }
        Ok(self.f64s(0..self.elements).map(|value| value as f32).collect())
    }

    /// The values `range` (clipped to what there is) as f64, whatever the dtype.
    pub fn f64s(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = f64> + '_ {
        let dtype = self.dtype;
        self.raw(range).chunks_exact(dtype.size()).map(move |bytes| dtype.float(bytes))
    }

    /// The values `range` (clipped to what there is) as integers. Values of u64 beyond `i64::MAX` become `i64::MAX`,
    /// which is out of range for every use here just the same.
    ///
    /// # Errors
    /// [`DataError::Npy`] where the dtype is not an integer.
    pub fn integers(&self, range: std::ops::Range<usize>) -> Result<impl Iterator<Item = i64> + '_> {
        let dtype = self.dtype;
        if !dtype.is_integer() {
            return Err(self.wrong_dtype("integers"));
        }
        Ok(self.raw(range).chunks_exact(dtype.size()).map(move |bytes| dtype.integer(bytes)))
    }

    fn wrong_dtype(&self, wanted: &str) -> DataError {
        DataError::Npy {
            path: self.path.clone(),
            problem: format!("holds {}, needed are {wanted}. Convert it with array.astype", self.dtype.name()),
        }
    }
}
