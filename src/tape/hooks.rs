//! Hooks: what somebody else does while a pass goes on, who moves parameters in and gradients out.

use super::ParameterId;
use crate::device::{Device, Result};

/// Called on the way of a forward pass and of its backward pass.
pub trait Hooks<D: Device> {
    /// The forward pass is about to read this parameter.
    ///
    /// # Errors
    /// Those of the device.
    fn reads(&mut self, id: ParameterId) -> Result<()>;

    /// The backward pass is about to write the gradients of these, into tensors that others may have had before.
    ///
    /// # Errors
    /// Those of the device.
    fn writes(&mut self, ids: &[ParameterId]) -> Result<()>;

    /// The gradients of these weights have just been computed, and lie in their places of `tensors`; nothing more is added to
    /// them if the weights are used once.
    ///
    /// # Errors
    /// Those of the device.
    fn finished(&mut self, tensors: &mut [D::Tensor], ids: &[ParameterId]) -> Result<()>;
}

/// Nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHooks;

impl<D: Device> Hooks<D> for NoHooks {
    fn reads(&mut self, _id: ParameterId) -> Result<()> {
        Ok(())
    }

    fn writes(&mut self, _ids: &[ParameterId]) -> Result<()> {
        Ok(())
    }

    fn finished(&mut self, _tensors: &mut [D::Tensor], _ids: &[ParameterId]) -> Result<()> {
        Ok(())
    }
}
