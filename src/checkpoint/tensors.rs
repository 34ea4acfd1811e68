//! Safetensors files: read with suspicion, one tensor at a time; written as a stream, one tensor at a time.
//!
//! Reading is positional (`seek` + `read`), not memory-mapped: a file that shrinks under a map is a SIGBUS, here it is an
//! error, and the values have to be copied on their way to f32 anyway.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::error::{CheckpointError, Result};
use super::hashed_file::{Expected, HashedFile};
use super::source::TensorSource;
use crate::fs::first_bytes::foreign;

/// Maximum bytes of a header: iGPT-XL with its moments needs half a megabyte.
const MAX_HEADER: u64 = 16 << 20;
/// Maximum number of tensors in a file.
const MAX_TENSORS: usize = 65_536;
/// Maximum number of dimensions of a tensor.
const MAX_RANK: usize = 8;
/// Maximum bytes of a name.
const MAX_NAME: usize = 256;
/// Bytes read and converted at once; a multiple of every element size.
const CHUNK: usize = 1 << 20;

/// An open safetensors file whose header has been checked: every tensor lies within the file, none overlap, none share a
/// name, no byte is unaccounted for.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: HashedFile,
    /// Where the data begins.
    base: u64,
    tensors: BTreeMap<String, TensorInfo>,
}

impl TensorFile {
    /// Opens `path` and checks its header. No tensor is read.
    ///
    /// # Errors
    /// [`CheckpointError::Io`]; [`CheckpointError::Malformed`] for anything but a sound file.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_as(path, None)
    }

    /// [`Self::open`] of a file whose hash is known: it is computed while tensors are read, and compared by
    /// [`TensorSource::verify`], or here if the header is unsound.
    ///
    /// # Errors
    /// As [`Self::open`]; [`CheckpointError::Torn`] for a file that is not sound because it is another.
    pub(super) fn open_as(path: &Path, expected: Option<Expected>) -> Result<Self> {
        let mut file = HashedFile::open(path, expected)?;
        match Self::read_header(path, &mut file) {
            Ok((base, tensors)) => Ok(Self { path: path.to_owned(), file, base, tensors }),
            Err(error) => {
                // What was never downloaded, say, is no matter of damage. An empty file says enough by its length.
                match foreign(path).filter(|_| file.length() > 0) {
                    Some(found) => Err(CheckpointError::NotWeights { path: path.to_owned(), what: found.sentence() }),
                    None => Err(file.verify().err().unwrap_or(error)),
                }
            }
        }
    }

    /// Where the data begins, and which tensors it holds.
    fn read_header(path: &Path, file: &mut HashedFile) -> Result<(u64, BTreeMap<String, TensorInfo>)> {
        let io = |action| CheckpointError::io(action, path);
        let malformed = |problem: String| CheckpointError::Malformed { path: path.to_owned(), problem };

        // The length of the header, before anything is allocated for it.
        let length = file.length();
        if length < 8 {
            return Err(malformed(format!("it has {length} bytes, the header's length alone takes 8")));
        }
        let mut prefix = [0; 8];
        file.read_at(0, &mut prefix).map_err(io("read"))?;
        let header_length = u64::from_le_bytes(prefix);
        if header_length > MAX_HEADER {
            return Err(malformed(format!(
                "its header claims {header_length} bytes, more than the maximum of {MAX_HEADER}"
            )));
        }
        let base = 8 + header_length;
        if base > length {
            return Err(malformed(format!("its header claims {header_length} bytes, the file has {length}")));
        }

        let mut header = vec![0; header_length as usize];
        file.read_at(8, &mut header).map_err(io("read"))?;
        let tensors = parse_header(&header, length - base).map_err(malformed)?;
        Ok((base, tensors))
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names and shapes, in the order of the names.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(name, info)| (name.as_str(), info.shape.as_slice()))
    }

    /// A tensor's dimensions, if the file has it.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|info| info.shape.as_slice())
    }

    /// Reads one tensor as f32, row-major, from F32, F16, BF16 or F64 (rounded to nearest); finite values only.
    ///
    /// # Errors
    /// [`CheckpointError::MissingTensor`], [`CheckpointError::WrongType`], [`CheckpointError::NotFinite`],
    /// [`CheckpointError::Io`].
    pub fn read(&mut self, name: &str) -> Result<Vec<f32>> {
        self.values(name, HashedFile::read_at)
    }

    /// A tensor's values, its bytes got by `get`.
    fn values(&mut self, name: &str, get: fn(&mut HashedFile, u64, &mut [u8]) -> io::Result<()>) -> Result<Vec<f32>> {
        let info = self
            .tensors
            .get(name)
            .ok_or_else(|| CheckpointError::MissingTensor { path: self.path.clone(), name: name.to_owned() })?;
        let convert: fn(&[u8], &mut Vec<f32>) = match info.dtype {
            Dtype::F32 => |bytes, out| out.extend(elements(bytes).map(f32::from_le_bytes)),
            Dtype::F16 => |bytes, out| out.extend(elements(bytes).map(|b| half::f16::from_le_bytes(b).to_f32())),
            Dtype::BF16 => |bytes, out| out.extend(elements(bytes).map(|b| half::bf16::from_le_bytes(b).to_f32())),
            Dtype::F64 => |bytes, out| out.extend(elements(bytes).map(|b| f64::from_le_bytes(b) as f32)),
            other => {
                let (path, name, dtype) = (self.path.clone(), name.to_owned(), format!("{other:?}"));
                return Err(CheckpointError::WrongType { path, name, dtype });
            }
        };

        let (begin, end) = info.data_offsets;
        // Bounded by the size of the file, which the header was checked against.
        let mut values = Vec::with_capacity(info.shape.iter().product());
        let mut buffer = vec![0; CHUNK.min(end - begin)];
        let mut left = end - begin;
        let mut copy = || -> io::Result<()> {
            while left > 0 {
                let count = left.min(CHUNK);
                let chunk = &mut buffer[..count];
                get(&mut self.file, self.base + (end - left) as u64, chunk)?;
                convert(chunk, &mut values);
                left -= count;
            }
            Ok(())
        };

        copy().map_err(CheckpointError::io("read", &self.path))?;
        if values.iter().all(|value| value.is_finite()) {
            Ok(values)
        } else {
            Err(CheckpointError::NotFinite { path: self.path.clone(), name: name.to_owned() })
        }
    }
}

