//! Photographs to tokens: JPEGs of 500 × 375 decoded, cropped, flipped, shrunk to 32 × 32; ours finds the nearest colours, too.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context, Result};
use igpt_engine::data::{Batches, DataSpec, Examples, OpenOptions, Palette, Split, open};
use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};

use super::{Bound, Row, Work};

const IMAGES: usize = 64;
const WIDTH: u32 = 500;
const HEIGHT: u32 = 375;

pub fn row() -> Row {
    Row {
        name: "loading",
        what: "loading 64 JPEGs of 500 × 375 as tokens of 32 × 32",
        peer: Some("Pillow as torchvision calls it, without tokens"),
        uses_mkl: false,
        bound: Bound::None,
        prepare,
    }
}

/// A made-up photograph: waves of several lengths, and noise. `peers.py` reads the same files.
fn photograph(index: u32) -> RgbImage {
    RgbImage::from_fn(WIDTH, HEIGHT, |x, y| {
        let noise = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)).wrapping_mul(index + 1) >> 27;
        Rgb([1.0, 2.0, 3.0].map(|k: f32| {
            let (x, y) = (x as f32 * 0.02 * k, y as f32 * 0.03 + index as f32);
            (110.0 + 60.0 * (x.sin() + y.cos() * 0.7) + noise as f32) as u8
        }))
    })
}

/// Writes the photographs where the peer finds them, too.
fn folder() -> Result<std::path::PathBuf> {
    let folder = std::env::temp_dir().join("igpt-bench-photographs");
    std::fs::create_dir_all(&folder)?;
    for index in 0..IMAGES as u32 {
        let path = folder.join(format!("{index}.jpg"));
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(&photograph(index)).context("a JPEG")?;
        std::fs::write(path, bytes)?;
    }
    Ok(folder)
}

fn prepare() -> Result<Work> {
    let options = OpenOptions { holdout: Some(0.0), ..OpenOptions::new(Arc::new(Palette::built_in()?)) };
    let examples: Arc<dyn Examples> = Arc::from(open(&DataSpec::Images(folder()?), Split::Train, &options)?);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let batches = Batches::training(examples, 0, true)?.with_workers(workers)?;
    let mut next = 0;
    Ok(Box::new(move || {
        black_box(batches.batch(next, IMAGES).expect("a batch"));
        next += IMAGES as u64;
    }))
}
