//! Pages that a run leaves behind: HTML with SVG charts in one file.

mod charts;
mod curves;
pub mod demo;
pub mod html;
pub mod probe;
pub mod training;
