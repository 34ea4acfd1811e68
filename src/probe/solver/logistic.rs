//! Multinomial logistic regression by L-BFGS: `½‖W‖² + C · Σ CE`, intercepts not penalised (scikit-learn's convention).
//!
//! The products with the data are the device's, in f32; sums, logits and the solver's vectors are f64 on the host. f32 alone
//! stops some 1e-6 of the gradient's first length from the minimum, so the products are only ever taken of *changes*: the
//! logits move by `X̃ · (step of W)`, and the gradient differs from one known in f64 by `X̃ᵀ · (change of the residuals)`.
//! When that says it has converged, [`ObjectiveF64`] decides; if it disagrees, the solver continues from there with f64
//! logits and gradient (iterative refinement). So the result is as exact as f64 makes it, on any device.
//!
//! Steps along a ray need no product at all: its logits are known, and a line search costs exponentials only.

use rayon::prelude::*;

use super::fit::{Fit, FitLimits, FitSummary, check_labels};
use super::lbfgs::Lbfgs;
use super::objective_f64::{ObjectiveF64, residual};
use super::preconditioner::{MAX_FACTOR_WIDTH, Preconditioner};
use super::smooth::{Iteration, Limits, Smooth, Termination, axpy, dot};
use crate::device::Device;
use crate::probe::classifier::Classifier;
use crate::probe::error::{ProbeError, Result};
use crate::probe::features::design_matrix::DesignMatrix;
use crate::probe::features::matrix::{ROW_BLOCK, Rows};

/// The gradient is corrected in f64 when it has shrunk to this fraction, ten thousand times the products' rounding ...
const TRUSTED: f64 = 1e-3;
/// ... and after this many iterations at the latest. A correction costs about as much as three iterations.
const UNCORRECTED: usize = 100;

/// Data, labels and what is shared by the fits of several C.
pub struct Regression<'a, D: Device> {
    design: DesignMatrix<'a, D>,
    labels: &'a [u16],
    classes: usize,
    /// `X̃ᵀX̃`, or its diagonal for wide features.
    gram: Vec<f64>,
}

impl<'a, D: Device> Regression<'a, D> {
    /// Checks the labels and prepares the products.
    ///
    /// # Errors
    /// [`ProbeError::Unfit`] for labels that do not fit; those of [`DesignMatrix::new`].
    pub fn new(
        device: &'a D,
        rows: &'a dyn Rows,
        labels: &'a [u16],
        classes: usize,
        max_resident: usize,
    ) -> Result<Self> {
        check_labels(labels, rows.len(), classes)?;
        let design = DesignMatrix::new(device, rows, max_resident)?;
        let gram = if rows.width() <= MAX_FACTOR_WIDTH { design.gram()? } else { design.squares()? };
        Ok(Regression { design, labels, classes, gram })
    }

    /// Fits a classifier, from `start` or from zero. `watch` sees every iteration and says whether to go on.
    ///
    /// # Errors
    /// [`ProbeError::Unfit`] for a C that is not positive; those of the device.
    pub fn fit(
        &self,
        c: f64,
        start: Option<&Classifier>,
        limits: FitLimits,
        mut watch: impl FnMut(&Iteration) -> bool,
    ) -> Result<Fit> {
        if !(c > 0.0 && c.is_finite()) {
            return Err(ProbeError::Unfit(format!("C is {c}; it must be positive and finite")));
        }

        // Objective and gradient at the start, in f64.
        let mut problem = Problem::new(self, c, start)?;
        let mut solver = Lbfgs::default();
        let mut iterations = 0;
        let (mut objective, mut gradient_norm) = problem.correct()?;
        let mut classifier = problem.classifier();
        let converged = |objective: f64, norm: f64| norm * norm <= limits.tolerance * objective;

        // Minimise with f32 products, correct in f64, until the f64 gradient is short enough.
        let ending = loop {
            if converged(objective, gradient_norm) {
                break Termination::Converged;
            }
            let left = limits.iterations.saturating_sub(iterations);
            let inner = Limits {
                // A little further than asked, so that f64 agrees; no further than f32 products can be trusted.
                gradient_norm: TRUSTED * gradient_norm,
                relative: 0.25 * limits.tolerance,
                iterations: left.min(UNCORRECTED),
            };
            let minimum = solver.minimise(&mut problem, inner, |iteration| {
                watch(&Iteration { number: iterations + iteration.number, ..*iteration })
            })?;

            iterations += minimum.iterations;
            let (value, norm) = problem.correct()?;
            let rounding = problem.rounding(value);
            let progress = value < objective - rounding || norm < 0.5 * gradient_norm;
            if value <= objective + rounding {
                (objective, gradient_norm, classifier) = (value, norm, problem.classifier());
            }

            match minimum.ending {
                _ if converged(objective, gradient_norm) => break Termination::Converged,
                Termination::Interrupted => break Termination::Interrupted,
                _ if iterations >= limits.iterations => break Termination::IterationLimit,
                _ if !progress => break Termination::NoProgress,
                _ => {}
            }
        };

        let converged = ending == Termination::Converged;
        let summary = FitSummary { c: Some(c), objective, gradient_norm, iterations, converged, ending };
        Ok(Fit { classifier, summary })
    }
}

