//! Pages that a run leaves behind: HTML with SVG charts in one file.

pub mod bars;
pub mod card;
mod charts;
pub mod compute;
pub(crate) mod curves;
pub mod demo;
pub mod grids;
pub mod history;
pub mod html;
mod median;
pub mod probe;
mod thinned;
pub mod training;
