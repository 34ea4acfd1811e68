//! The paper's protocol around a fit: choose the penalty (or the learning rate) on held-out rows, fit again on all of them,
//! test; and the same with few labels.

use serde::{Deserialize, Serialize};

use super::classifier::Classifier;
use super::error::{ProbeError, Result};
use super::features::matrix::{Picked, Rows, pick_labels};
use super::solver::fit::{Fit, FitLimits, FitSummary};
use super::solver::logistic::Regression;
use super::solver::sgd::{SgdOptions, Shuffled, sgd};
use super::solver::smooth::Termination;
use super::solver_choice::{Choice, Solver};
use crate::data::hold_out;
use crate::device::Device;

/// One number tried on the held-out rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// The number.
    pub choice: Choice,
    /// Accuracy on the held-out rows.
    pub validation_accuracy: f64,
    /// How the fit went.
    #[serde(flatten)]
    pub summary: FitSummary,
}

/// What the held-out rows say.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Everything that was tried, in order.
    pub tried: Vec<Tried>,
    /// The one with the highest accuracy; of equals the first.
    pub best: Tried,
    /// Its classifier.
    pub classifier: Classifier,
}

/// An iteration, for whoever watches: of L-BFGS the norm of the gradient, of SGD the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// What is being fitted.
    pub choice: Choice,
    /// Iterations done.
    pub number: usize,
    /// Iterations at most.
    pub limit: usize,
    /// Norm of the gradient, or the loss.
    pub measure: f64,
}

/// Sees every iteration and says whether to go on.
pub type Watch<'a> = &'a mut dyn FnMut(&Step) -> bool;

/// Refuses labels that are all of one class, whatever its number: there is nothing to tell apart.
pub fn check_classes(mut labels: impl Iterator<Item = u16>, what: &str) -> Result<()> {
    let Some(first) = labels.next() else { return Ok(()) };
    if labels.any(|label| label != first) {
        return Ok(());
    }
    Err(ProbeError::Unfit(format!("all {what} are of class {first}; a probe tells at least two classes apart")))
}

/// Rows with their labels.
#[derive(Clone, Copy)]
pub struct Labelled<'a> {
    /// Features.
    pub rows: &'a dyn Rows,
    /// A class per row.
    pub labels: &'a [u16],
}

/// What all fits of a probe share.
pub struct Protocol<'a, D: Device> {
    /// Where the matmuls run.
    pub device: &'a D,
    /// Classes of the labels.
    pub classes: usize,
    /// Bytes of features that may stay on the device.
    pub max_resident: usize,
    /// The solver.
    pub solver: Solver,
}