/// The objective in the solver's variables: `W` `[K, F]`, then the intercepts for centred features, `[K]`.
struct Problem<'a, D: Device> {
    regression: &'a Regression<'a, D>,
    c: f64,
    point: Vec<f64>,
    direction: Vec<f64>,
    /// At the point, `[N, K]`.
    logits: Vec<f64>,
    /// Change of the logits over the whole direction, `[N, K]`.
    ray: Vec<f32>,
    /// `p − y` where the gradient was last known in f64, `[N, K]`, and its product with the data there, `[K, F]`.
    reference: Vec<f64>,
    reference_product: Vec<f64>,
    preconditioner: Preconditioner,
    /// The mean of `p (1 − p)` that the preconditioner was made for.
    spread: f64,
}

impl<'a, D: Device> Problem<'a, D> {
    fn new(regression: &'a Regression<'a, D>, c: f64, start: Option<&Classifier>) -> Result<Self> {
        let (rows, width, classes) = (regression.labels.len(), regression.design.rows().width(), regression.classes);
        let dimension = classes * (width + 1);

        // Weights and, for centred features, intercepts.
        let mut point = vec![0.0; dimension];
        if let Some(start) = start {
            let (weights, intercepts) = point.split_at_mut(classes * width);
            weights.copy_from_slice(&start.weights);
            for (class, intercept) in intercepts.iter_mut().enumerate() {
                *intercept =
                    start.intercepts[class] + dot(&weights[class * width..][..width], regression.design.mean());
            }
        }

        // Of even probabilities.
        let spread = (classes - 1) as f64 / (classes * classes) as f64;
        Ok(Problem {
            regression,
            c,
            point,
            direction: vec![0.0; dimension],
            logits: vec![0.0; rows * classes],
            ray: vec![0.0; rows * classes],
            reference: vec![0.0; rows * classes],
            reference_product: vec![0.0; classes * width],
            preconditioner: regression.preconditioner(c * spread)?,
            spread,
        })
    }

    fn width(&self) -> usize {
        self.regression.design.rows().width()
    }

    /// The point as a classifier of features that are not centred.
    fn classifier(&self) -> Classifier {
        let (width, classes) = (self.width(), self.regression.classes);
        let (weights, intercepts) = self.point.split_at(classes * width);
        let mean = self.regression.design.mean();
        let intercepts = intercepts.iter().zip(weights.chunks_exact(width));
        let intercepts = intercepts.map(|(intercept, weights)| intercept - dot(weights, mean)).collect();
        Classifier { classes, width, weights: weights.to_vec(), intercepts }
    }

