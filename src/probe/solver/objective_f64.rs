//! The objective in f64, on the host: what is reported, and what the solver corrects its f32 products by.

use rayon::prelude::*;

use crate::probe::classifier::Classifier;
use crate::probe::error::Result;
use crate::probe::features::matrix::{ROW_BLOCK, Rows, read_block};
use crate::probe::product::{View, add_product};

/// `½‖W‖² + C · Σ CE` and its parts at a classifier.
#[derive(Clone, Debug)]
pub struct ObjectiveF64 {
    /// `Σ CE` in nats, over all rows.
    pub cross_entropy: f64,
    /// `Xᵀ(p − y)`, as `[K, F]`.
    pub product: Vec<f64>,
    /// `Σ (p − y)`, `[K]`.
    pub sums: Vec<f64>,
}

/// Blocks whose `[K, F]` products are held at a time.
const TOGETHER: usize = 16;

impl ObjectiveF64 {
    /// Evaluates a classifier on rows with labels below its classes. `logits` `[N, K]` and `residuals` `[N, K]` (`p − y`),
    /// where wanted, are filled.
    ///
    /// # Errors
    /// As [`Rows::row`].
    pub fn evaluate(
        classifier: &Classifier,
        rows: &dyn Rows,
        labels: &[u16],
        mut keep: Option<(&mut [f64], &mut [f64])>,
    ) -> Result<Self> {
        let Classifier { classes, width, .. } = *classifier;
        let mut total =
            ObjectiveF64 { cross_entropy: 0.0, product: vec![0.0; classes * width], sums: vec![0.0; classes] };
        let blocks: Vec<usize> = (0..rows.len().div_ceil(ROW_BLOCK)).collect();
        for group in blocks.chunks(TOGETHER) {
            // Each block: logits, cross-entropy, p − y and Xᵀ(p − y).
            let parts: Vec<_> = group
                .par_iter()
                .map(|block| {
                    let x = read_block(rows, *block)?;
                    let count = x.len() / width;
                    let mut logits = vec![0.0; count * classes];
                    classifier.logits(&x, &mut logits);
                    let mut residuals = logits.clone();
                    let labels = &labels[block * ROW_BLOCK..][..count];
                    let cross_entropy: f64 =
                        residuals.chunks_exact_mut(classes).zip(labels).map(|(row, label)| residual(row, *label)).sum();
                    let mut product = vec![0.0; classes * width];
                    let p_minus_y = View::new(&residuals, [count, classes], classes).transpose();
                    add_product(&mut product, width, 1.0, p_minus_y, View::new(&x, [count, width], width));
                    Ok((cross_entropy, product, logits, residuals))
                })
                .collect::<Result<_>>()?;

            // Add them up.
            // In the order of the blocks, whoever computed them.
            for (block, (cross_entropy, product, logits, residuals)) in group.iter().zip(parts) {
                total.cross_entropy += cross_entropy;
                total.product.iter_mut().zip(product).for_each(|(sum, part)| *sum += part);
                for row in residuals.chunks_exact(classes) {
                    total.sums.iter_mut().zip(row).for_each(|(sum, part)| *sum += part);
                }
                if let Some((kept_logits, kept_residuals)) = &mut keep {
                    let first = block * ROW_BLOCK * classes;
                    kept_logits[first..][..logits.len()].copy_from_slice(&logits);
                    kept_residuals[first..][..residuals.len()].copy_from_slice(&residuals);
                }
            }
        }
        Ok(total)
    }

    /// `½‖W‖² + C · Σ CE`.
    pub fn objective(&self, classifier: &Classifier, c: f64) -> f64 {
        0.5 * classifier.squared_norm() + c * self.cross_entropy
    }

    /// Gradient with respect to `W` `[K, F]` and the intercepts `[K]`.
    pub fn gradient(&self, classifier: &Classifier, c: f64) -> (Vec<f64>, Vec<f64>) {
        let weights = self.product.iter().zip(&classifier.weights).map(|(product, weight)| weight + c * product);
        (weights.collect(), self.sums.iter().map(|sum| c * sum).collect())
    }

    /// Length of [`ObjectiveF64::gradient`].
    pub fn gradient_norm(&self, classifier: &Classifier, c: f64) -> f64 {
        let (weights, intercepts) = self.gradient(classifier, c);
        weights.iter().chain(&intercepts).map(|value| value * value).sum::<f64>().sqrt()
    }
}

/// Turns logits `[K]` into `p − y` and returns the cross-entropy, `−ln p[label]`.
pub(super) fn residual(logits: &mut [f64], label: u16) -> f64 {
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let target = logits[usize::from(label)] - highest;
    let mut sum = 0.0;
    for logit in logits.iter_mut() {
        *logit = (*logit - highest).exp();
        sum += *logit;
    }
    logits.iter_mut().for_each(|p| *p /= sum);
    logits[usize::from(label)] -= 1.0;
    sum.ln() - target
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::features::matrix::Matrix;

    /// More than a block of rows, three classes.
    fn problem() -> (Matrix, Vec<u16>, Classifier) {
        let (rows, width, classes) = (ROW_BLOCK + 31, 5, 3);
        let wave = |i: usize| ((i * 37 % 101) as f32 / 50.0 - 1.0) * (1.0 + (i % 7) as f32);
        let x = Matrix::new(width, (0..rows * width).map(wave).collect()).unwrap();
        let labels = (0..rows).map(|i| (i * 5 % 11 % 3) as u16).collect();
        let weights = (0..classes * width).map(|i| ((i * 13 % 17) as f64 - 8.0) / 20.0).collect();
        (x, labels, Classifier { classes, width, weights, intercepts: vec![0.3, -0.2, 0.05] })
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let (x, labels, classifier) = problem();
        let c = 0.7;
        let at = |classifier: &Classifier| {
            ObjectiveF64::evaluate(classifier, &x, &labels, None).unwrap().objective(classifier, c)
        };
        let objective_f64 = ObjectiveF64::evaluate(&classifier, &x, &labels, None).unwrap();
        let (weights, intercepts) = objective_f64.gradient(&classifier, c);

        let h = 1e-5;
        for (index, gradient) in weights.iter().chain(&intercepts).enumerate() {
            let moved = |by: f64| {
                let mut moved = classifier.clone();
                match index.checked_sub(weights.len()) {
                    None => moved.weights[index] += by,
                    Some(class) => moved.intercepts[class] += by,
                }
                at(&moved)
            };
            let difference = (moved(h) - moved(-h)) / (2.0 * h);
            assert!((difference - gradient).abs() < 1e-6 * gradient.abs().max(1.0), "{index}: {gradient} {difference}");
        }
    }

    #[test]
    fn what_is_known_without_computing() {
        let (x, labels, classifier) = problem();
        let zero = Classifier::zero(3, 5);
        let objective_f64 = ObjectiveF64::evaluate(&zero, &x, &labels, None).unwrap();
        assert!((objective_f64.cross_entropy / labels.len() as f64 - 3_f64.ln()).abs() < 1e-12);
        // The residuals of a row add up to nothing.
        let sums = ObjectiveF64::evaluate(&classifier, &x, &labels, None).unwrap().sums;
        assert!(sums.iter().sum::<f64>().abs() < 1e-9);
        // Far-out logits neither overflow nor become NaN.
        let mut row = [1e4, -1e4, 0.0];
        assert_eq!(residual(&mut row, 1), 2e4);
        assert_eq!(row, [1.0, -1.0, 0.0]);
    }
}
