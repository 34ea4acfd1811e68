//! Writing `.npy`, atomically, with a trailer that tells damage.

use std::io::Write as _;
use std::marker::PhantomData;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{Dtype, trailer};
use crate::data::error::{DataError, Result};
use crate::fs::Output;

/// A type that arrays can hold.
pub trait Element: Copy {
    /// Its dtype.
    const DTYPE: Dtype;
    /// Appends the value, little-endian.
    fn append(self, bytes: &mut Vec<u8>);
}

macro_rules! element {
    ($($type:ty => $dtype:ident),*) => { $(
        impl Element for $type {
            const DTYPE: Dtype = Dtype::$dtype;
            fn append(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }
        }
    )* };
}
element!(u8 => U8, u16 => U16, u32 => U32, i32 => I32, i64 => I64, f32 => F32, f64 => F64);

/// An array being written in pieces. The file appears at [`Writer::finish`]; before that there is nothing.
pub struct Writer<T> {
    file: Output,
    missing: usize,
    buffer: Vec<u8>,
    /// Of all that was written.
    hash: Sha256,
    element: PhantomData<T>,
}

impl<T: Element> Writer<T> {
    /// Starts an array of the given shape.
    ///
    /// # Errors
    /// [`DataError::Write`].
    pub fn create(path: impl AsRef<Path>, shape: &[usize]) -> Result<Self> {
        Self::on(Output::open(path.as_ref())?, shape)
    }

    /// Starts an array in a file that is open already.
    pub(crate) fn on(mut file: Output, shape: &[usize]) -> Result<Self> {
        let header = header(T::DTYPE, shape);
        file.write_all(&header).map_err(DataError::write(file.path()))?;
        let hash = Sha256::new().chain_update(&header);
        let missing = shape.iter().product();
        Ok(Writer { file, missing, buffer: Vec::new(), hash, element: PhantomData })
    }

    /// Appends values in C order.
    ///
    /// # Errors
    /// [`DataError::Write`]; [`DataError::Bounds`] for more values than the shape has.
    pub fn append(&mut self, values: &[T]) -> Result<()> {
        self.missing = self.missing.checked_sub(values.len()).ok_or_else(|| DataError::Bounds {
            what: "the number of values appended",
            got: values.len(),
            limit: format!("the array has room for {} more", self.missing),
        })?;
        self.buffer.clear();
        for &value in values {
            value.append(&mut self.buffer);
        }
        self.hash.update(&self.buffer);
        self.file.write_all(&self.buffer).map_err(DataError::write(self.file.path()))
    }

    /// Writes the trailer, syncs the file and renames it into place.
    ///
    /// # Errors
    /// [`DataError::Write`]; [`DataError::Bounds`] for fewer values than the shape has.
    pub fn finish(mut self) -> Result<()> {
        if self.missing != 0 {
            let limit = "the array must be filled before it is finished".into();
            return Err(DataError::Bounds { what: "the number of missing values", got: self.missing, limit });
        }
        let trailer = trailer(self.hash.finalize().into());
        self.file.write_all(&trailer).map_err(DataError::write(self.file.path()))?;
        Ok(self.file.commit()?)
    }
}

/// Version 1 header, padded so that the values start at a multiple of 64.
pub(super) fn header(dtype: Dtype, shape: &[usize]) -> Vec<u8> {
    let mut tuple: String = shape.iter().map(|side| format!("{side}, ")).collect();
    if shape.len() > 1 {
        tuple.truncate(tuple.len() - 2);
    } else {
        tuple.truncate(tuple.trim_end().len());
    }
    let mut text = format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({tuple}), }}", dtype.descr());
    let total = (10 + text.len() + 1).next_multiple_of(64);
    text.extend(std::iter::repeat_n(' ', total - 11 - text.len()));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&(text.len() as u16).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// Writes a whole array in C order, atomically.
///
/// # Errors
/// [`DataError::Write`]; [`DataError::Bounds`] where `values` does not fill `shape`.
pub fn write<T: Element>(path: impl AsRef<Path>, shape: &[usize], values: &[T]) -> Result<()> {
    write_to(Output::open(path.as_ref())?, shape, values)
}

/// [`write()`] into a file that is open already.
pub(crate) fn write_to<T: Element>(file: Output, shape: &[usize], values: &[T]) -> Result<()> {
    let mut writer = Writer::on(file, shape)?;
    // In pieces: the little-endian copy of a piece is all that is held beside the values.
    for piece in values.chunks(1 << 16) {
        writer.append(piece)?;
    }
    writer.finish()
}

/// [`write()`] of float32.
///
/// # Errors
/// As [`write()`].
pub fn write_f32(path: impl AsRef<Path>, shape: &[usize], values: &[f32]) -> Result<()> {
    write(path, shape, values)
}

/// [`write()`] of uint16.
///
/// # Errors
/// As [`write()`].
pub fn write_u16(path: impl AsRef<Path>, shape: &[usize], values: &[u16]) -> Result<()> {
    write(path, shape, values)
}

/// [`write()`] of int64.
///
/// # Errors
/// As [`write()`].
pub fn write_i64(path: impl AsRef<Path>, shape: &[usize], values: &[i64]) -> Result<()> {
    write(path, shape, values)
}
