//! Sampling of the next token.

use super::cross_entropy::LogitsDims;
use crate::device::shape_check::{self, error};
use crate::device::{Result, Tensors};

/// How the next token is chosen from its logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleOptions {
    /// Logits are divided by this; 0 takes the most likely token: the first of equals, as zeros of either sign are. NaN is less likely than
    /// any number, so of logits that are all NaN it is the first token.
    pub temperature: f32,
    /// Only this many of the most likely tokens may be drawn; all if `None`.
    pub top_k: Option<usize>,
    /// Of these only the most likely whose probabilities together reach this much, above 0 and at most 1, of all of theirs:
    /// the nucleus (Holtzman and others, 2019). The token that reaches it is the last; of equals the lower tokens come first.
    pub top_p: Option<f32>,
}

impl SampleOptions {
    /// Draws from the model's own distribution: no cuts, temperature 1.
    pub const PLAIN: Self = Self { temperature: 1.0, top_k: None, top_p: None };
}

/// The choice of the next token.
pub trait SampleOps: Tensors {
    /// Draws a token for each row of `logits` (`[B, V]` or `[B, 1, V]`) by inverting the cumulative distribution at
    /// `uniforms` (one in `[0, 1)` per row); `[B, 1]`.
    fn sample(&self, logits: &Self::Tensor, options: SampleOptions, uniforms: &[f32]) -> Result<Self::Tokens>;
}

/// Checks the shapes of `sample`, whose options and uniforms are checked as well.
pub fn check(logits: &[usize], options: SampleOptions, uniforms: &[f32]) -> shape_check::Result<LogitsDims> {
    const OP: &str = "sample";

    // The logits.
    let (rows, vocabulary) = match *logits {
        [rows, vocabulary] | [rows, 1, vocabulary] => (rows, vocabulary),
        _ => return error(OP, "logits", "[B, V] or [B, 1, V]", logits),
    };
    if vocabulary > usize::from(u16::MAX) {
        return error(OP, "logits", "of fewer classes than a token can name", logits);
    }

    // The options.
    if !(options.temperature.is_finite() && options.temperature >= 0.0) {
        return error(OP, "temperature", "finite and not negative", options.temperature);
    }
    if options.top_k == Some(0) {
        return error(OP, "top_k", "at least 1", 0);
    }
    if let Some(top_p) = options.top_p.filter(|top_p| !(*top_p > 0.0 && *top_p <= 1.0)) {
        return error(OP, "top_p", "above 0 and at most 1", top_p);
    }

    // A number in [0, 1) per row.
    if uniforms.len() != rows {
        return error(OP, "uniforms", format!("{rows}, one per row"), uniforms.len());
    }
    if let Some(outside) = uniforms.iter().find(|uniform| !(0.0..1.0).contains(*uniform)) {
        return error(OP, "uniforms", "in [0, 1)", outside);
    }
    Ok(LogitsDims { rows, vocabulary })
}
