//! A checkpoint's files: `PREFIX.index` lists the variables, `PREFIX.data-00000-of-00032` and so on hold them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::proto::{Field, fields};
use super::{masked_crc, sstable};
use crate::checkpoint::error::{CheckpointError, Result};
use crate::checkpoint::numbers::Number;

/// Longest index; that of iGPT-L takes 40 kB.
const MAX_INDEX: u64 = 64 << 20;
/// Most files of data, and most dimensions.
const MAX_SHARDS: u64 = 4096;
const MAX_RANK: usize = 8;

/// A variable's place.
#[derive(Clone, Debug, Default)]
struct Entry {
    dtype: u64,
    shape: Vec<usize>,
    shard: u64,
    offset: u64,
    size: u64,
    checksum: u32,
    /// Saved in parts, under names of their own.
    sliced: bool,
}

/// The variables of a checkpoint.
#[derive(Debug)]
pub(super) struct Bundle {
    index: PathBuf,
    shards: Vec<PathBuf>,
    entries: BTreeMap<String, Entry>,
}

impl Bundle {
    /// Opens the index, and checks that the variables lie within the files of data.
    ///
    /// # Errors
    /// [`CheckpointError::Io`]; [`CheckpointError::Weights`] for an index that is damaged or lists what is not there.
    pub(super) fn open(prefix: &Path) -> Result<Self> {
        let index = with_suffix(prefix, ".index");
        let mut bytes = Vec::new();
        File::open(&index)
            .and_then(|file| file.take(MAX_INDEX + 1).read_to_end(&mut bytes))
            .map_err(CheckpointError::io("read", &index))?;
        let problem = |why: String| CheckpointError::Weights {
            path: index.clone(),
            problem: format!("it is no sound index of a TensorFlow checkpoint: {why}. Download it again"),
        };
        if bytes.len() as u64 > MAX_INDEX {
            return Err(problem("it is too long".into()));
        }

        // The first entry, without a name, says how many files there are.
        let mut table = sstable::entries(&bytes).map_err(problem)?.into_iter();
        let header = table.next().filter(|(key, _)| key.is_empty());
        let shards =
            header.and_then(|(_, value)| shards(&value)).ok_or_else(|| problem("its header is missing".into()))?;
        if shards == 0 || shards > MAX_SHARDS {
            return Err(problem(format!("it has {shards} files of data, or big-endian numbers")));
        }
        let mut entries = BTreeMap::new();
        for (key, value) in table {
            // The parts of sliced variables have keys that are no text.
            let Ok(name) = String::from_utf8(key) else { continue };
            let entry = entry(&value).ok_or_else(|| problem(format!("what it says of {name} cannot be understood")))?;
            entries.insert(name, entry);
        }

        let shards =
            (0..shards).map(|shard| with_suffix(prefix, &format!(".data-{shard:05}-of-{shards:05}"))).collect();
        let bundle = Self { index, shards, entries };
        bundle.check()?;
        Ok(bundle)
    }

    /// Whether every variable lies within its file.
    fn check(&self) -> Result<()> {
        let weights = |path: &Path, problem: String| CheckpointError::Weights { path: path.to_owned(), problem };
        let mut lengths = Vec::new();
        for shard in &self.shards {
            let length = std::fs::metadata(shard).map(|metadata| metadata.len());
            let missing =
                |_| weights(&self.index, format!("{} is missing beside it; download it too", shard.display()));
            lengths.push(length.map_err(missing)?);
        }
        for (name, entry) in &self.entries {
            let shard = usize::try_from(entry.shard).ok().filter(|&shard| shard < lengths.len());
            let shard =
                shard.ok_or_else(|| weights(&self.index, format!("{name} lies in a file that it does not list")))?;
            if entry.offset.checked_add(entry.size).is_none_or(|end| end > lengths[shard]) {
                let problem = format!("it ends before {name} does; it is truncated, download it again");
                return Err(weights(&self.shards[shard], problem));
            }
        }
        Ok(())
    }

    /// The index.
    pub(super) fn index(&self) -> &Path {
        &self.index
    }

