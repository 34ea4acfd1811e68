//! Work beside the main order: collectives, while kernels compute.

use super::{Result, Tensors};

/// A second order of work beside the main one, in which all else is done.
///
/// What work beside has touched, the main order touches only once it has met that work: an op that does so earlier is refused, on the
/// host and whatever the device does. So a wait that is missing is an error of the first step, not a wrong number of some later one. Tensors
/// may be dropped at any time; the memory of one that work beside has touched is nobody else's before the next join.
pub trait Beside: Tensors {
    /// A place in the order beside: all that was asked of it until then.
    type Mark;

    /// Whether the two orders may be worked on at the same time. If not, work beside is done at once.
    const OVERLAPS: bool;

    /// Asks for `work` beside the main order. It comes behind all that was asked before, in either order, and nothing that is asked of the main
    /// order later waits for it. The work moves no numbers between host and device, and asks for none beside itself.
    ///
    /// # Errors
    /// Those of the work and of the device.
    fn beside(&self, work: impl FnOnce() -> Result<()>) -> Result<Self::Mark>;

    /// Whether the main order has met this mark: it waits for nothing there any more.
    fn has_met(&self, mark: &Self::Mark) -> bool;

    /// What is asked of the main order from here on comes behind all work up to the mark.
    ///
    /// # Errors
    /// Those of the device.
    fn meet(&self, mark: &Self::Mark) -> Result<()>;

    /// The same of all that was asked for beside it.
    ///
    /// # Errors
    /// Those of the device.
    fn join(&self) -> Result<()>;
}
