//! Stochastic gradient descent with momentum and a cosine schedule: the paper's probe on ImageNet (section 3.4), where
//! L-BFGS would hold a row of logits for each of 1.28 million images.
//!
//! The step's products are the device's; the weights, a small matrix, are updated on the host and sent.

use rand::seq::SliceRandom;

use super::fit::{Fit, FitSummary, TOLERANCE, check_labels};
use super::objective_f64::ObjectiveF64;
use super::smooth::Termination;
use crate::device::{Beta, Device, WeightLayout};
use crate::optim::{Schedule, ScheduleKind};
use crate::probe::classifier::Classifier;
use crate::probe::error::{ProbeError, Result};
use crate::probe::features::matrix::Rows;
use crate::random::{self, Purpose};

/// How weights are changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdOptions {
    /// Learning rate of the first step; it falls to zero by half a cosine.
    pub learning_rate: f64,
    /// Fraction of the last update that is added to the next.
    pub momentum: f64,
    /// Updates.
    pub steps: u64,
    /// Rows of an update.
    pub batch: usize,
    /// With it, the weights decay towards zero so that `½‖W‖² + C · Σ CE` is what is minimised; without, nothing is (the
    /// paper names no penalty).
    pub c: Option<f64>,
    /// Seed of the rows' order.
    pub seed: u64,
}

/// Which rows each update takes: an endless stream of shuffled passes over all rows, a function of the seed alone.
#[derive(Clone, Debug)]
pub struct Shuffled {
    seed: u64,
    rows: usize,
    epoch: Option<u64>,
    order: Vec<u32>,
}

impl Shuffled {
    /// The stream for this number of rows.
    pub fn new(seed: u64, rows: usize) -> Self {
        Shuffled { seed, rows, epoch: None, order: (0..rows as u32).collect() }
    }

    /// The rows of update `step`, `batch` of them.
    pub fn batch(&mut self, step: u64, batch: usize) -> Vec<u32> {
        let first = step * batch as u64;
        (first..first + batch as u64)
            .map(|sample| self.row(sample / self.rows as u64, sample % self.rows as u64))
            .collect()
    }

    fn row(&mut self, epoch: u64, index: u64) -> u32 {
        if self.epoch != Some(epoch) {
            let mut random = random::stream(self.seed, Purpose::ProbeShuffle, epoch, 0);
            self.order.sort_unstable();
            self.order.shuffle(&mut random);
            self.epoch = Some(epoch);
        }
        self.order[index as usize]
    }
}

/// Fits a classifier from zero weights. `order` names the rows of each update; `watch` is shown each update's number, from
/// 1, and mean cross-entropy, and says whether to go on.
///
/// # Errors
/// [`ProbeError::Unfit`] for labels that do not fit and options that say nothing; those of the device.
pub fn sgd<D: Device>(
    device: &D,
    rows: &dyn Rows,
    labels: &[u16],
    classes: usize,
    options: &SgdOptions,
    mut order: impl FnMut(u64) -> Vec<u32>,
    mut watch: impl FnMut(u64, f64) -> bool,
) -> Result<Fit> {
    check_labels(labels, rows.len(), classes)?;
    let SgdOptions { learning_rate, momentum, steps, c, .. } = *options;
    if !(learning_rate > 0.0 && learning_rate.is_finite()) || c.is_some_and(|c| !(c > 0.0 && c.is_finite())) {
        return Err(ProbeError::Unfit("the learning rate and C must be positive and finite".into()));
    }

    let width = rows.width();
    let schedule = Schedule { kind: ScheduleKind::Cosine, peak: learning_rate, warmup: 0, steps, cooldown: 0 };
    let decay = c.map_or(0.0, |c| 1.0 / (c * rows.len() as f64)) as f32;
    let mut weights = Updated::new(device, &[classes, width])?;
    let mut intercepts = Updated::new(device, &[classes])?;
    let (mut done, mut ending) = (0, Termination::IterationLimit);

    while done < steps {
        let picked = order(done);
        let loss = gradients(device, rows, labels, &picked, &mut weights, &mut intercepts)?;

        // Update.
        let rate = schedule.learning_rate(done) as f32;
        weights.update(device, rate, momentum as f32, decay)?;
        intercepts.update(device, rate, momentum as f32, 0.0)?;
        done += 1;

        if !loss.is_finite() {
            ending = Termination::Diverged;
            break;
        }
        if !watch(done, loss) {
            ending = Termination::Interrupted;
            break;
        }
    }

    // Judge the result in f64.
    let classifier = Classifier {
        classes,
        width,
        weights: weights.values.into_iter().map(f64::from).collect(),
        intercepts: intercepts.values.into_iter().map(f64::from).collect(),
    };
    let (objective, gradient_norm) = evaluate(&classifier, rows, labels, c)?;
    let converged = gradient_norm * gradient_norm <= TOLERANCE * objective;
    if !objective.is_finite() {
        ending = Termination::Diverged;
    }
    let summary = FitSummary { c, objective, gradient_norm, iterations: done as usize, converged, ending };
    Ok(Fit { classifier, summary })
}