    /// Evaluates the point in f64, and takes logits and gradient from there. Returns objective and gradient norm.
    fn correct(&mut self) -> Result<(f64, f64)> {
        let classifier = self.classifier();
        let keep = Some((&mut self.logits[..], &mut self.reference[..]));
        let objective_f64 =
            ObjectiveF64::evaluate(&classifier, self.regression.design.rows(), self.regression.labels, keep)?;

        let mean = self.regression.design.mean();
        // Xᵀr, less the part of the columns' means.
        self.reference_product.copy_from_slice(&objective_f64.product);
        for (product, sum) in self.reference_product.chunks_exact_mut(mean.len()).zip(&objective_f64.sums) {
            product.iter_mut().zip(mean).for_each(|(product, mean)| *product -= sum * mean);
        }

        let spread: f64 = self.reference.iter().map(|r| (r.abs() * (1.0 - r.abs())).max(0.0)).sum();
        self.precondition_for(spread / self.reference.len() as f64)?;

        let (value, norm) =
            (objective_f64.objective(&classifier, self.c), objective_f64.gradient_norm(&classifier, self.c));
        if value.is_finite() && norm.is_finite() {
            Ok((value, norm))
        } else {
            Err(ProbeError::Unfit("the objective is not finite: the features are too large. Scale them down".into()))
        }
    }

    /// Makes the preconditioner anew if probabilities have become much surer since the last one.
    fn precondition_for(&mut self, spread: f64) -> Result<()> {
        let spread = spread.max(1e-6);
        if !(0.5 * self.spread..2.0 * self.spread).contains(&spread) {
            self.preconditioner = self.regression.preconditioner(self.c * spread)?;
            self.spread = spread;
        }
        Ok(())
    }
}

impl<D: Device> Regression<'_, D> {
    fn preconditioner(&self, scale: f64) -> Result<Preconditioner> {
        let width = self.design.rows().width();
        if self.gram.len() == width * width && width > 1 {
            Preconditioner::factor(&self.gram, width, scale)
        } else {
            Ok(Preconditioner::diagonal(&self.gram, scale))
        }
    }
}

