//! Passes over every element.

use crate::device::shape_check::{self, exactly};
use crate::device::{Result, Tensors};

/// Passes over every element.
pub trait ElementwiseOps: Tensors {
    /// Sets every element to zero.
    fn zero(&self, tensor: &mut Self::Tensor) -> Result<()>;

    /// `into += other`, same shapes.
    fn add_assign(&self, into: &mut Self::Tensor, other: &Self::Tensor) -> Result<()>;
}

/// Checks that two shapes are the same.
pub fn check(into: &[usize], other: &[usize]) -> shape_check::Result<()> {
    exactly("add_assign", "other", other, into)
}
