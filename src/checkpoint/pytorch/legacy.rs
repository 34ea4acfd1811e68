//! The format before PyTorch 1.6: pickles of a magic number, a version, the system, the dictionary and the keys of the
//! storages, and behind them the storages, each with its number of values before it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use super::state::{GLOBALS, StoredTensor, read_state};
use super::storages::Place;
use crate::data::pickle::{self, PickleError, Value};

/// The first pickle: 0x1950a86a20f9469cfc6c.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// Bytes within which the pickles must end.
const MAX_PICKLES: u64 = 16 << 20;

type Result<T> = std::result::Result<T, String>;

/// The tensors and storages. Errors are the problem in words.
pub(super) fn open(file: &mut File) -> Result<(BTreeMap<String, StoredTensor>, BTreeMap<String, Place>)> {
    let unreadable = |error: std::io::Error| format!("it cannot be read ({error})");
    let mut head = Vec::new();
    file.rewind().map_err(unreadable)?;
    file.by_ref().take(MAX_PICKLES).read_to_end(&mut head).map_err(unreadable)?;
    let total = file.metadata().map_err(unreadable)?.len();

    // One pickle behind the other.
    let mut at = 0;
    let mut next = || -> std::result::Result<pickle::Pickle<'_>, PickleError> {
        let pickle = pickle::parse(head.get(at..).unwrap_or(&[]), GLOBALS)?;
        at += pickle.end;
        Ok(pickle)
    };
    let words = |error: PickleError| error.to_string();
    let magic = next().map_err(words)?;
    if !matches!(*magic.value(magic.root), Value::Long(chunk) if magic.chunk(chunk) == MAGIC) {
        return Err("it is a pickle, but not one that torch.save wrote; save the weights with \
                    torch.save(model.state_dict(), \"pytorch_model.bin\")"
            .into());
    }
    let (_version, system) = (next().map_err(words)?, next().map_err(words)?);
    if system.get(system.root, "little_endian").and_then(|flag| system.int(flag)) == Some(0) {
        return Err(
            "its numbers are big-endian; load and save it again with PyTorch on the machine it comes from".into()
        );
    }
    let tensors = read_state(&next().map_err(words)?)?;
    let keys = next().map_err(words)?;
    let keys: Option<Vec<String>> = keys
        .items(keys.root)
        .and_then(|items| items.iter().map(|&key| keys.text(key).map(|text| text.into_owned())).collect());
    let keys = keys.ok_or("its list of storages is damaged; download it again")?;

    // The width of a storage's values is known from the tensors in it.
    let widths: BTreeMap<&str, usize> =
        tensors.values().map(|tensor| (tensor.storage.as_str(), tensor.number.size())).collect();
    let mut storages = BTreeMap::new();
    let mut start = at as u64;
    for key in keys {
        let mut count = [0; 8];
        file.seek(SeekFrom::Start(start)).map_err(unreadable)?;
        file.read_exact(&mut count).map_err(|_| "it is truncated; download it again".to_owned())?;
        let Some(&width) = widths.get(key.as_str()) else {
            return Err(format!("storage {key} in it belongs to no tensor; the file is damaged, download it again"));
        };
        let length = u64::from_le_bytes(count).checked_mul(width as u64);
        let end = length.and_then(|length| (start + 8).checked_add(length)).filter(|&end| end <= total);
        let end = end.ok_or("it is truncated; download it again")?;
        storages.insert(key, Place { start: start + 8, length: end - start - 8, checksum: None });
        start = end;
    }
    Ok((tensors, storages))
}
