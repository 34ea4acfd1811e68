//! Which solver fits the classifiers, and the one number of it that is chosen on held-out rows.

use serde::{Deserialize, Serialize};

use super::solver::fit::{FitLimits, TOLERANCE};
use super::solver::sgd::SgdOptions;

/// How a classifier is fitted, and between what its one free number is chosen.
#[derive(Clone, Debug, PartialEq)]
pub enum Solver {
    /// [`Regression`](crate::probe::Regression), for each C.
    Lbfgs {
        /// Inverse strengths of the penalty.
        c: Vec<f64>,
        /// How far to go.
        limits: FitLimits,
    },
    /// [`sgd`](crate::probe::sgd()), for learning rates from the highest down until the held-out accuracy falls.
    Sgd {
        /// The rates.
        rates: Vec<f64>,
        /// Everything else; its learning rate is not used.
        options: SgdOptions,
    },
}

/// The number that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// L-BFGS's penalty.
    C(f64),
    /// SGD's first learning rate.
    LearningRate(f64),
}

impl Default for Solver {
    /// L-BFGS with five penalties, to [`TOLERANCE`].
    fn default() -> Self {
        Solver::lbfgs(vec![1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    }
}

impl Solver {
    /// L-BFGS to [`TOLERANCE`], for each of the inverse strengths `c` of the penalty.
    pub fn lbfgs(c: Vec<f64>) -> Self {
        Solver::Lbfgs { c, limits: FitLimits { tolerance: TOLERANCE, iterations: 1000 } }
    }

    /// The solver in words.
    pub fn describe(&self) -> String {
        match self {
            Solver::Lbfgs { c, limits } => {
                let FitLimits { tolerance, iterations } = limits;
                format!("L-BFGS, C of {c:?}, at most {iterations} iterations, tolerance {tolerance:e}")
            }
            Solver::Sgd { rates, options } => format!(
                "SGD, momentum {}, cosine, learning rates {rates:?}, {} steps of {} rows, {}",
                options.momentum,
                options.steps,
                options.batch,
                options.c.map_or("no penalty".to_owned(), |c| format!("C {c}"))
            ),
        }
    }
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Choice::C(c) => write!(f, "C = {c}"),
            Choice::LearningRate(rate) => write!(f, "lr = {rate}"),
        }
    }
}