/// The gradients of the mean cross-entropy of the rows `picked`, left in `weights` `[K, F]` and `intercepts` `[K]`; returns that
/// mean.
fn gradients<D: Device>(
    device: &D,
    rows: &dyn Rows,
    labels: &[u16],
    picked: &[u32],
    weights: &mut Updated<D>,
    intercepts: &mut Updated<D>,
) -> Result<f64> {
    // The batch: x [b, F], targets [b, 1], and how much each row counts.
    let width = rows.width();
    let mut x = vec![0.0; picked.len() * width];
    for (row, x) in picked.iter().zip(x.chunks_exact_mut(width)) {
        rows.row(*row as usize, x)?;
    }
    let targets: Vec<u16> = picked.iter().map(|row| labels[*row as usize]).collect();
    let x = device.upload(&[picked.len(), width], &x)?;
    let targets = device.upload_tokens([picked.len(), 1], &targets)?;
    let row_weights = device.upload(&[picked.len()], &vec![1.0 / picked.len() as f32; picked.len()])?;

    // Forward.
    let layout = WeightLayout::OutIn;
    let logits = device.linear(&x, &weights.tensor, layout, Some(&intercepts.tensor))?;
    let loss = device.cross_entropy(logits, &targets, &row_weights)?;

    // Backward.
    let gradients = (&mut weights.gradient, Some(&mut intercepts.gradient));
    device.linear_backward(&loss.d_logits, &x, &weights.tensor, layout, gradients.0, gradients.1, Beta::Zero)?;
    Ok(device.download(&loss.loss)?.first().copied().map_or(f64::NAN, f64::from))
}

/// Objective and gradient norm in f64; without C those of `Σ CE` alone.
fn evaluate(classifier: &Classifier, rows: &dyn Rows, labels: &[u16], c: Option<f64>) -> Result<(f64, f64)> {
    let objective_f64 = ObjectiveF64::evaluate(classifier, rows, labels, None)?;
    Ok(match c {
        Some(c) => (objective_f64.objective(classifier, c), objective_f64.gradient_norm(classifier, c)),
        None => {
            let square =
                objective_f64.product.iter().chain(&objective_f64.sums).map(|value| value * value).sum::<f64>();
            (objective_f64.cross_entropy, square.sqrt())
        }
    })
}

/// A parameter on the host and on the device, with its gradient and velocity.
struct Updated<D: Device> {
    values: Vec<f32>,
    velocity: Vec<f32>,
    tensor: D::Tensor,
    gradient: D::Tensor,
}

impl<D: Device> Updated<D> {
    fn new(device: &D, shape: &[usize]) -> Result<Self> {
        let zeros = vec![0.0; shape.iter().product()];
        Ok(Updated {
            velocity: zeros.clone(),
            values: zeros,
            tensor: device.zeros(shape)?,
            gradient: device.zeros(shape)?,
        })
    }

