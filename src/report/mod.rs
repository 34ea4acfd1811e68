//! Pages that a run leaves behind: HTML with SVG charts in one file.

pub(crate) mod charts;
pub mod demo;
pub mod probe;
pub mod training;