impl TensorSource for TensorFile {
    fn path(&self) -> &Path {
        self.path()
    }

    fn files(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn bytes(&self, name: &str) -> Option<u64> {
        self.tensors.get(name).map(|info| (info.data_offsets.1 - info.data_offsets.0) as u64)
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.shape(name)
    }

    fn read(&mut self, name: &str) -> Result<Vec<f32>> {
        self.read(name)
    }

    fn peek(&mut self, name: &str) -> Result<Vec<f32>> {
        self.values(name, HashedFile::peek_at)
    }

    fn verify(&mut self) -> Result<()> {
        self.file.verify()
    }
}

/// Little-endian elements of `N` bytes.
fn elements<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks().0.iter().copied()
}

/// The tensors that `header` lists, checked against the `data_length` bytes behind it. Errors are the problem in words.
fn parse_header(header: &[u8], data_length: u64) -> std::result::Result<BTreeMap<String, TensorInfo>, String> {
    let text = std::str::from_utf8(header).map_err(|error| format!("its header is not text ({error})"))?;
    let mut json = serde_json::Deserializer::from_str(text);
    let tensors = json
        .deserialize_map(HeaderVisitor)
        .and_then(|tensors| json.end().map(|()| tensors))
        .map_err(|error| format!("its header cannot be read ({error})"))?;

    // Tensors must cover the data exactly: no overlap, no gap.
    let mut by_offset: Vec<_> = tensors.iter().collect();
    by_offset.sort_by_key(|(_, info)| info.data_offsets);
    let mut expected = 0;
    for (name, info) in by_offset {
        let (begin, end) = info.data_offsets;
        let size = byte_size(info).ok_or_else(|| format!("the size of tensor {name} overflows"))?;
        if begin != expected {
            return Err(format!("tensor {name} starts at byte {begin} where {expected} was due: an overlap or a gap"));
        }
        if begin.checked_add(size) != Some(end) {
            return Err(format!(
                "tensor {name} of {:?} × {:?} takes {size} bytes but claims {begin}..{end}",
                info.dtype, info.shape
            ));
        }
        expected = end;
    }

    if expected as u64 != data_length {
        return Err(format!("its tensors take {expected} bytes, the file holds {data_length}"));
    }
    Ok(tensors)
}

