//! The Adam update.

use super::global_norm::VERDICT;
use crate::device::shape_check::{self, error, exactly, maybe};
use crate::device::{Result, Tensors};

/// One update of Adam (Kingma & Ba 2015, algorithm 1), bias corrections included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment, after its bias correction.
    pub epsilon: f32,
    /// Which update this is, from 1.
    pub step: u64,
}

/// Gradients whose norm is above `max_norm` are scaled down to it, and no update is made with those whose norm is infinite or
/// NaN.
pub struct Clip<'a, T> {
    /// The global norm, as [`GlobalNormOps`](crate::device::GlobalNormOps) left it on the device: alone, or first of a
    /// verdict.
    pub norm: &'a T,
    /// The clip threshold; infinite for none.
    pub max_norm: f32,
}

/// The Adam update.
pub trait AdamOps: Tensors {
    /// Sets the step that the next calls of [`AdamOps::adam`] take, replayed ones included: a recording holds no step
    /// of its own.
    fn set_adam_step(&self, step: AdamStep) -> Result<()>;

    /// One Adam update of all `parameters` and their moments, in the order of the parameters; `gradients` are clipped on the way
    /// if `clip` says so. Where the norm of `clip` is not finite, all of them keep their bits.
    fn adam(
        &self,
        parameters: &mut [Self::Tensor],
        gradients: &[Self::Tensor],
        first_moments: &mut [Self::Tensor],
        second_moments: &mut [Self::Tensor],
        step: AdamStep,
        clip: Option<Clip<'_, Self::Tensor>>,
    ) -> Result<()>;
}

/// Checks that [`AdamOps::adam`] has as many gradients and moments as parameters.
pub fn check_counts(parameters: usize, gradients: usize, first: usize, second: usize) -> shape_check::Result<()> {
    for (argument, count) in [("gradients", gradients), ("first_moments", first), ("second_moments", second)] {
        if count != parameters {
            return error("adam", argument, format!("{parameters}, one per parameter"), count);
        }
    }
    Ok(())
}

/// Checks that the tensors of one parameter of [`AdamOps::adam`] are of one shape, that `norm` is what
/// [`GlobalNormOps`](crate::device::GlobalNormOps) makes, and that steps are counted from 1.
pub fn check(
    parameter: &[usize],
    gradient: &[usize],
    first_moment: &[usize],
    second_moment: &[usize],
    norm: Option<&[usize]>,
    step: u64,
) -> shape_check::Result<()> {
    const OP: &str = "adam";
    if step == 0 {
        return error(OP, "step", "at least 1", step);
    }
    exactly(OP, "gradient", gradient, parameter)?;
    exactly(OP, "first_moment", first_moment, parameter)?;
    exactly(OP, "second_moment", second_moment, parameter)?;
    maybe(OP, "the norm to clip by", norm.filter(|shape| *shape != [VERDICT]), &[1])
}
