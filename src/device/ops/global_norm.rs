//! The norm of all gradients together, and whether a step may be made with it.

use crate::device::shape_check::{self, error, exactly};
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

    /// The same in two halves, between which others can put their own sums. First the sum of squares of every [`NORM_BLOCK`] elements
    /// of each tensor, f32, into `sums` `[n, 2]`: a float of 64 bits in the place of two. The last block of a tensor may be shorter.
    fn square_sums(&self, tensors: &[Self::Tensor], sums: &mut Self::Tensor) -> Result<()>;

    /// Then [`GlobalNormOps::judge_gradients`] from the first `count` of such sums, added in their order.
    fn judge_sums(&self, sums: &Self::Tensor, count: usize, verdict: &mut Self::Tensor) -> Result<()>;
}

/// Elements whose squares [`GlobalNormOps::square_sums`] adds up in one.
pub const NORM_BLOCK: usize = 16 * 1024;

/// Checks that `sums` are as many as the blocks of tensors of as many `elements`.
pub fn check_sums(elements: impl Iterator<Item = usize>, sums: &[usize]) -> shape_check::Result<()> {
    exactly("square_sums", "sums", sums, &[elements.map(|count| count.div_ceil(NORM_BLOCK)).sum(), 2])
}

/// Checks that there are `count` sums.
pub fn check_count(sums: &[usize], count: usize) -> shape_check::Result<()> {
    match sums {
        &[there, 2] if count <= there => Ok(()),
        _ => error("judge_sums", "sums", format!("of {count} sums or more, [n, 2]"), sums),
    }
}

/// Checks the shape of a verdict.
pub fn check_verdict(verdict: &[usize]) -> shape_check::Result<()> {
    exactly("judge_gradients", "verdict", verdict, &[VERDICT])
}
