//! The paper's protocol around a fit: choose the penalty (or the learning rate) on held-out rows, fit again on all of them,
//! test; and the same with few labels.

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::classifier::Classifier;
use super::error::{ProbeError, Result};
use super::features::matrix::{Picked, Rows, pick_labels};
use super::solver::lbfgs::Ending;
use super::solver::logistic::{Fit, FitLimits, FitSummary, Regression};
use super::solver::sgd::{SgdOptions, Shuffled, sgd};
use crate::data::hold_out;
use crate::device::Device;
use crate::random::{self, Purpose};

/// How a classifier is fitted, and between what its one free number is chosen.
#[derive(Clone, Debug, PartialEq)]
pub enum Solver {
    /// [`Regression`], for each C.
    Lbfgs {
        /// Inverse strengths of the penalty.
        c: Vec<f64>,
        /// How far to go.
        limits: FitLimits,
    },
    /// [`sgd`], for learning rates from the highest down until the held-out accuracy falls.
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

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Choice::C(c) => write!(f, "C = {c}"),
            Choice::LearningRate(rate) => write!(f, "lr = {rate}"),
        }
    }
}

/// One number tried on the held-out rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// The number.
    pub choice: Choice,
    /// Share of the held-out rows that were right.
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

/// An iteration, for whoever watches: of L-BFGS the length of the gradient, of SGD the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// What is being fitted.
    pub choice: Choice,
    /// Iterations done.
    pub number: usize,
    /// Iterations at most.
    pub most: usize,
    /// Length of the gradient, or the loss.
    pub measure: f64,
}

/// Sees every iteration and says whether to go on.
pub type Watch<'a> = &'a mut dyn FnMut(&Step) -> bool;

/// Rows with their labels.
#[derive(Clone, Copy)]
pub struct Labelled<'a> {
    /// Features.
    pub rows: &'a dyn Rows,
    /// A class a row.
    pub labels: &'a [u16],
}

/// What all fits of a probe share.
pub struct Protocol<'a, D: Device> {
    /// Where the products are computed.
    pub device: &'a D,
    /// Classes of the labels.
    pub classes: usize,
    /// Bytes of features that may stay on the device.
    pub most_resident: usize,
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
            let diverged = fit.summary.ending == Ending::Diverged;
            let accuracy = if diverged { 0.0 } else { fit.classifier.accuracy(&held_rows, &held_labels) };
            let this = Tried { choice, validation_accuracy: accuracy, summary: fit.summary };
            tried.push(this);
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

    /// `per_class` labels a class, drawn by `seed`: the number is chosen on one in five of them, all of them are fitted, and
    /// the share of `test` rows that are right comes back. `None` if the watcher stopped it.
    ///
    /// # Errors
    /// [`ProbeError::Unfit`] where a class has fewer rows, or too few labels are left to choose by.
    pub fn few_labels(
        &self,
        all: Labelled<'_>,
        test: Labelled<'_>,
        per_class: usize,
        seed: u64,
        watch: Watch<'_>,
    ) -> Result<Option<(f64, FitSummary)>> {
        let drawn = draw_per_class(all.labels, self.classes, per_class, seed)?;
        let subset: Vec<u32> = drawn.concat();
        let (rows, labels) = (Picked::new(all.rows, &subset), pick_labels(all.labels, &subset));
        let choices = self.choices();
        let (choice, start) = match choices[..] {
            [only] => (only, None),
            _ => {
                let held = per_class.div_ceil(5);
                if held == per_class {
                    let problem = "1 label a class leaves none to choose C by; pass a single --c";
                    return Err(ProbeError::Unfit(problem.into()));
                }
                // Places within the subset: classes lie one after the other.
                let (mut fitted, mut out) = (Vec::new(), Vec::new());
                for place in 0..subset.len() {
                    if place % per_class < held { &mut out } else { &mut fitted }.push(place as u32);
                }
                let parts = (&fitted[..], &out[..]);
                let Some(sweep) = self.sweep(Labelled { rows: &rows, labels: &labels }, parts, watch)? else {
                    return Ok(None);
                };
                (sweep.best.choice, Some(sweep.classifier))
            }
        };
        let all = Labelled { rows: &rows, labels: &labels };
        let Some(fit) = self.fit(all, choice, start.as_ref(), watch)? else { return Ok(None) };
        Ok(Some((fit.classifier.accuracy(test.rows, test.labels), fit.summary)))
    }

    fn fitter<'f>(&'f self, rows: &'f dyn Rows, labels: &'f [u16]) -> Result<Fitter<'f, D>> {
        Ok(match &self.solver {
            Solver::Lbfgs { limits, .. } => {
                let regression = Regression::new(self.device, rows, labels, self.classes, self.most_resident)?;
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
                let most = limits.iterations;
                regression.fit(c, start, *limits, |iteration| {
                    watch(&Step { choice, number: iteration.number, most, measure: iteration.gradient_norm })
                })?
            }
            (Fitter::Sgd { protocol, rows, labels, options }, Choice::LearningRate(rate) | Choice::C(rate)) => {
                let options = SgdOptions { learning_rate: rate, ..**options };
                let mut stream = Shuffled::new(options.seed, rows.len());
                let order = |step| stream.batch(step, options.batch);
                let most = options.steps as usize;
                sgd(protocol.device, *rows, labels, protocol.classes, &options, order, |number, measure| {
                    watch(&Step { choice, number: number as usize, most, measure })
                })?
            }
        };
        Ok((fit.summary.ending != Ending::Interrupted).then_some(fit))
    }
}

