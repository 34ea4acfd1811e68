//! Stamps of time (`stamp.cu`).

use super::CudaDevice;
use super::kernel::{Grid, Kernel, kernel};
use super::pointer::Pointer;
use super::tensor::CudaTensor;
use crate::device::Result;
use crate::device::ops::stamp::{StampOps, check};

const STAMP: Kernel<(Pointer, i32)> = kernel!(STAMP);

impl StampOps for CudaDevice {
    fn stamp(&self, times: &mut CudaTensor, stamp: usize) -> Result<()> {
        check(times.dimensions(), stamp)?;
        let times = times.floats_mut("stamp", "times")?;
        // SAFETY: `check` has checked that the stamp has its place.
        unsafe { self.driver.launch(&STAMP, Grid::line(1, 1), (times, stamp as i32)) }
    }
}
