//! A linear classifier, and what it says of rows.

use rayon::prelude::*;

use super::error::Result;
use super::features::matrix::{ROW_BLOCK, Rows, read_block};
use super::product::{View, add_product};

/// `logits = x · Wᵀ + b`.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier {
    /// Classes, `K`.
    pub classes: usize,
    /// Features, `F`.
    pub width: usize,
    /// `W`, `[K, F]`.
    pub weights: Vec<f64>,
    /// `b`, `[K]`.
    pub intercepts: Vec<f64>,
}

impl Classifier {
    /// All zero: every class is as likely.
    pub fn zero(classes: usize, width: usize) -> Self {
        Classifier { classes, width, weights: vec![0.0; classes * width], intercepts: vec![0.0; classes] }
    }

    /// `‖W‖²`; the intercepts do not count.
    pub fn squared_norm(&self) -> f64 {
        self.weights.iter().map(|weight| weight * weight).sum()
    }

    /// Logits of some rows in f64: `x` `[rows, F]` → `logits` `[rows, K]`.
    pub(super) fn logits(&self, x: &[f64], logits: &mut [f64]) {
        let rows = x.len() / self.width;
        for logits in logits.chunks_exact_mut(self.classes) {
            logits.copy_from_slice(&self.intercepts);
        }
        let weights = View::new(&self.weights, [self.classes, self.width], self.width);
        let x = View::new(x, [rows, self.width], self.width);
        add_product(logits, self.classes, 1.0, x, weights.transpose());
    }

    /// The class of each row: that of the highest logit, the first of equals.
    ///
    /// # Errors
    /// As [`Rows::row`].
    pub fn predict(&self, rows: &dyn Rows) -> Result<Vec<u16>> {
        let blocks: Vec<Vec<u16>> = (0..rows.len().div_ceil(ROW_BLOCK))
            .into_par_iter()
            .map(|block| {
                let x = read_block(rows, block)?;
                let mut logits = vec![0.0; x.len() / self.width * self.classes];
                self.logits(&x, &mut logits);
                Ok(logits.chunks_exact(self.classes).map(first_highest).collect())
            })
            .collect::<Result<_>>()?;
        Ok(blocks.concat())
    }

    /// The fraction of rows whose predicted class is their label.
    ///
    /// # Errors
    /// As [`Rows::row`].
    pub fn accuracy(&self, rows: &dyn Rows, labels: &[u16]) -> Result<f64> {
        Ok(accuracy_of(&self.predict(rows)?, labels))
    }
}

fn first_highest(logits: &[f64]) -> u16 {
    let mut best = 0;
    for (class, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = class;
        }
    }
    best as u16
}

/// The fraction of `predicted` that equals `labels`.
pub fn accuracy_of(predicted: &[u16], labels: &[u16]) -> f64 {
    let right = predicted.iter().zip(labels).filter(|(predicted, label)| predicted == label).count();
    right as f64 / labels.len() as f64
}
