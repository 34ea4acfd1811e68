//! From a decoded image to tokens: crop, resize, palette.

pub(crate) mod decode;
mod formats;
mod guarded;
mod jpeg;
pub(crate) mod kmeans;
pub(crate) mod palette;
pub(crate) mod resize;
mod tiff;
pub(crate) mod transform;
