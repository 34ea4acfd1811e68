//! The norm of all gradients together.

use crate::device::{Result, Tensors};

/// The norm that gradients are clipped by.
pub trait GlobalNormOps: Tensors {
    /// Euclidean norm of all the tensors' elements together, one element, left on the device.
    fn global_norm(&self, tensors: &[Self::Tensor]) -> Result<Self::Tensor>;
}
