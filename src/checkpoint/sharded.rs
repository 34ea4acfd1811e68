//! Writes weights in several safetensors files with an index, as transformers saves large models; [`super::split`] reads them.

use std::path::Path;

use serde_json::json;

use super::error::Result;
use super::json::write_json;
use super::tensors::TensorHeader;
use super::{INDEX_FILE, MODEL_FILE, write_hashed};

/// Writes `headers` as `model.safetensors` if they take at most `limit` bytes, else as several files of at most that (a larger
/// tensor has a file of its own) and their index. Returns each file of tensors with its SHA-256.
///
/// # Errors
/// [`CheckpointError::Io`], those of `values`.
pub(super) fn write_sharded(
    folder: &Path,
    headers: &[TensorHeader],
    limit: u64,
    mut values: impl FnMut(usize) -> Result<Vec<f32>>,
) -> Result<Vec<(String, String)>> {
    let bytes = |(_, shape): &TensorHeader| 4 * shape.iter().product::<usize>() as u64;

    // Where each file begins.
    let (mut starts, mut size) = (vec![0], 0);
    for (index, header) in headers.iter().enumerate() {
        if size > 0 && size + bytes(header) > limit {
            starts.push(index);
            size = 0;
        }
        size += bytes(header);
    }
    let count = starts.len();
    if count == 1 {
        return Ok(vec![(MODEL_FILE.to_owned(), write_hashed(&folder.join(MODEL_FILE), headers, values)?)]);
    }

    // The files, and which tensor went where.
    let ends = starts.iter().skip(1).copied().chain([headers.len()]);
    let (mut written, mut weight_map) = (Vec::with_capacity(count), serde_json::Map::new());
    for (number, (start, end)) in starts.iter().copied().zip(ends).enumerate() {
        let name = format!("model-{:05}-of-{count:05}.safetensors", number + 1);
        let part = headers.get(start..end).unwrap_or_default();
        let hash = write_hashed(&folder.join(&name), part, |index| values(start + index))?;
        weight_map.extend(part.iter().map(|(tensor, _)| (tensor.clone(), name.clone().into())));
        written.push((name, hash));
    }
    let total: u64 = headers.iter().map(bytes).sum();
    write_json(&folder.join(INDEX_FILE), &json!({"metadata": {"total_size": total}, "weight_map": weight_map}))?;
    Ok(written)
}
