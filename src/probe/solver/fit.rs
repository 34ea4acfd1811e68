//! A fitted classifier with its figures, whatever solver fitted it.

use serde::{Deserialize, Serialize};

use super::smooth::Termination;
use crate::probe::classifier::Classifier;
use crate::probe::error::{ProbeError, Result};

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FitLimits {
    /// Converged when the squared norm of the gradient is at most this fraction of the objective. The objective is
    /// 1-strongly convex in the weights, so it then stands within half this fraction of its minimum.
    pub tolerance: f64,
    /// Maximum iterations.
    pub iterations: usize,
}

/// The objective within 5e-9 of its minimum: well below what changes a prediction.
pub const TOLERANCE: f64 = 1e-8;

/// A classifier and how it was arrived at. Objective and gradient are evaluated in f64 at its weights.
#[derive(Clone, Debug)]
pub struct Fit {
    /// The weights.
    pub classifier: Classifier,
    /// Which numbers say how good the fit is.
    pub summary: FitSummary,
}

/// The figures of a fit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FitSummary {
    /// Inverse strength of the penalty; nothing where there was none.
    pub c: Option<f64>,
    /// `½‖W‖² + C · Σ CE`; without C `Σ CE`.
    pub objective: f64,
    /// Length of its gradient, intercepts included.
    pub gradient_norm: f64,
    /// Steps of the solver.
    pub iterations: usize,
    /// Whether the gradient is as short as was asked for.
    pub converged: bool,
    /// Why the solver stopped.
    pub ending: Termination,
}

/// Refuses labels that are not one per row and below `classes`, of which there must be at least two.
///
/// # Errors
/// [`ProbeError::Unfit`].
pub fn check_labels(labels: &[u16], rows: usize, classes: usize) -> Result<()> {
    if labels.len() != rows {
        return Err(ProbeError::Unfit(format!("there are {} labels for {rows} rows of features", labels.len())));
    }
    if classes < 2 {
        return Err(ProbeError::Unfit(format!("there is nothing to tell apart: {classes} classes")));
    }
    match labels.iter().position(|label| usize::from(*label) >= classes) {
        Some(row) => Err(ProbeError::Unfit(format!("row {row} has label {}, with {classes} classes", labels[row]))),
        None => Ok(()),
    }
}
