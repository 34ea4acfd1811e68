//! From a decoded image to tokens: crop, resize, palette.

pub(crate) mod decode;
pub(crate) mod kmeans;
pub(crate) mod palette;
pub(crate) mod resize;
pub(crate) mod transform;
