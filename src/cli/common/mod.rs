//! What several commands share: flags, output, interruption, progress.

pub mod conversion;
pub mod counter;
pub mod device;
pub mod eval_images;
pub mod first_model;
pub mod interrupt;
pub mod named;
pub mod output;
pub mod progress;
pub mod ranks;
pub mod recipe;
pub mod unused;