impl<D: Device> Protocol<'_, D> {
    /// Fits on `fitted` rows of `all` for each number and scores on the `held` ones. `None` if the watcher stopped it.
    ///
    /// # Errors
    /// As [`Regression::fit`] and [`sgd`]; [`ProbeError::Unfit`] where no fit came to an end.
    pub fn sweep(
        &self,
        all: Labelled<'_>,
        (fitted, held): (&[u32], &[u32]),
        watch: Watch<'_>,
    ) -> Result<Option<Sweep>> {
        if held.is_empty() || fitted.is_empty() {
            return Err(ProbeError::Unfit("nothing is held out to choose by; pass a --holdout above 0".into()));
        }

        let (rows, labels) = (Picked::new(all.rows, fitted), pick_labels(all.labels, fitted));
        let (held_rows, held_labels) = (Picked::new(all.rows, held), pick_labels(all.labels, held));
        let fitter = self.fitter(&rows, &labels)?;

        let mut tried: Vec<Tried> = Vec::new();
        let mut best: Option<(Tried, Classifier)> = None;
        let mut warm: Option<Classifier> = None;
        for choice in self.choices() {
            let Some(fit) = fitter.fit(choice, warm.as_ref(), watch)? else { return Ok(None) };
            let diverged = fit.summary.ending == Termination::Diverged;
            let accuracy = if diverged { 0.0 } else { fit.classifier.accuracy(&held_rows, &held_labels)? };
            let this = Tried { choice, validation_accuracy: accuracy, summary: fit.summary };
            tried.push(this);

            // Keep the best; go on from this fit.
            let falls = best.as_ref().is_some_and(|(best, _)| accuracy < best.validation_accuracy);
            if !diverged && best.as_ref().is_none_or(|(best, _)| accuracy > best.validation_accuracy) {
                best = Some((this, fit.classifier.clone()));
            }
            if falls && matches!(choice, Choice::LearningRate(_)) {
                break;
            }
            warm = Some(fit.classifier);
        }

        match best {
            Some((best, classifier)) => Ok(Some(Sweep { tried, best, classifier })),
            None => Err(ProbeError::Unfit("SGD diverged at every learning rate; pass lower ones with --lr".into())),
        }
    }

    /// Fits on all rows, from `start` if that helps. `None` if the watcher stopped it.
    ///
    /// # Errors
    /// As [`Regression::fit`] and [`sgd`].
    pub fn fit(
        &self,
        all: Labelled<'_>,
        choice: Choice,
        start: Option<&Classifier>,
        watch: Watch<'_>,
    ) -> Result<Option<Fit>> {
        self.fitter(all.rows, all.labels)?.fit(choice, start, watch)
    }

    /// The numbers to try: C from the strongest penalty up, so that each fit starts near the next; rates from the highest down.
    pub fn choices(&self) -> Vec<Choice> {
        match &self.solver {
            Solver::Lbfgs { c, .. } => {
                let mut c = c.clone();
                c.sort_by(f64::total_cmp);
                c.into_iter().map(Choice::C).collect()
            }
            Solver::Sgd { rates, .. } => {
                let mut rates = rates.clone();
                rates.sort_by(|a, b| b.total_cmp(a));
                rates.into_iter().map(Choice::LearningRate).collect()
            }
        }
    }

    fn fitter<'f>(&'f self, rows: &'f dyn Rows, labels: &'f [u16]) -> Result<Fitter<'f, D>> {
        Ok(match &self.solver {
            Solver::Lbfgs { limits, .. } => {
                let regression = Regression::new(self.device, rows, labels, self.classes, self.max_resident)?;
                Fitter::Lbfgs(Box::new(regression), *limits)
            }
            Solver::Sgd { options, .. } => Fitter::Sgd { protocol: self, rows, labels, options },
        })
    }
}

/// Rows made ready for a solver.
enum Fitter<'a, D: Device> {
    Lbfgs(Box<Regression<'a, D>>, FitLimits),
    Sgd { protocol: &'a Protocol<'a, D>, rows: &'a dyn Rows, labels: &'a [u16], options: &'a SgdOptions },
}

impl<D: Device> Fitter<'_, D> {
    fn fit(&self, choice: Choice, start: Option<&Classifier>, watch: Watch<'_>) -> Result<Option<Fit>> {
        let fit = match (self, choice) {
            (Fitter::Lbfgs(regression, limits), Choice::C(c) | Choice::LearningRate(c)) => {
                let limit = limits.iterations;
                regression.fit(c, start, *limits, |iteration| {
                    watch(&Step { choice, number: iteration.number, limit, measure: iteration.gradient_norm })
                })?
            }

            (Fitter::Sgd { protocol, rows, labels, options }, Choice::LearningRate(rate) | Choice::C(rate)) => {
                let options = SgdOptions { learning_rate: rate, ..**options };
                let mut stream = Shuffled::new(options.seed, rows.len());
                let order = |step| stream.batch(step, options.batch);
                let limit = options.steps as usize;
                sgd(protocol.device, *rows, labels, protocol.classes, &options, order, |number, measure| {
                    watch(&Step { choice, number: number as usize, limit, measure })
                })?
            }
        };

        Ok((fit.summary.ending != Termination::Interrupted).then_some(fit))
    }
}

