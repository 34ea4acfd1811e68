//! Attention in f64, a row at a time: for checks.

use rayon::prelude::*;

use igpt_engine::device::Mask;

use super::attention::Shape;

/// Operands on the host: `qkv` `[B, T, 3d]` and the gradient of the output `[B, T, d]`.
pub struct Exact {
    shape: Shape,
    qkv: Vec<f32>,
    dy: Vec<f32>,
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

fn add(to: &mut [f64], factor: f64, row: &[f32]) {
    for (to, value) in to.iter_mut().zip(row) {
        *to += factor * f64::from(*value);
    }
}

impl Exact {
    pub(super) fn new(shape: Shape, qkv: Vec<f32>, dy: Vec<f32>) -> Self {
        Self { shape, qkv, dy }
    }

    /// Image, head and token of the rows that are compared.
    pub fn places(&self) -> [(usize, usize, usize); 2] {
        let Shape { images, tokens, heads, .. } = self.shape;
        [(images - 1, heads - 1, tokens - 1), (0, heads / 2, tokens / 2)]
    }

    /// The row of q, k or v (0, 1, 2).
    fn row(&self, third: usize, image: usize, head: usize, token: usize) -> &[f32] {
        let (width, columns) = (self.shape.width(), self.shape.columns);
        let at = (image * self.shape.tokens + token) * 3 * width + third * width + head * columns;
        &self.qkv[at..at + columns]
    }

    fn gradient(&self, image: usize, head: usize, token: usize) -> &[f32] {
        let (width, columns) = (self.shape.width(), self.shape.columns);
        let at = (image * self.shape.tokens + token) * width + head * columns;
        &self.dy[at..at + columns]
    }

    fn scale(&self) -> f64 {
        1.0 / (self.shape.columns as f64).sqrt()
    }

    /// The softmax of a query over the keys that it sees.
    fn weights(&self, image: usize, head: usize, token: usize) -> Vec<f64> {
        let seen = if self.shape.mask == Mask::Causal { token + 1 } else { self.shape.tokens };
        let query = self.row(0, image, head, token);
        let scores: Vec<f64> = (0..seen).map(|key| self.scale() * dot(query, self.row(1, image, head, key))).collect();
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let powers: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
        let sum: f64 = powers.iter().sum();
        powers.iter().map(|power| power / sum).collect()
    }

    /// A row of the output.
    pub fn output(&self, image: usize, head: usize, token: usize) -> Vec<f64> {
        let mut output = vec![0.0; self.shape.columns];
        for (key, weight) in self.weights(image, head, token).iter().enumerate() {
            add(&mut output, *weight, self.row(2, image, head, key));
        }
        output
    }

    /// A query's weights, and the gradients of its scores.
    fn d_scores(&self, image: usize, head: usize, token: usize) -> (Vec<f64>, Vec<f64>) {
        let weights = self.weights(image, head, token);
        let gradient = self.gradient(image, head, token);
        let d_weights: Vec<f64> = (0..weights.len()).map(|key| dot(gradient, self.row(2, image, head, key))).collect();
        let mean: f64 = weights.iter().zip(&d_weights).map(|(weight, d)| weight * d).sum();
        let d_scores = weights.iter().zip(&d_weights).map(|(weight, d)| weight * (d - mean)).collect();
        (weights, d_scores)
    }

    /// A row of the gradient of q.
    pub fn d_query(&self, image: usize, head: usize, token: usize) -> Vec<f64> {
        let mut d_query = vec![0.0; self.shape.columns];
        for (key, d_score) in self.d_scores(image, head, token).1.iter().enumerate() {
            add(&mut d_query, self.scale() * d_score, self.row(1, image, head, key));
        }
        d_query
    }

    /// A row of the gradient of k, and of v: over all queries that see the key.
    pub fn d_key_and_value(&self, image: usize, head: usize, key: usize) -> (Vec<f64>, Vec<f64>) {
        let first = if self.shape.mask == Mask::Causal { key } else { 0 };
        let zeros = || (vec![0.0; self.shape.columns], vec![0.0; self.shape.columns]);
        let of_query = |(mut d_key, mut d_value): (Vec<f64>, Vec<f64>), query: usize| {
            let (weights, d_scores) = self.d_scores(image, head, query);
            add(&mut d_key, self.scale() * d_scores[key], self.row(0, image, head, query));
            add(&mut d_value, weights[key], self.gradient(image, head, query));
            (d_key, d_value)
        };
        let sum = |(mut a, mut b): (Vec<f64>, Vec<f64>), (c, d): (Vec<f64>, Vec<f64>)| {
            a.iter_mut().zip(c).for_each(|(a, c)| *a += c);
            b.iter_mut().zip(d).for_each(|(b, d)| *b += d);
            (a, b)
        };
        (first..self.shape.tokens).into_par_iter().fold(zeros, of_query).reduce(zeros, sum)
    }
}
