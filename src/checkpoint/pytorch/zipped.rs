//! The zip format, since PyTorch 1.6: `NAME/data.pkl` and `NAME/data/KEY`, not compressed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};

use zip::{CompressionMethod, ZipArchive};

use super::state::{StoredTensor, read_state};
use super::storages::Place;
use crate::data::pickle;

/// Longest pickle: that of iGPT-XL takes 200 kB.
const MAX_PICKLE: u64 = 16 << 20;

type Result<T> = std::result::Result<T, String>;

/// The tensors and storages. Errors are the problem in words.
pub(super) fn open(file: &File) -> Result<(BTreeMap<String, StoredTensor>, BTreeMap<String, Place>)> {
    let damaged =
        |error: &dyn std::fmt::Display| format!("its zip archive is damaged or truncated ({error}); download it again");
    let file = file.try_clone().map_err(|error| damaged(&error))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| damaged(&error))?;

    // Everything lies in one folder, whose name is that of the file when it was saved.
    let pickle_name = archive.file_names().filter_map(std::result::Result::ok).find(|name| name.ends_with("/data.pkl"));
    let pickle_name = pickle_name.map(|name| name.into_owned());
    let pickle_name =
        pickle_name.ok_or("it is a zip archive without data.pkl, so it is none of PyTorch's; download it again")?;
    let folder = pickle_name.trim_end_matches("data.pkl").to_owned();

    let mut bytes = Vec::new();
    for (name, limit) in [(format!("{folder}byteorder"), 16), (pickle_name, MAX_PICKLE)] {
        bytes.clear();
        let Ok(entry) = archive.by_name(&name) else { continue };
        entry.take(limit + 1).read_to_end(&mut bytes).map_err(|error| damaged(&error))?;
        if bytes.len() as u64 > limit {
            return Err(format!("{name} in it is longer than {limit} bytes, so it is no dictionary of weights"));
        }
        if name.ends_with("byteorder") && bytes.starts_with(b"big") {
            return Err(
                "its numbers are big-endian; load and save it again with PyTorch on the machine it comes from".into()
            );
        }
    }

    let mut storages = BTreeMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(|error| damaged(&error))?;
        let name = entry.name().map_err(|error| damaged(&error))?;
        let key = name.strip_prefix(&folder).and_then(|name| name.strip_prefix("data/")).map(str::to_owned);
        let Some(key) = key else { continue };
        if entry.compression() != CompressionMethod::Stored {
            return Err(
                "its storages are compressed, which PyTorch never does; load it and save it again with torch.save"
                    .into(),
            );
        }
        let start = entry.data_start().ok_or_else(|| damaged(&"a storage without a place"))?;
        let checksum = Some(entry.crc32()).filter(|&checksum| checksum != 0);
        storages.insert(key, Place { start, length: entry.size(), checksum });
    }

    let pickle = pickle::parse(&bytes, super::state::GLOBALS).map_err(|error| error.to_string())?;
    Ok((read_state(&pickle)?, storages))
}
