//! `preprocessor_config.json`: the palette, as Hugging Face's ImageGPT image processor keeps it.

use std::path::Path;

use serde_json::{Value, json};

use super::PREPROCESSOR_FILE;
use super::error::{CheckpointError, Result};
use super::json::read_json;
use super::manifest::Manifest;
use super::tensorflow::{palette_beside, prefix_of};

/// PIL's number for bilinear resampling, which Hugging Face's processor uses.
const BILINEAR: u32 = 2;

/// The file's content for a model of `positions` pixels. Colours are RGB in `[-1, 1]`, exact in the JSON.
pub(super) fn preprocessor_json(palette: &[[f32; 3]], positions: usize) -> Value {
    let clusters: Vec<_> = palette.iter().map(|colour| colour.map(f64::from)).collect();
    let mut value = json!({
        "clusters": clusters,
        "do_color_quantize": true,
        "do_normalize": true,
        "do_resize": true,
        "image_processor_type": "ImageGPTImageProcessor",
        "resample": BILINEAR,
    });
    let side = positions.isqrt();
    if side * side == positions {
        value["size"] = json!({"height": side, "width": side});
    }
    value
}

/// The palette of a checkpoint folder, if it has one: RGB in `[-1, 1]`, a row per colour.
///
/// # Errors
/// [`CheckpointError::Io`], [`CheckpointError::Json`] and [`CheckpointError::Data`].
pub fn palette_of(dir: &Path) -> Result<Option<Vec<[f32; 3]>>> {
    Manifest::open(dir)?;
    let path = dir.join(PREPROCESSOR_FILE);
    if !path.is_file() {
        // OpenAI's release has a file of its own.
        return prefix_of(dir).map_or(Ok(None), |prefix| palette_beside(&prefix));
    }

    let map = read_json(&path)?;
    let rows = match map.get("clusters") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(rows)) if !rows.is_empty() => rows,
        Some(_) => return Err(CheckpointError::json(&path, "clusters must be a list of [r, g, b] colours")),
    };

    let colour = |(index, row): (usize, &Value)| {
        let parts: Option<Vec<f64>> = row.as_array().and_then(|row| row.iter().map(Value::as_f64).collect());
        match parts.as_deref() {
            // The comparison is false for what is not a number.
            Some([r, g, b]) if [r, g, b].iter().all(|part| part.abs() <= 1.0) => Ok([*r as f32, *g as f32, *b as f32]),
            _ => Err(CheckpointError::json(
                &path,
                format!("colour {index} of clusters must be [r, g, b] within -1 and 1"),
            )),
        }
    };
    rows.iter().enumerate().map(colour).collect::<Result<_>>().map(Some)
}
