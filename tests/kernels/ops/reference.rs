//! The ops as definitions: f64, one loop after another, nothing shared with any device.
//!
//! [`naively`] evaluates the same definitions as an engine with a kernel for each elementary step does: each step stores its
//! result in bf16, as in PyTorch with a model in bf16. Sums within a step are exact.

use std::cell::Cell;

use half::bf16;
use igpt_engine::device::{Activation, BLANK, Mask, Norm, WeightLayout};

const NORM_EPSILON: f64 = 1e-5;

thread_local! {
    /// Whether steps store what they give in bf16.
    static NAIVE: Cell<bool> = const { Cell::new(false) };
}

/// The result of `definition` if each of its steps stores its result in bf16.
pub fn naively<T>(definition: impl FnOnce() -> T) -> T {
    NAIVE.set(true);
    let result = definition();
    NAIVE.set(false);
    result
}

/// The result of a step, as the next one finds it.
pub fn stored(value: f64) -> f64 {
    if NAIVE.get() { bf16::from_f64(value).to_f64() } else { value }
}

pub fn embedding(table: &[f64], positions: &[f64], ids: &[u16], tokens: usize, width: usize, first: usize) -> Vec<f64> {
    let mut y = Vec::new();
    for (row, &id) in ids.iter().enumerate() {
        for column in 0..width {
            let content = if id == BLANK { 0.0 } else { table[usize::from(id) * width + column] };
            y.push(stored(content + positions[(first + row % tokens) * width + column]));
        }
    }
    y
}

/// `(y, stats)`.
pub fn layernorm(norm: Norm, x: &[f64], gain: &[f64], bias: Option<&[f64]>) -> (Vec<f64>, Vec<f64>) {
    let width = gain.len();
    let (mut y, mut stats) = (Vec::new(), Vec::new());
    for row in x.chunks(width) {
        let mean = if norm == Norm::Rms { 0.0 } else { stored(row.iter().sum::<f64>() / width as f64) };
        let variance = stored(row.iter().map(|x| stored(stored(x - mean).powi(2))).sum::<f64>() / width as f64);
        let rstd = stored(1.0 / stored((variance + NORM_EPSILON).sqrt()));
        for column in 0..width {
            let scaled = stored(stored(stored(row[column] - mean) * rstd) * gain[column]);
            y.push(stored(scaled + bias.map_or(0.0, |bias| bias[column])));
        }
        stats.extend([mean, rstd]);
    }
    (y, stats)
}

/// `(dx, d_gain, d_bias)`.
pub fn layernorm_backward(norm: Norm, dy: &[f64], x: &[f64], gain: &[f64]) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let width = gain.len();
    let (_, stats) = layernorm(norm, x, gain, None);
    let (mut dx, mut d_gain, mut d_bias) = (Vec::new(), vec![0.0; width], vec![0.0; width]);
    for ((dy, x), stats) in dy.chunks(width).zip(x.chunks(width)).zip(stats.chunks(2)) {
        let normed: Vec<f64> = x.iter().map(|x| stored(stored(x - stats[0]) * stats[1])).collect();
        let upstream: Vec<f64> = dy.iter().zip(gain).map(|(dy, gain)| stored(dy * gain)).collect();
        let dot = stored(upstream.iter().zip(&normed).map(|(u, n)| stored(u * n)).sum::<f64>() / width as f64);
        let shift = if norm == Norm::Rms { 0.0 } else { stored(upstream.iter().sum::<f64>() / width as f64) };
        for column in 0..width {
            let inner = stored(stored(upstream[column] - shift) - stored(normed[column] * dot));
            dx.push(stored(stats[1] * inner));
            d_gain[column] += stored(dy[column] * normed[column]);
            d_bias[column] += dy[column];
        }
    }
    (dx, d_gain.into_iter().map(stored).collect(), d_bias.into_iter().map(stored).collect())
}

/// `[n, k] · [k, m]`.
pub fn matmul(a: &[f64], b: &[f64], n: usize, k: usize, m: usize) -> Vec<f64> {
    let mut c = vec![0.0; n * m];
    for i in 0..n {
        for j in 0..m {
            c[i * m + j] = stored((0..k).map(|l| a[i * k + l] * b[l * m + j]).sum());
        }
    }
    c
}

/// `[rows, columns]` to `[columns, rows]`.
pub fn transpose(a: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    let mut t = Vec::new();
    for column in 0..columns {
        t.extend((0..rows).map(|row| a[row * columns + column]));
    }
    t
}

