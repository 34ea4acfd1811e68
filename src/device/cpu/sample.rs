//! Choosing the next token. One row per token and a few hundred logits: clarity before speed.

use super::CpuDevice;
use super::tensor::{CpuTensor, CpuTokens};
use crate::device::Result;
use crate::device::ops::sample::{SampleOps, SampleOptions, check};

impl SampleOps for CpuDevice {
    fn sample(&self, logits: &CpuTensor, options: SampleOptions, uniforms: &[f32]) -> Result<CpuTokens> {
        let dims = check(logits.dimensions(), options, uniforms)?;
        let _timed = self.time("sample", 0.0, logits.values.len());
        let rows = logits.values.chunks_exact(dims.vocabulary).zip(uniforms);
        let ids = rows.map(|(logits, &uniform)| sample_row(logits, options, uniform)).collect();
        Ok(CpuTokens { shape: [dims.rows, 1], ids })
    }
}

/// The token at `uniform` in `[0, 1)` of the cumulative distribution of `logits`.
fn sample_row(logits: &[f32], options: SampleOptions, uniform: f32) -> u16 {
    if options.temperature == 0.0 {
        return argmax(logits);
    }

    // The most likely tokens.
    let kept = options.top_k.unwrap_or(logits.len()).min(logits.len());
    let mut candidates: Vec<u16> = (0..logits.len() as u16).collect();
    // A total order (ties go to the lower token), so the selection is one definite set.
    let order = |&a: &u16, &b: &u16| logits[usize::from(b)].total_cmp(&logits[usize::from(a)]).then(a.cmp(&b));
    if kept < logits.len() {
        candidates.select_nth_unstable_by(kept - 1, order);
        candidates.truncate(kept);
        candidates.sort_unstable();
    }

    // Of them those that make up the nucleus.
    let max = candidates.iter().map(|&token| logits[usize::from(token)]).fold(f32::NEG_INFINITY, f32::max);
    let weight = |token: u16| {
        let difference = f64::from(logits[usize::from(token)]) - f64::from(max);
        (difference / f64::from(options.temperature)).exp()
    };
    let mut total: f64 = candidates.iter().map(|&token| weight(token)).sum();
    if let Some(top_p) = options.top_p.filter(|top_p| *top_p < 1.0) {
        candidates.sort_unstable_by(order);
        let enough = f64::from(top_p) * total;
        let mut sum = 0.0;
        let last = candidates.iter().position(|&token| {
            sum += weight(token);
            sum >= enough
        });
        candidates.truncate(last.map_or(candidates.len(), |last| last + 1));
        candidates.sort_unstable();
        total = candidates.iter().map(|&token| weight(token)).sum();
    }

    // Invert their cumulative distribution.
    let wanted = f64::from(uniform) * total;
    let mut cumulative = 0.0;
    for &token in &candidates {
        cumulative += weight(token);
        if cumulative > wanted {
            return token;
        }
    }
    // Only logits that are NaN or all infinite come here.
    argmax(logits)
}

/// The first of the largest, among which NaN is below every number; so 0 if all are NaN.
fn argmax(logits: &[f32]) -> u16 {
    let mut best = 0;
    for (token, &logit) in logits.iter().enumerate() {
        if logit > logits[best] || logits[best].is_nan() && !logit.is_nan() {
            best = token;
        }
    }
    best as u16
}