/// The rows to fit on and those held out: the same split that training holds out for the same seed and fraction.
///
/// # Errors
/// [`ProbeError::Data`] for a fraction outside 0..1.
pub fn split(rows: usize, fraction: f64, seed: u64) -> Result<(Vec<u32>, Vec<u32>)> {
    Ok(hold_out(rows, fraction, seed)?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::device::CpuDevice;
    use crate::probe::features::matrix::Matrix;

    /// Three classes around three corners, noisy, in the order 0 1 2 0 1 2 ...
    pub fn corners(rows: usize) -> (Matrix, Vec<u16>) {
        let labels: Vec<u16> = (0..rows).map(|row| (row % 3) as u16).collect();
        let noise = |i: usize| ((i * 2_654_435_761 % 1000) as f32 / 500.0 - 1.0) * 1.5;
        let value = |row: usize, column: usize| f32::from(u8::from(row % 3 == column)) * 2.0 + noise(row * 31 + column);
        let values = (0..rows * 5).map(|i| value(i / 5, i % 5)).collect();
        (Matrix::new(5, values).unwrap(), labels)
    }

    pub fn protocol(device: &CpuDevice, solver: Solver) -> Protocol<'_, CpuDevice> {
        Protocol { device, classes: 3, max_resident: usize::MAX, solver }
    }

    pub const LIMITS: FitLimits = FitLimits { tolerance: 1e-8, iterations: 200 };

    #[test]
    fn the_best_on_held_out_rows_is_chosen_and_refitted() {
        let device = CpuDevice::new(Some(1)).unwrap();
        let (rows, labels) = corners(600);
        let all = Labelled { rows: &rows, labels: &labels };
        let (fitted, held) = split(600, 0.1, 3).unwrap();
        assert_eq!((fitted.len(), held.len()), (540, 60));
        let protocol = protocol(&device, Solver::Lbfgs { c: vec![1.0, 1e-6, 0.01], limits: LIMITS });

        let sweep = protocol.sweep(all, (&fitted, &held), &mut |_| true).unwrap().unwrap();
        let order: Vec<_> = sweep.tried.iter().map(|tried| tried.choice).collect();
        assert_eq!(order, [Choice::C(1e-6), Choice::C(0.01), Choice::C(1.0)]);

        let highest = sweep.tried.iter().map(|tried| tried.validation_accuracy).fold(0.0, f64::max);
        assert_eq!(sweep.best.validation_accuracy, highest);
        let first = sweep.tried.iter().find(|tried| tried.validation_accuracy == highest).unwrap();
        assert_eq!(first.choice, sweep.best.choice);

        let fit = protocol.fit(all, sweep.best.choice, Some(&sweep.classifier), &mut |_| true).unwrap().unwrap();
        assert!(fit.summary.converged && fit.classifier.accuracy(&rows, &labels).unwrap() > 0.6);
        // It is the fit on all rows, wherever it started.
        let cold = protocol.fit(all, sweep.best.choice, None, &mut |_| true).unwrap().unwrap();
        assert!((fit.summary.objective / cold.summary.objective - 1.0).abs() < 1e-7);
        assert!(protocol.sweep(all, (&fitted, &held), &mut |_| false).unwrap().is_none());
    }

    #[test]
    fn learning_rates_are_tried_downwards_until_the_accuracy_falls() {
        let device = CpuDevice::new(Some(1)).unwrap();
        let (rows, labels) = corners(600);
        let all = Labelled { rows: &rows, labels: &labels };
        let (fitted, held) = split(600, 0.1, 3).unwrap();
        let options = SgdOptions { learning_rate: 0.0, momentum: 0.9, steps: 60, batch: 32, c: None, seed: 1 };
        // 1e38 diverges, 1e-30 does not move from chance: the one after is never tried.
        let rates = vec![1e-31, 0.3, 1e38, 1e-30];
        let protocol = protocol(&device, Solver::Sgd { rates, options });
        let sweep = protocol.sweep(all, (&fitted, &held), &mut |_| true).unwrap().unwrap();
        let tried: Vec<_> = sweep.tried.iter().map(|tried| tried.choice).collect();
        assert_eq!(tried, [1e38, 0.3, 1e-30].map(Choice::LearningRate));
        assert_eq!(sweep.tried[0].summary.ending, Termination::Diverged);
        assert_eq!(sweep.best.choice, Choice::LearningRate(0.3));
        let hopeless = Protocol { solver: Solver::Sgd { rates: vec![1e38], options }, ..protocol };
        assert!(hopeless.sweep(all, (&fitted, &held), &mut |_| true).unwrap_err().to_string().contains("--lr"));
    }
}
