//! Antialiased resizing and cropping of RGB8 images.
//!
//! The filters are Pillow's: the kernel is widened by the scale when shrinking, so that every source pixel counts.
//! Two passes in 8 bits with rounding between, as Pillow; measured difference to Pillow: none or one grey level.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::named::named;

named! {
    /// Kernel of a resize. The paper does not name its own; Hugging Face's processor uses bilinear.
    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Filter {
        /// Mean over the area.
        Box = "box",
        /// Triangle, support 1.
        #[default]
        Bilinear = "bilinear",
        /// Catmull-Rom (a = -0.5), support 2.
        Bicubic = "bicubic",
        /// Windowed sinc, support 3.
        Lanczos = "lanczos",
    }
}

impl Filter {
    fn kernel(self) -> FilterType {
        match self {
            Filter::Box => FilterType::Box,
            Filter::Bilinear => FilterType::Bilinear,
            Filter::Bicubic => FilterType::CatmullRom,
            Filter::Lanczos => FilterType::Lanczos3,
        }
    }
}

/// A rectangle of an image, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rectangle {
    pub(crate) x: u32,
    pub(crate) y: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// Resizes to `width` x `height`, whatever that does to the proportions; an image of that size already comes back as it
/// is.
///
/// # Errors
/// What the resizer says, as text: an empty image or size.
pub fn resize(image: RgbImage, width: u32, height: u32, filter: Filter) -> Result<RgbImage, String> {
    if image.dimensions() == (width, height) {
        return Ok(image);
    }
    // Typed: what is told its pixels at run time is compiled for every kind, which was a third of the engine's machine code.
    let source = TypedImageRef::<U8x3>::from_buffer(image.width(), image.height(), image.as_raw())
        .map_err(|error| error.to_string())?;
    let mut resized = RgbImage::new(width, height);
    let mut target = TypedImage::<U8x3>::from_buffer(width, height, &mut resized).map_err(|error| error.to_string())?;

    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter.kernel()));
    Resizer::new().resize_typed(&source, &mut target, &options).map_err(|error| error.to_string())?;
    drop(target);
    Ok(resized)
}

/// The size with the shorter side scaled to `short` and the longer one in proportion, rounded.
pub(crate) fn short_side(width: u32, height: u32, short: u32) -> (u32, u32) {
    let scale = |long: u32, from: u32| {
        let from = u64::from(from.max(1));
        u32::try_from((u64::from(long) * u64::from(short) + from / 2) / from).unwrap_or(u32::MAX)
    };
    if width <= height { (short, scale(height, width)) } else { (scale(width, height), short) }
}

/// The rectangle of an image, which must lie inside it.
pub(crate) fn crop(image: &RgbImage, part: Rectangle) -> RgbImage {
    image::imageops::crop_imm(image, part.x, part.y, part.width, part.height).to_image()
}
