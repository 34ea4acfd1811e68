//! The MLP of a transformer block.

use serde::{Deserialize, Serialize};

/// Activation of the MLP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[clap(rename_all = "snake_case")]
pub enum Activation {
    /// `x · σ(1.702 x)`: the official code.
    #[default]
    QuickGelu,
    /// `x · Φ(x)`, exact (erf): the paper's text.
    Gelu,
}
