//! JSON files of a checkpoint folder.

use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use super::error::{CheckpointError, Result};
use crate::fs::first_bytes::recognise;

/// Longest JSON file that is read, in bytes.
const MAX_JSON: u64 = 4 << 20;

/// Reads a JSON object, with a limit on its size.
pub(super) fn read_json(path: &Path) -> Result<Map<String, Value>> {
    let text = read_text(path)?;
    serde_json::from_slice(&text).map_err(|error| match recognise(&text) {
        Some(found) => CheckpointError::NotWeights { path: path.to_owned(), what: found.sentence() },
        None => CheckpointError::json(path, format!("not a JSON object: {error}")),
    })
}

/// Reads a file that is no longer than a JSON file of ours could be.
pub(super) fn read_text(path: &Path) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_JSON + 1).read_to_end(&mut text))
        .map_err(CheckpointError::io("read", path))?;
    if text.len() as u64 > MAX_JSON {
        return Err(CheckpointError::json(path, format!("longer than {MAX_JSON} bytes, the maximum")));
    }
    Ok(text)
}

/// Writes JSON, indented, with a final newline.
pub(super) fn write_json(path: &Path, value: &Value) -> Result<()> {
    std::fs::write(path, format!("{value:#}\n")).map_err(CheckpointError::io("write", path))
}