    /// The index and the files of data.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        std::iter::once(&self.index).chain(&self.shards).cloned().collect()
    }

    /// The names of the variables.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// A variable's dimensions, if it is there.
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// Reads a variable as f32, row-major, and verifies its checksum.
    ///
    /// # Errors
    /// As [`TensorSource::read`](crate::checkpoint::source::TensorSource::read); [`CheckpointError::Weights`] for damage.
    pub(super) fn read(&self, name: &str) -> Result<Vec<f32>> {
        let (path, name_owned) = (self.index.clone(), name.to_owned());
        let Some(entry) = self.entries.get(name) else {
            return Err(CheckpointError::MissingTensor { path, name: name_owned });
        };
        let number = match entry.dtype {
            1 => Number::F32,
            2 => Number::F64,
            14 => Number::BF16,
            19 => Number::F16,
            other => {
                let dtype = format!("number {other} of TensorFlow's types");
                return Err(CheckpointError::WrongType { path, name: name_owned, dtype });
            }
        };

        // The size was compared with the file's; the shape must say the same.
        let count = entry.shape.iter().try_fold(1_usize, |product, &side| product.checked_mul(side));
        let size = count.and_then(|count| count.checked_mul(number.size())).map(|size| size as u64);
        let (Some(count), false, true) = (count, entry.sliced, size == Some(entry.size)) else {
            let problem =
                format!("{name} was saved in parts, or its shape {:?} and its size contradict each other", entry.shape);
            return Err(CheckpointError::Weights { path, problem });
        };
        let shard = &self.shards[entry.shard as usize];
        let mut file = File::open(shard).map_err(CheckpointError::io("open", shard))?;
        let mut crc = 0;
        let values = number.read(&mut file, entry.offset, count, |bytes| crc = crc32c::crc32c_append(crc, bytes));
        let values = values.map_err(CheckpointError::io("read", shard))?;
        if masked_crc(crc) != entry.checksum {
            let problem = format!("{name} in it does not have its checksum; the file is damaged, download it again");
            return Err(CheckpointError::Weights { path: shard.clone(), problem });
        }
        if !values.iter().all(|value| value.is_finite()) {
            return Err(CheckpointError::NotFinite { path: shard.clone(), name: name_owned });
        }
        Ok(values)
    }
}

/// `path` with something behind its last part.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(suffix);
    text.into()
}

/// `BundleHeaderProto`: the number of files; 0 for big-endian ones.
fn shards(message: &[u8]) -> Option<u64> {
    let mut shards = 1;
    for (number, field) in fields(message)? {
        match (number, field) {
            (1, Field::Number(count)) => shards = count,
            (2, Field::Number(endianness)) if endianness != 0 => return Some(0),
            _ => {}
        }
    }
    Some(shards)
}

/// `BundleEntryProto`.
fn entry(message: &[u8]) -> Option<Entry> {
    let mut entry = Entry::default();
    for (number, field) in fields(message)? {
        match (number, field) {
            (1, Field::Number(dtype)) => entry.dtype = dtype,
            (2, Field::Bytes(shape)) => entry.shape = dimensions(shape)?,
            (3, Field::Number(shard)) => entry.shard = shard,
            (4, Field::Number(offset)) => entry.offset = offset,
            (5, Field::Number(size)) => entry.size = size,
            (6, Field::Number(checksum)) => entry.checksum = u32::try_from(checksum).ok()?,
            (7, _) => entry.sliced = true,
            _ => {}
        }
    }
    Some(entry)
}

/// `TensorShapeProto`.
fn dimensions(message: &[u8]) -> Option<Vec<usize>> {
    let mut shape = Vec::new();
    for (number, field) in fields(message)? {
        if let (2, Field::Bytes(dimension)) = (number, field) {
            // A size of 0 is not written.
            let size = fields(dimension)?.into_iter().find_map(|(number, field)| match field {
                Field::Number(size) if number == 1 => Some(size),
                _ => None,
            });
            shape.push(usize::try_from(size.unwrap_or(0)).ok()?);
        }
    }
    (shape.len() <= MAX_RANK).then_some(shape)
}