    /// `v ← momentum · v + (gradient + decay · w)`, `w ← w − rate · v`.
    fn update(&mut self, device: &D, rate: f32, momentum: f32, decay: f32) -> Result<()> {
        let gradient = device.download(&self.gradient)?;
        for ((value, velocity), gradient) in self.values.iter_mut().zip(&mut self.velocity).zip(gradient) {
            *velocity = momentum * *velocity + gradient + decay * *value;
            *value -= rate * *velocity;
        }
        Ok(device.overwrite(&mut self.tensor, &self.values)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::CpuDevice;
    use crate::probe::features::matrix::Matrix;

    #[test]
    fn the_stream_is_shuffled_passes_over_all_rows() {
        let mut stream = Shuffled::new(3, 10);
        let batches: Vec<u32> = (0..5).flat_map(|step| stream.batch(step, 4)).collect();
        for pass in batches.chunks(10) {
            let mut sorted = pass.to_vec();
            sorted.sort_unstable();
            assert!(sorted.iter().copied().eq(0..10));
        }
        assert_ne!(batches[..10], batches[10..]);
        // Any update can be asked for again.
        assert_eq!(stream.batch(2, 4), batches[8..12]);
        assert_ne!(Shuffled::new(4, 10).batch(0, 10), batches[..10]);
    }

    /// Two rows, one feature: small enough to follow by hand in f64.
    #[test]
    fn momentum_cosine_and_decay_are_as_they_are_written() {
        let device = CpuDevice::new(Some(1)).unwrap();
        let (x, labels) = (Matrix::new(1, vec![1.0, -2.0]).unwrap(), [0_u16, 1]);
        let options = SgdOptions { learning_rate: 0.8, momentum: 0.9, steps: 4, batch: 2, c: Some(5.0), seed: 0 };

        let mut losses = Vec::new();
        let fit = sgd(
            &device,
            &x,
            &labels,
            2,
            &options,
            |_| vec![0, 1],
            |_, loss| {
                losses.push(loss);
                true
            },
        );

        let fit = fit.unwrap();
        // By symmetry the second class's weights are the first's, negated.
        let (mut w, mut b, mut vw, mut vb) = (0.0_f64, 0.0_f64, 0.0_f64, 0.0_f64);
        assert_eq!(losses.len(), 4);
        for (step, &told) in losses.iter().enumerate() {
            let p = |x: f64| 1.0 / (1.0 + (-2.0 * (w * x + b)).exp());
            let (first, second) = (p(1.0) - 1.0, p(-2.0));
            let loss = -(p(1.0).ln() + (1.0 - p(-2.0)).ln()) / 2.0;
            assert!((told - loss).abs() < 1e-6, "{step}: {told} {loss}");
            vw = 0.9 * vw + (first - 2.0 * second) / 2.0 + w / (5.0 * 2.0);
            vb = 0.9 * vb + (first + second) / 2.0;
            let rate = 0.8 * 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / 4.0).cos());
            w -= rate * vw;
            b -= rate * vb;
        }

        let got = &fit.classifier;
        for (got, expected) in
            [(got.weights[0], w), (got.weights[1], -w), (got.intercepts[0], b), (got.intercepts[1], -b)]
        {
            assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        }
        assert_eq!((fit.summary.ending, fit.summary.iterations), (Termination::IterationLimit, 4));
    }

    #[test]
    fn divergence_is_said() {
        let device = CpuDevice::new(Some(1)).unwrap();
        let x = Matrix::new(1, vec![1e20, -2e20, 3e20, 1e19]).unwrap();
        let options = SgdOptions { learning_rate: 1e30, momentum: 0.9, steps: 50, batch: 2, c: None, seed: 0 };
        let mut stream = Shuffled::new(0, 4);
        let fit = sgd(&device, &x, &[0, 1, 0, 1], 2, &options, |step| stream.batch(step, 2), |_, _| true).unwrap();
        assert_eq!(fit.summary.ending, Termination::Diverged);
        assert!(!fit.summary.converged);
    }
}