/// Bytes of a tensor, unless they overflow or are not whole.
fn byte_size(info: &TensorInfo) -> Option<usize> {
    let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |size, dim| size.checked_mul(*dim))?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

/// Collects a header's entries; unlike a plain map it refuses a name that comes twice.
struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = BTreeMap<String, TensorInfo>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with an entry for each tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut tensors = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if name.len() > MAX_NAME {
                return Err(A::Error::custom(format!("a tensor's name has {} bytes", name.len())));
            }

            let info: TensorInfo = map.next_value()?;
            if info.shape.len() > MAX_RANK {
                return Err(A::Error::custom(format!("tensor {name} has {} dimensions", info.shape.len())));
            }
            if tensors.len() == MAX_TENSORS {
                return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
            }

            if tensors.insert(name.clone(), info).is_some() {
                return Err(A::Error::custom(format!("tensor {name} comes twice")));
            }
        }
        Ok(tensors)
    }
}

/// Name and dimensions of a tensor to be written.
pub type TensorHeader = (String, Vec<usize>);

/// Writes a safetensors file of F32 tensors in the order of `tensors`; `values(i)` gives tensor `i`, row-major, and only one
/// is held at a time. The bytes depend on nothing but names, shapes and values. `path` is for error texts.
///
/// # Errors
/// [`CheckpointError::Io`], those of `values`; [`CheckpointError::Malformed`] for values that do not have the shape.
pub fn write_tensors<V: AsRef<[f32]>>(
    out: &mut dyn Write,
    path: &Path,
    tensors: &[TensorHeader],
    mut values: impl FnMut(usize) -> Result<V>,
) -> Result<()> {
    let malformed = |problem: String| CheckpointError::Malformed { path: path.to_owned(), problem };

    // Offsets of the data, tensor after tensor.
    let mut infos = Vec::with_capacity(tensors.len());
    let mut offset = 0_usize;
    for (name, shape) in tensors {
        let mut info = TensorInfo { dtype: Dtype::F32, shape: shape.clone(), data_offsets: (offset, offset) };
        let end = byte_size(&info).and_then(|size| offset.checked_add(size));
        offset = end.ok_or_else(|| malformed(format!("the size of tensor {name} overflows")))?;
        info.data_offsets.1 = offset;
        infos.push((name.clone(), info));
    }

    // The header: its length (u64), then JSON.
    // Without this entry transformers takes the file for one of another framework.
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let metadata = Metadata::new(Some(format), infos).map_err(|error| malformed(error.to_string()))?;
    let mut header = serde_json::to_vec(&metadata).map_err(|error| malformed(error.to_string()))?;
    // The format asks for data aligned to 8 bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes()).map_err(CheckpointError::io("write", path))?;
    out.write_all(&header).map_err(CheckpointError::io("write", path))?;

    // The data, one tensor at a time.
    let mut buffer = Vec::new();
    for (index, (name, shape)) in tensors.iter().enumerate() {
        let given = values(index)?;
        let values = given.as_ref();
        if values.len() != shape.iter().product::<usize>() {
            return Err(malformed(format!("tensor {name} of {shape:?} was given {} values", values.len())));
        }
        for chunk in values.chunks(CHUNK / size_of::<f32>()) {
            buffer.clear();
            buffer.extend(chunk.iter().flat_map(|value| value.to_le_bytes()));
            out.write_all(&buffer).map_err(CheckpointError::io("write", path))?;
        }
    }
    Ok(())
}
