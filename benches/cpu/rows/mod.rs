//! The rows: one file each. A new row is a file with a `row()`, a line in [`all`], and a function of its name in `peers.py`.

mod drawing;
mod evaluation;
mod features;
mod kmeans;
pub mod limits;
mod loading;
mod model;
mod probe;
mod steps;
mod update;

use anyhow::Result;

/// What is repeated and timed; it holds all that it needs.
pub type Work = Box<dyn FnMut()>;

/// A row of the table.
pub struct Row {
    pub name: &'static str,
    /// What is done once, for the table.
    pub what: &'static str,
    /// What the peer is; it is the function of the row's name in `peers.py`.
    pub peer: Option<&'static str>,
    /// Whether the peer computes with MKL, which may be freed.
    pub uses_mkl: bool,
    pub bound: Bound,
    pub prepare: fn() -> Result<Work>,
}

/// What the machine must do at least.
#[derive(Clone, Copy)]
pub enum Bound {
    /// Multiplications and additions of matrix products, at the rate of a large one.
    Flops(f64),
    /// Bytes that come from memory, at the rate of a large read.
    Bytes(f64),
    /// Nothing that is known.
    None,
}

/// All rows, in the order of the table.
pub fn all() -> Vec<Row> {
    let mut rows = Vec::from(steps::rows());
    rows.extend([update::row(), evaluation::row(), features::row(), probe::row(), kmeans::row(), loading::row()]);
    rows.extend(drawing::rows());
    rows
}

/// A row, or a limit of the machine, by its name.
pub fn find(name: &str) -> Option<Row> {
    all().into_iter().chain(limits::rows()).find(|row| row.name == name)
}

/// The names of all rows, for people.
pub fn names() -> String {
    all().iter().map(|row| row.name).collect::<Vec<_>>().join(", ")
}
