//! From the bytes of an image file to RGB8.
//!
//! The first bytes of a file say what it is, not its name (ImageNet's n02105855_2933.JPEG is a PNG). Grey is expanded,
//! 16 bits rounded to 8, palettes converted, of an animation the first frame is taken; what becomes of alpha and of a
//! camera's orientation is a matter of [`Decoding`]. JPEGs with four components (22 of ImageNet's) are read as
//! Adobe's programs write them, CMYK or YCCK with inverted values: R = C·K / 255 of the stored bytes.

use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use serde::{Deserialize, Serialize};

use super::formats::{readable, unreadable};
use super::guarded::guarded;
use super::{jpeg, tiff};
use crate::data::error::{DataError, Result};
use crate::named::named;

/// Maximum width and height, and the memory that a decoded file may take: one of a few kilobytes must not unpack to
/// gigabytes. ImageNet's largest image has 61 million pixels.
const MAX_SIDE: u32 = 32_768;
const MAX_MEMORY: u64 = 512 << 20;
/// Maximum pixels, which take [`MAX_MEMORY`] as RGB8: 178,956,970, as many as Pillow reads.
const MAX_PIXELS: u64 = MAX_MEMORY / 3;
/// What is said where a decoder gives up without a word.
const DAMAGED: &str = "the picture is damaged: its decoder cannot make sense of it";

named! {
    /// What becomes of the alpha of a picture that has some.
    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Alpha {
        /// It is dropped, and the colours are taken as stored, also where nobody would see them. Pillow's
        /// `convert("RGB")` does this.
        #[default]
        Drop = "drop",
        /// The picture is laid over white.
        White = "white",
        /// The picture is laid over black.
        Black = "black",
    }
}

/// How a file becomes an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::data) struct Decoding {
    /// What becomes of alpha.
    pub(in crate::data) alpha: Alpha,
    /// Turn photos as the camera says that they were taken (EXIF), rather than leave them as they are stored.
    pub(in crate::data) upright: bool,
}

/// Decodes `bytes`, which are called `path` in messages.
///
/// # Errors
/// [`DataError::Image`].
pub(in crate::data) fn decode(path: &Path, bytes: &[u8], decoding: Decoding) -> Result<RgbImage> {
    guarded(|| decode_unguarded(path, bytes, decoding)).unwrap_or_else(|| Err(bad(path, DAMAGED)))
}

fn decode_unguarded(path: &Path, bytes: &[u8], decoding: Decoding) -> Result<RgbImage> {
    let bytes = match readable(bytes) {
        Some(ImageFormat::Jpeg) => {
            jpeg::picture(bytes).ok_or_else(|| bad(path, "the JPEG is truncated (no end marker)"))?
        }
        _ => bytes,
    };

    // The size is checked before anything of that size is allocated.
    let mut decoder = decoder(path, bytes)?;
    let (width, height) = decoder.dimensions();
    check_size(path, width, height, decoder.total_bytes())?;
    decoder.set_limits(in_proportion(decoder.total_bytes())).map_err(|error| bad(path, error))?;
    let orientation = if decoding.upright {
        decoder.orientation().unwrap_or(Orientation::NoTransforms)
    } else {
        Orientation::NoTransforms
    };

    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| bad(path, error))?;
    image.apply_orientation(orientation);
    Ok(match decoding.alpha {
        Alpha::White if image.color().has_alpha() => over(image, u8::MAX),
        Alpha::Black if image.color().has_alpha() => over(image, 0),
        _ => image.into_rgb8(),
    })
}

/// Width and height as stored, from the header alone; `bytes` may end after it.
///
/// # Errors
/// [`DataError::Image`].
pub(in crate::data) fn dimensions(path: &Path, bytes: &[u8]) -> Result<(u32, u32)> {
    let header = || decoder(path, bytes).map(|decoder| (decoder.dimensions(), decoder.total_bytes()));
    let ((width, height), total) = guarded(header).unwrap_or_else(|| Err(bad(path, DAMAGED)))?;
    check_size(path, width, height, total)?;
    Ok((width, height))
}

/// Whether bytes begin as those of a file that is read.
pub(in crate::data) fn is_picture(bytes: &[u8]) -> bool {
    readable(bytes).is_some()
}

fn decoder<'a>(path: &Path, bytes: &'a [u8]) -> Result<impl ImageDecoder + 'a> {
    let format = readable(bytes).ok_or_else(|| bad(path, unreadable(bytes)))?;
    if format == ImageFormat::Tiff
        && let Some((tag, values)) = tiff::overclaimed(bytes)
    {
        let problem = format!("the TIFF is damaged: its tag {tag} is of {values} values, more than the file holds");
        return Err(bad(path, problem));
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    // Of the size there is a message of our own; this bounds what decoders allocate on the way.
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_MEMORY);
    reader.limits(limits);
    reader.into_decoder().map_err(|error| bad(path, error))
}

/// What a decoder may take on the way to a picture of so many bytes: the frame of a GIF can claim to be larger than its picture.
fn in_proportion(picture: u64) -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(4 * picture + (16 << 20));
    limits
}

/// Refuses a picture that would take more memory than a picture should. `bytes` is what it takes as stored.
fn check_size(path: &Path, width: u32, height: u32, bytes: u64) -> Result<()> {
    let pixels = u64::from(width) * u64::from(height);
    let problem = if pixels == 0 {
        format!("{width}x{height} pixels are none")
    } else if width.max(height) > MAX_SIDE {
        format!("{width}x{height} pixels are above the limit of {MAX_SIDE} on a side; shrink the picture")
    } else if pixels > MAX_PIXELS || bytes > MAX_MEMORY {
        let limit = MAX_MEMORY / bytes.div_ceil(pixels).max(3);
        format!("{width}x{height} = {pixels} pixels are above the limit of {limit} for such a picture; shrink it")
    } else {
        return Ok(());
    };
    Err(bad(path, problem))
}

/// A picture laid over grey of a value, in 8 bits.
fn over(image: DynamicImage, ground: u8) -> RgbImage {
    let image = image.into_rgba8();
    let mut flat = RgbImage::new(image.width(), image.height());
    for (to, from) in flat.pixels_mut().zip(image.pixels()) {
        let [red, green, blue, alpha] = from.0.map(u32::from);
        let ground = u32::from(ground) * (255 - alpha);
        to.0 = [red, green, blue].map(|colour| ((colour * alpha + ground + 127) / 255) as u8);
    }
    flat
}

/// The error of a file that cannot be decoded.
pub(in crate::data) fn bad(path: &Path, problem: impl ToString) -> DataError {
    DataError::Image { path: path.to_owned(), problem: problem.to_string() }
}