impl<D: Device> Smooth for Problem<'_, D> {
    type Error = ProbeError;

    fn dimension(&self) -> usize {
        self.point.len()
    }

    fn gradient(&mut self, gradient: &mut [f64]) -> Result<f64> {
        let (classes, width, labels) = (self.regression.classes, self.width(), self.regression.labels);
        let (logits, reference) = (&self.logits, &self.reference);
        let mut change = vec![0.0_f32; logits.len()];

        // Residuals, and how they differ from those at the reference, by blocks of rows.
        let parts: Vec<(f64, f64, Vec<f64>)> = change
            .par_chunks_mut(ROW_BLOCK * classes)
            .enumerate()
            .map(|(block, change)| {
                let first = block * ROW_BLOCK;
                let (mut cross_entropy, mut spread, mut sums) = (0.0, 0.0, vec![0.0; classes]);
                let mut row = vec![0.0; classes];
                for (offset, change) in change.chunks_exact_mut(classes).enumerate() {
                    let at = (first + offset) * classes;
                    row.copy_from_slice(&logits[at..at + classes]);
                    cross_entropy += residual(&mut row, labels[first + offset]);
                    for (((change, sum), r), reference) in
                        change.iter_mut().zip(&mut sums).zip(&row).zip(&reference[at..])
                    {
                        *change = (r - reference) as f32;
                        *sum += r;
                        spread += (r.abs() * (1.0 - r.abs())).max(0.0);
                    }
                }
                (cross_entropy, spread, sums)
            })
            .collect();

        // Sums over the blocks, in their order.
        let (weights, intercepts) = gradient.split_at_mut(classes * width);
        weights.copy_from_slice(&self.reference_product);
        intercepts.fill(0.0);
        let (mut cross_entropy, mut spread) = (0.0, 0.0);
        for (part, part_spread, sums) in parts {
            cross_entropy += part;
            spread += part_spread;
            intercepts.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        }

        // X̃ᵀ · (change of the residuals), added to the product at the reference.
        let fill = |rows: std::ops::Range<usize>, out: &mut [f32]| {
            let change = &change[rows.start * classes..rows.end * classes];
            out.par_chunks_mut(rows.len()).enumerate().for_each(|(class, out)| {
                out.iter_mut().zip(change.chunks_exact(classes)).for_each(|(out, row)| *out = row[class]);
            });
        };
        self.regression.design.adjoint(classes, fill, weights)?;

        // The penalty.
        for (gradient, weight) in weights.iter_mut().zip(&self.point) {
            *gradient = weight + self.c * *gradient;
        }
        intercepts.iter_mut().for_each(|gradient| *gradient *= self.c);
        self.precondition_for(spread / change.len() as f64)?;
        let weights = &self.point[..classes * width];
        Ok(0.5 * dot(weights, weights) + self.c * cross_entropy)
    }

    fn aim(&mut self, direction: &[f64]) -> Result<()> {
        self.direction.copy_from_slice(direction);
        let (classes, width) = (self.regression.classes, self.width());
        let (weights, intercepts) = direction.split_at(classes * width);
        self.regression.design.product(weights, &mut self.ray)?;
        self.ray.par_chunks_mut(ROW_BLOCK * classes).for_each(|rows| {
            for row in rows.chunks_exact_mut(classes) {
                row.iter_mut().zip(intercepts).for_each(|(ray, intercept)| *ray += *intercept as f32);
            }
        });
        Ok(())
    }

    fn along(&mut self, step: f64) -> Result<(f64, f64)> {
        let (classes, labels, width) = (self.regression.classes, self.regression.labels, self.width());
        let parts: Vec<(f64, f64)> = self
            .logits
            .par_chunks(ROW_BLOCK * classes)
            .zip(self.ray.par_chunks(ROW_BLOCK * classes))
            .enumerate()
            .map(|(block, (logits, ray))| {
                let mut row = vec![0.0; classes];
                let mut part = (0.0, 0.0);
                for ((logits, ray), label) in
                    logits.chunks_exact(classes).zip(ray.chunks_exact(classes)).zip(&labels[block * ROW_BLOCK..])
                {
                    for ((row, logit), ray) in row.iter_mut().zip(logits).zip(ray) {
                        *row = logit + step * f64::from(*ray);
                    }
                    part.0 += residual(&mut row, *label);
                    part.1 += row.iter().zip(ray).map(|(r, ray)| r * f64::from(*ray)).sum::<f64>();
                }
                part
            })
            .collect();

        // In the order of the blocks.
        let (mut cross_entropy, mut slope) = (0.0, 0.0);
        for part in parts {
            cross_entropy += part.0;
            slope += part.1;
        }

        // ‖W + step · P‖² and its derivative.
        let (mut square, mut cross) = (0.0, 0.0);
        for (weight, along) in self.point.iter().zip(&self.direction).take(classes * width) {
            let moved = weight + step * along;
            square += moved * moved;
            cross += moved * along;
        }
        Ok((0.5 * square + self.c * cross_entropy, cross + self.c * slope))
    }

    fn advance(&mut self, step: f64) -> Result<()> {
        axpy(step, &self.direction, &mut self.point);
        self.logits.par_iter_mut().zip(&self.ray).for_each(|(logit, ray)| *logit += step * f64::from(*ray));
        Ok(())
    }

    fn precondition(&self, vector: &mut [f64]) {
        let (weights, intercepts) = vector.split_at_mut(self.regression.classes * self.width());
        self.preconditioner.apply(weights);
        let curvature = self.c * self.spread * self.regression.labels.len() as f64;
        intercepts.iter_mut().for_each(|value| *value /= curvature);
    }

    /// That of the gradient for features that are not centred.
    fn norm(&self, gradient: &[f64]) -> f64 {
        let (weights, intercepts) = gradient.split_at(self.regression.classes * self.width());
        let mean = self.regression.design.mean();
        let mut square = dot(intercepts, intercepts);
        for (row, intercept) in weights.chunks_exact(mean.len()).zip(intercepts) {
            square += row.iter().zip(mean).map(|(value, mean)| (value + mean * intercept).powi(2)).sum::<f64>();
        }
        square.sqrt()
    }
}
