//! Images drawn by a model, and the grids that show them.

mod decode;
pub mod grid;

pub use decode::{Decoder, Generation, generate};
