//! CUDA graph capture: a step's ops recorded once, to be replayed with one call.

use super::{Error, Result, Tensors};

/// Captures work and replays it.
pub trait Capture: Tensors {
    /// Captured work; on a GPU, a CUDA graph.
    type Recording;

    /// Does `work` once and, where the device can, captures it to be replayed.
    ///
    /// The work may call ops, and nothing that moves numbers between host and device. Three things must hold:
    ///
    /// * the same work, with tensors of the same shapes, was done before, so that its memory and kernels are there;
    /// * as long as the recording is used, the tensors that it reads stay where they are: they are changed in place if at all;
    /// * tensors that the work returns are the same ones in every replay.
    fn record<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, Option<Self::Recording>)>;

    /// Does `work` between two replays, in the memory that `recording` needs only while it is replayed, or without one in
    /// any memory that is free. Tensors that the work makes must be gone when it ends, those that it returns included.
    ///
    /// # Errors
    /// Those of the work, and [`Error::Unavailable`] if it kept a tensor in memory that the next replay writes to.
    fn lend<T, E: From<Error>>(
        &self,
        recording: Option<&Self::Recording>,
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E>;

    /// Does recorded work once more, with the values that its tensors have now and the step last given to
    /// [`AdamOps::set_adam_step`](super::ops::adam::AdamOps::set_adam_step).
    fn replay(&self, recording: &Self::Recording) -> Result<()>;
}
