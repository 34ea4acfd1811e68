//! From the bytes of a JPEG or PNG file to RGB8.
//!
//! The first bytes of a file say what it is, not its name (ImageNet's n02105855_2933.JPEG is a PNG). Grey is expanded,
//! alpha dropped, 16 bits rounded to 8, palettes converted. JPEGs with four components (22 of ImageNet's) are read as
//! Adobe's programs write them, CMYK or YCCK with inverted values: R = C·K / 255 of the stored bytes.

use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, ImageReader, Limits, RgbImage};

use crate::data::error::{DataError, Result};

/// Maximum width and height, and the memory that decoding may use: a file of a few kilobytes must not
/// unpack to gigabytes. ImageNet's largest image has 61 million pixels.
const MAX_SIDE: u32 = 32_768;
const MAX_MEMORY: u64 = 512 << 20;

/// Decodes `bytes`, which are called `path` in messages.
///
/// # Errors
/// [`DataError::Image`].
pub(in crate::data) fn decode(path: &Path, bytes: &[u8]) -> Result<RgbImage> {
    let reader = reader(path, bytes)?;
    if reader.format() == Some(ImageFormat::Jpeg) && !is_complete_jpeg(bytes) {
        return Err(bad(path, "the JPEG is truncated (no end marker)"));
    }
    Ok(reader.decode().map_err(|error| bad(path, error))?.into_rgb8())
}

/// Width and height, from the header alone; `bytes` may end after it.
///
/// # Errors
/// [`DataError::Image`].
pub(in crate::data) fn dimensions(path: &Path, bytes: &[u8]) -> Result<(u32, u32)> {
    let (width, height) = reader(path, bytes)?.into_dimensions().map_err(|error| bad(path, error))?;
    if width.max(height) > MAX_SIDE {
        return Err(bad(path, format!("{width}x{height} pixels are more than {MAX_SIDE} on a side")));
    }
    Ok((width, height))
}

fn reader<'a>(path: &Path, bytes: &'a [u8]) -> Result<ImageReader<Cursor<&'a [u8]>>> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| bad(path, error))?;
    if !matches!(reader.format(), Some(ImageFormat::Jpeg | ImageFormat::Png)) {
        return Err(bad(path, "is neither JPEG nor PNG"));
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_MEMORY);
    reader.limits(limits);
    Ok(reader)
}

/// Whether an end-of-image marker follows the last start of scan. The decoder fills what is missing with grey; and
/// inside a scan neither marker can occur, so that embedded previews do not mislead.
fn is_complete_jpeg(bytes: &[u8]) -> bool {
    let marker = |wanted: u8| bytes.windows(2).rposition(|pair| pair == [0xff, wanted]);
    matches!((marker(0xda), marker(0xd9)), (Some(scan), Some(end)) if end > scan)
}

/// The error of a file that cannot be decoded.
pub(in crate::data) fn bad(path: &Path, problem: impl ToString) -> DataError {
    DataError::Image { path: path.to_owned(), problem: problem.to_string() }
}