/// `per_class` rows of each class, drawn by `seed` without regard to their order.
///
/// # Errors
/// [`ProbeError::Unfit`] where a class has fewer.
pub fn draw_per_class(labels: &[u16], classes: usize, per_class: usize, seed: u64) -> Result<Vec<Vec<u32>>> {
    let mut by_class = vec![Vec::new(); classes];
    for (row, label) in labels.iter().enumerate() {
        if let Some(rows) = by_class.get_mut(usize::from(*label)) {
            rows.push(row as u32);
        }
    }
    for (class, rows) in by_class.iter_mut().enumerate() {
        if rows.len() < per_class || per_class == 0 {
            let problem = format!("class {class} has {} training images, not {per_class}", rows.len());
            return Err(ProbeError::Unfit(format!("{problem}; give fewer --labels-per-class, at least 1")));
        }
        let mut random = random::stream(seed, Purpose::FewLabels, 0, class as u64);
        rows.shuffle(&mut random);
        rows.truncate(per_class);
    }
    Ok(by_class)
}

/// The rows to fit on and those held out: the same split that training holds out for the same seed and fraction.
///
/// # Errors
/// [`ProbeError::Data`] for a fraction outside 0..1.
pub fn split(rows: usize, fraction: f64, seed: u64) -> Result<(Vec<u32>, Vec<u32>)> {
    Ok(hold_out(rows, fraction, seed)?)
}

/// Mean and standard deviation over the sample (n − 1; 0 for one value).
pub fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let square = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    (mean, if values.len() > 1 { (square / (count - 1.0)).sqrt() } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::CpuDevice;
    use crate::probe::features::matrix::Matrix;

    /// Three classes around three corners, noisy, in the order 0 1 2 0 1 2 ...
    fn corners(rows: usize) -> (Matrix, Vec<u16>) {
        let labels: Vec<u16> = (0..rows).map(|row| (row % 3) as u16).collect();
        let noise = |i: usize| ((i * 2_654_435_761 % 1000) as f32 / 500.0 - 1.0) * 1.5;
        let value = |row: usize, column: usize| f32::from(u8::from(row % 3 == column)) * 2.0 + noise(row * 31 + column);
        let values = (0..rows * 5).map(|i| value(i / 5, i % 5)).collect();
        (Matrix::new(5, values).unwrap(), labels)
    }

    fn protocol(device: &CpuDevice, solver: Solver) -> Protocol<'_, CpuDevice> {
        Protocol { device, classes: 3, most_resident: usize::MAX, solver }
    }

    const LIMITS: FitLimits = FitLimits { tolerance: 1e-8, iterations: 200 };

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
        assert!(fit.summary.converged && fit.classifier.accuracy(&rows, &labels) > 0.6);
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
        assert_eq!(sweep.tried[0].summary.ending, Ending::Diverged);
        assert_eq!(sweep.best.choice, Choice::LearningRate(0.3));
        let hopeless = Protocol { solver: Solver::Sgd { rates: vec![1e38], options }, ..protocol };
        assert!(hopeless.sweep(all, (&fitted, &held), &mut |_| true).unwrap_err().to_string().contains("--lr"));
    }

    #[test]
    fn few_labels_are_as_many_of_each_class_and_depend_on_the_seed() {
        let device = CpuDevice::new(Some(1)).unwrap();
        let (rows, labels) = corners(600);
        let drawn = draw_per_class(&labels, 3, 25, 7).unwrap();
        for (class, drawn) in drawn.iter().enumerate() {
            assert_eq!(drawn.len(), 25);
            assert!(drawn.iter().all(|row| usize::from(labels[*row as usize]) == class));
        }
        assert_eq!(draw_per_class(&labels, 3, 25, 7).unwrap(), drawn);
        assert_ne!(draw_per_class(&labels, 3, 25, 8).unwrap(), drawn);
        assert!(draw_per_class(&labels, 3, 201, 7).is_err() && draw_per_class(&labels, 4, 1, 7).is_err());
        let all = Labelled { rows: &rows, labels: &labels };
        let protocol = protocol(&device, Solver::Lbfgs { c: vec![0.1, 1.0], limits: LIMITS });
        let accuracy = |per_class| protocol.few_labels(all, all, per_class, 0, &mut |_| true).unwrap().unwrap().0;
        assert!(accuracy(4) > 0.4 && accuracy(100) > accuracy(2).min(0.6));
        assert!(protocol.few_labels(all, all, 1, 0, &mut |_| true).unwrap_err().to_string().contains("single --c"));
    }

    #[test]
    fn means_and_deviations() {
        assert_eq!(mean_and_deviation(&[2.0, 4.0, 6.0]), (4.0, 2.0));
        assert_eq!(mean_and_deviation(&[3.0]), (3.0, 0.0));
    }
}
