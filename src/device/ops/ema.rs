//! The exponential moving average of a parameter.

use super::global_norm::VERDICT;
use crate::device::shape_check::{self, error, exactly};
use crate::device::{Result, Tensors};

/// Averages of parameters over the updates.
pub trait EmaOps: Tensors {
    /// `average += rate · (parameter − average)`, in f32, same shapes. Where the first number of `verdict` `[3]`, the gradients'
    /// global norm, is not finite, no update was made, and the average keeps its bits.
    fn ema(
        &self,
        average: &mut Self::Tensor,
        parameter: &Self::Tensor,
        rate: f32,
        verdict: &Self::Tensor,
    ) -> Result<()>;
}

/// Checks that the tensors of [`EmaOps::ema`] are of one shape, and that the rate is a part of the way.
pub fn check(average: &[usize], parameter: &[usize], rate: f32, verdict: &[usize]) -> shape_check::Result<()> {
    const OP: &str = "ema";
    exactly(OP, "parameter", parameter, average)?;
    if !(0.0..=1.0).contains(&rate) {
        return error(OP, "rate", "from 0 to 1", rate);
    }
    exactly(OP, "verdict", verdict, &[VERDICT])
}
