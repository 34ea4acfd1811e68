//! The exponential moving average of a parameter (`ema.cu`).

use super::CudaDevice;
use super::kernel::{Kernel, kernel};
use super::pointer::Pointer;
use super::tensor::CudaTensor;
use crate::device::Result;
use crate::device::ops::ema::{EmaOps, check};

const EMA: Kernel<(Pointer, Pointer, Pointer, f32, u64)> = kernel!(EMA);

impl EmaOps for CudaDevice {
    fn ema(&self, average: &mut CudaTensor, parameter: &CudaTensor, rate: f32, verdict: &CudaTensor) -> Result<()> {
        check(average.dimensions(), parameter.dimensions(), rate, verdict.dimensions())?;
        let count = average.shape.volume();
        let (parameter, verdict) = (self.floats(parameter)?, self.floats(verdict)?);
        let arguments =
            (average.floats_mut("ema", "average")?, parameter.pointer(), verdict.pointer(), rate, count as u64);
        // SAFETY: `check` has checked the shapes.
        unsafe { self.driver.launch(&EMA, self.strided(count, 4), arguments) }
    }
}
