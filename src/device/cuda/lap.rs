//! A stopwatch (`lap.cu`).

use super::CudaDevice;
use super::kernel::{Grid, Kernel, kernel};
use super::pointer::Pointer;
use super::tensor::CudaTensor;
use crate::device::Result;
use crate::device::ops::lap::{LapOps, check};

const LAP: Kernel<(Pointer, i32, i32)> = kernel!(LAP);

impl LapOps for CudaDevice {
    fn lap(&self, watch: &mut CudaTensor, total: Option<usize>) -> Result<()> {
        let totals = check(watch.dimensions(), total)?;
        let watch = watch.floats_mut("lap", "watch")?;
        let total = total.map_or(-1, |total| total as i32);
        // SAFETY: `check` has checked that the watch has these totals.
        unsafe { self.driver.launch(&LAP, Grid::line(1, 1), (watch, total, totals as i32)) }
    }
}
