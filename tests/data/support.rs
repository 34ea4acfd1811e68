//! Small data sets, made on the spot.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use igpt_engine::data::{DataSpec, ImageSource, OpenOptions, Result, Split, open_images};
use image::{DynamicImage, ImageFormat, RgbImage};

use crate::pipeline::options;

/// Writes a file and the folders that it lies in.
pub fn put(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// A picture as a file of a format.
pub fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub fn png(picture: &RgbImage) -> Vec<u8> {
    encoded(picture.clone(), ImageFormat::Png)
}

/// A picture of which no two pixels of a small neighbourhood are alike, of its own for each number.
pub fn picture(number: u32, width: u32, height: u32) -> RgbImage {
    let value = |x: u32, y: u32, by: u32| (x * 7 + y * 13 + x * y + number * by) as u8;
    RgbImage::from_fn(width, height, |x, y| image::Rgb([value(x, y, 31), value(y, x, 57), value(x, x, 91)]))
}

/// `images:` of a folder.
pub fn images(folder: &Path) -> DataSpec {
    DataSpec::Images(folder.to_owned())
}

/// All images of a split of a folder.
pub fn open_folder(folder: &Path, split: Split) -> Result<Arc<dyn ImageSource>> {
    Ok(open_images(&images(folder), split, &OpenOptions { holdout: Some(0.0), resolution: 1, ..options() })?.0)
}
