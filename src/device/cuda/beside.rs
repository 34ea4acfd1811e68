//! Work beside the main order: in a stream of its own, which events order, so that a capture takes both into one graph.

use super::CudaDevice;
use super::streams::Mark;
use crate::device::{Beside, Result};

impl Beside for CudaDevice {
    type Mark = Mark;

    const OVERLAPS: bool = true;

    fn beside(&self, work: impl FnOnce() -> Result<()>) -> Result<Mark> {
        self.driver.streams.beside(work)
    }

    fn has_met(&self, mark: &Mark) -> bool {
        self.driver.streams.has_met(mark.number())
    }

    fn meet(&self, mark: &Mark) -> Result<()> {
        self.driver.streams.meet(mark)
    }

    fn join(&self) -> Result<()> {
        self.driver.streams.join()?;
        self.memory.settle();
        Ok(())
    }
}
