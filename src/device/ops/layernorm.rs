//! Normalisation of rows.

use serde::{Deserialize, Serialize};

/// How a row is normalised: `y = normalised · gain`, plus a bias where there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[clap(rename_all = "snake_case")]
pub enum Norm {
    /// `x · rsqrt(mean(x²) + ε)`: the official code; its docstring says LayerNorm, its arithmetic does not.
    #[default]
    Rms,
    /// `(x − mean) · rsqrt(var + ε)`: the paper's text.
    Layer,
}

/// ε of both norms, inside the square root.
pub const NORM_EPSILON: f32 = 1e-5;
