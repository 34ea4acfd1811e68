//! Softmax cross-entropy and its gradient.

use crate::device::shape_check::{self, error, exactly, rows};
use crate::device::{Result, Tensors};

/// Output of [`CrossEntropyOps::cross_entropy`].
pub struct CrossEntropy<T> {
    /// `Σ_r weight_r · nll_r`, one element.
    pub loss: T,
    /// `−ln softmax(logits)[target]` of each row in nats, `[R]`.
    pub nll: T,
    /// Gradient of `loss` with respect to the logits, `[R, V]`; overwrites the logits.
    pub d_logits: T,
}

/// Softmax cross-entropy, loss and gradient in one pass.
pub trait CrossEntropyOps: Tensors {
    /// Softmax cross-entropy of `logits` `[.., V]` against `targets`, one per row, with its gradient in the same pass.
    /// `weights` `[R]` weigh the rows' losses; a row of weight zero has no loss and no gradient. A row whose weighted loss is
    /// not finite has a gradient of NaN.
    fn cross_entropy(
        &self,
        logits: Self::Tensor,
        targets: &Self::Tokens,
        weights: &Self::Tensor,
    ) -> Result<CrossEntropy<Self::Tensor>>;
}

/// Dimensions of logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogitsDims {
    /// Rows.
    pub rows: usize,
    /// Colours, or classes.
    pub vocabulary: usize,
}

/// Checks the shapes of `cross_entropy`; `targets` in any shape of as many tokens as rows.
pub fn check(logits: &[usize], targets: [usize; 2], weights: &[usize]) -> shape_check::Result<LogitsDims> {
    const OP: &str = "cross_entropy";
    let (rows, vocabulary) = rows(OP, "logits", logits)?;
    if targets.iter().product::<usize>() != rows {
        return error(OP, "targets", format!("{rows} tokens, one for each row of the logits"), targets);
    }
    exactly(OP, "weights", weights, &[rows])?;
    Ok(LogitsDims { rows, vocabulary })
}