pub fn column_sums(a: &[f64], columns: usize) -> Vec<f64> {
    (0..columns).map(|column| stored(a.iter().skip(column).step_by(columns).sum())).collect()
}

/// Rows, inputs, outputs.
#[derive(Clone, Copy, Debug)]
pub struct Sizes(pub usize, pub usize, pub usize);

pub fn linear(x: &[f64], weight: &[f64], layout: WeightLayout, bias: Option<&[f64]>, sizes: Sizes) -> Vec<f64> {
    let Sizes(rows, inputs, outputs) = sizes;
    let weight = match layout {
        WeightLayout::InOut => weight.to_vec(),
        WeightLayout::OutIn => transpose(weight, outputs, inputs),
    };
    let mut y = matmul(x, &weight, rows, inputs, outputs);
    if let Some(bias) = bias {
        y.chunks_mut(outputs).for_each(|row| row.iter_mut().zip(bias).for_each(|(y, bias)| *y = stored(*y + bias)));
    }
    y
}

/// `(dx, d_weight, d_bias)`.
pub fn linear_backward(
    dy: &[f64],
    x: &[f64],
    weight: &[f64],
    layout: WeightLayout,
    sizes: Sizes,
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let Sizes(rows, inputs, outputs) = sizes;
    let d_bias = column_sums(dy, outputs);
    match layout {
        WeightLayout::InOut => {
            let dx = matmul(dy, &transpose(weight, inputs, outputs), rows, outputs, inputs);
            (dx, matmul(&transpose(x, rows, inputs), dy, inputs, rows, outputs), d_bias)
        }
        WeightLayout::OutIn => {
            let dx = matmul(dy, weight, rows, outputs, inputs);
            (dx, matmul(&transpose(dy, rows, outputs), x, outputs, rows, inputs), d_bias)
        }
    }
}

/// `erf(x) = 2/√π · e^(−x²) · Σ 2ⁿ x²ⁿ⁺¹ / (2n+1)!!`, all terms of one sign.
pub fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

/// The normal distribution `Φ(x) = erfc(−x/√2) / 2`, with all digits of the left tail: there erfc is a continued fraction (Abramowitz and
/// Stegun, 7.1.14), of which 100 levels are exact to f64 from 2 on.
pub fn normal_cdf(x: f64) -> f64 {
    let z = -x / 2f64.sqrt();
    if z < 2.0 {
        return 0.5 * (1.0 + erf(x / 2f64.sqrt()));
    }
    let fraction = (1..=100).rev().fold(z, |below, level| z + f64::from(level) / 2.0 / below);
    0.5 * (-z * z).exp() / (std::f64::consts::PI.sqrt() * fraction)
}

pub fn activation(activation: Activation, x: f64) -> f64 {
    stored(match activation {
        Activation::QuickGelu => x * stored(1.0 / (1.0 + stored(-1.702 * x).exp())),
        Activation::Gelu => x * normal_cdf(x),
    })
}

pub fn activation_derivative(activation: Activation, x: f64) -> f64 {
    stored(match activation {
        Activation::QuickGelu => {
            let sigmoid = 1.0 / (1.0 + (-1.702 * x).exp());
            sigmoid + 1.702 * x * sigmoid * (1.0 - sigmoid)
        }
        Activation::Gelu => {
            let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
            normal_cdf(x) + x * density
        }
    })
}

/// Multi-head attention of one shape.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    pub batch: usize,
    pub tokens: usize,
    pub heads: usize,
    pub head_dim: usize,
    pub mask: Mask,
}

impl Attention {
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Where element `e` of a token's query (part 0), key (1) or value (2) stands in `qkv`.
    fn at(&self, image: usize, token: usize, part: usize, head: usize, e: usize) -> usize {
        ((image * self.tokens + token) * 3 + part) * self.width() + head * self.head_dim + e
    }

    /// Pairs of a query and a key that it sees, of all heads and images.
    pub fn pairs(&self) -> usize {
        let of_head =
            if self.mask == Mask::Full { self.tokens * self.tokens } else { self.tokens * (self.tokens + 1) / 2 };
        self.batch * self.heads * of_head
    }

    fn sees(&self, query: usize, key: usize) -> bool {
        self.mask == Mask::Full || key <= query
    }

