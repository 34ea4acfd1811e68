//! The norm of all gradients together, and whether a step may be made with it.

use crate::device::shape_check::{self, exactly};
use crate::device::{Result, Tensors};

/// Floats of a verdict: the norm, the steps that were skipped, and how many of them in a row.
pub const VERDICT: usize = 3;

/// The norm that gradients are clipped by.
pub trait GlobalNormOps: Tensors {
    /// Euclidean norm of all the tensors' elements together, one element, left on the device.
    fn global_norm(&self, tensors: &[Self::Tensor]) -> Result<Self::Tensor>;

    /// The same norm as the first element of `verdict` `[3]`. One that is not finite counts as a skipped step: it adds 1 to
    /// the second element and to the third, which a finite one sets to 0. All of it stays on the device, so that it can
    /// be recorded, and [`adam`](crate::device::AdamOps::adam) makes no update with a norm that is not finite.
    fn judge_gradients(&self, tensors: &[Self::Tensor], verdict: &mut Self::Tensor) -> Result<()>;
}

/// Checks the shape of a verdict.
pub fn check_verdict(verdict: &[usize]) -> shape_check::Result<()> {
    exactly("judge_gradients", "verdict", verdict, &[VERDICT])
}
