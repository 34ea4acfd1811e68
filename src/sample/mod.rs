//! Images drawn by a model, and the grids that show them.

pub(crate) mod grid;

pub use grid::*;