    /// The attention weights of one query, and the logarithm of their denominator.
    fn weights(&self, qkv: &[f64], image: usize, head: usize, query: usize) -> (Vec<f64>, f64) {
        let scores: Vec<f64> = (0..self.tokens)
            .map(|key| {
                let products = (0..self.head_dim)
                    .map(|e| qkv[self.at(image, query, 0, head, e)] * qkv[self.at(image, key, 1, head, e)]);
                let score = stored(stored(products.sum()) / (self.head_dim as f64).sqrt());
                if self.sees(query, key) { score } else { f64::NEG_INFINITY }
            })
            .collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|score| (score - max).exp()).sum();
        (scores.iter().map(|score| stored((score - max).exp() / sum)).collect(), max + sum.ln())
    }

    /// `(output, logsumexp)`.
    pub fn forward(&self, qkv: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let mut output = vec![0.0; self.batch * self.tokens * self.width()];
        let mut logsumexp = Vec::new();
        for image in 0..self.batch {
            for head in 0..self.heads {
                for query in 0..self.tokens {
                    let (weights, log) = self.weights(qkv, image, head, query);
                    logsumexp.push(log);
                    for e in 0..self.head_dim {
                        let at = (image * self.tokens + query) * self.width() + head * self.head_dim + e;
                        let values = (0..self.tokens).map(|key| weights[key] * qkv[self.at(image, key, 2, head, e)]);
                        output[at] = stored(values.sum());
                    }
                }
            }
        }
        (output, logsumexp)
    }

    /// Gradient of `qkv`.
    pub fn backward(&self, dy: &[f64], qkv: &[f64]) -> Vec<f64> {
        let scale = 1.0 / (self.head_dim as f64).sqrt();
        let mut d_qkv = vec![0.0; qkv.len()];

        for image in 0..self.batch {
            for head in 0..self.heads {
                for query in 0..self.tokens {
                    let (weights, _) = self.weights(qkv, image, head, query);
                    let dy = |e: usize| dy[(image * self.tokens + query) * self.width() + head * self.head_dim + e];

                    let d_weights: Vec<f64> = (0..self.tokens)
                        .map(|key| (0..self.head_dim).map(|e| dy(e) * qkv[self.at(image, key, 2, head, e)]).sum())
                        .map(stored)
                        .collect();

                    let mean: f64 = weights.iter().zip(&d_weights).map(|(p, dp)| p * dp).sum();

                    for key in 0..self.tokens {
                        let d_score = stored(stored(weights[key] * (d_weights[key] - mean)) * scale);
                        for e in 0..self.head_dim {
                            let (q, k) = (self.at(image, query, 0, head, e), self.at(image, key, 1, head, e));
                            d_qkv[q] += d_score * qkv[k];
                            d_qkv[k] += d_score * qkv[q];
                            d_qkv[self.at(image, key, 2, head, e)] += weights[key] * dy(e);
                        }
                    }
                }
            }
        }

        d_qkv.into_iter().map(stored).collect()
    }
}

/// `(nll, d_logits)`: a row of weight zero counts for nothing, and without a target has an nll of zero.
pub fn cross_entropy(logits: &[f64], targets: &[u16], weights: &[f64], vocabulary: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut nll, mut d_logits) = (Vec::new(), Vec::new());
    for ((row, &target), &weight) in logits.chunks(vocabulary).zip(targets).zip(weights) {
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_sum = max + row.iter().map(|logit| (logit - max).exp()).sum::<f64>().ln();
        nll.push(row.get(usize::from(target)).map_or(0.0, |logit| stored(log_sum - logit)));
        for (class, logit) in row.iter().enumerate() {
            let onehot = if class == usize::from(target) { 1.0 } else { 0.0 };
            d_logits.push(stored(weight * (stored(logit - log_sum).exp() - onehot)));
        }
    }
    (nll, d_logits)
}

/// Kingma & Ba 2015, algorithm 1, as printed.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
}

impl Adam {
    pub fn step(&self, parameter: &mut f64, gradient: f64, first: &mut f64, second: &mut f64, t: i32) {
        *first = self.beta1 * *first + (1.0 - self.beta1) * gradient;
        *second = self.beta2 * *second + (1.0 - self.beta2) * gradient * gradient;
        let corrected_first = *first / (1.0 - self.beta1.powi(t));
        let corrected_second = *second / (1.0 - self.beta2.powi(t));
        *parameter -= self.learning_rate * corrected_first / (corrected_second.sqrt() + self.epsilon);
    }
}
