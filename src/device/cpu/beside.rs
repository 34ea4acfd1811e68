//! A CPU has one order of work: all of it is done when it is asked for.

use super::CpuDevice;
use crate::device::{Beside, Result};

impl Beside for CpuDevice {
    type Mark = ();

    const OVERLAPS: bool = false;

    fn beside(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        work()
    }

    fn has_met(&self, _mark: &()) -> bool {
        true
    }

    fn meet(&self, _mark: &()) -> Result<()> {
        Ok(())
    }

    fn join(&self) -> Result<()> {
        Ok(())
    }
}
