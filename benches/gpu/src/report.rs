//! What a run found, as machines read it.

use serde::{Deserialize, Serialize};

use crate::card::{Card, Clocks};
use crate::ceilings::Ceilings;
use crate::check::Checked;
use crate::stats::Spread;

/// The number of this layout; another one is not compared with.
pub const SCHEMA: u32 = 1;

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub schema: u32,
    /// `full`, `quick` or `toy`.
    pub size: String,
    pub card: Card,
    pub clocks_before: Option<Clocks>,
    pub clocks_after: Option<Clocks>,
    pub ceilings: Ceilings,
    pub rows: Vec<Row>,
    /// What was left out of the whole run, and why.
    pub not_run: Vec<String>,
}

/// An op at a shape.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub op: String,
    /// The model whose shape it is, or what else tells shapes apart.
    pub model: String,
    pub shape: String,
    /// Useful operations on tensor cores.
    pub flops: f64,
    /// Least bytes to and from memory.
    pub bytes: f64,
    /// Microseconds that the measured ceilings allow, and which of them is the limit.
    pub least_us: f64,
    pub limit: String,
    /// Microseconds; nothing where it was not run or is wrong.
    pub time_us: Option<Spread>,
    pub checked: Option<Checked>,
    pub peers: Vec<Peer>,
    /// Figures that only some rows have: tokens a second, nodes, the largest kernels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<(String, String)>,
    /// Why there is no time.
    pub not_run: Option<String>,
}

impl Row {
    /// What names it among the rows of a run.
    pub fn key(&self) -> String {
        format!("{} | {} | {}", self.op, self.model, self.shape)
    }

    /// The part of the ceiling that was reached.
    pub fn of_ceiling(&self) -> Option<f64> {
        self.time_us.map(|time| self.least_us / time.median)
    }
}

/// The same by somebody else.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Peer {
    pub name: String,
    pub time_us: Option<Spread>,
    pub not_run: Option<String>,
}

impl Peer {
    pub fn absent(name: &str, why: impl Into<String>) -> Self {
        Self { name: name.to_owned(), time_us: None, not_run: Some(why.into()) }
    }
}
