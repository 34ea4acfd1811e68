//! Whether a step is a spike (`spike.cu`).

use super::CudaDevice;
use super::kernel::{Grid, Kernel, kernel};
use super::pointer::Pointer;
use super::tensor::{CudaTensor, int};
use crate::device::Result;
use crate::device::ops::spike::{KNOWN, SpikeOps, WINDOW, check};

const JUDGE_SPIKE: Kernel<(Pointer, i32, f32, Pointer, Pointer, i32, i32)> = kernel!(JUDGE_SPIKE);

impl SpikeOps for CudaDevice {
    fn judge_spike(
        &self,
        losses: &CudaTensor,
        sigmas: f32,
        recent: &mut CudaTensor,
        verdict: &mut CudaTensor,
    ) -> Result<()> {
        const OP: &str = "judge_spike";
        let count = check(losses.dimensions(), sigmas, recent.dimensions(), verdict.dimensions())?;
        losses.check_floats(OP, "losses")?;
        let (recent, verdict) = (recent.floats_mut(OP, "recent")?, verdict.floats_mut(OP, "verdict")?);
        let arguments = (losses.pointer(), int(count)?, sigmas, recent, verdict, KNOWN as i32, WINDOW as i32);
        // SAFETY: `check` has checked the sizes.
        unsafe { self.driver.launch(&JUDGE_SPIKE, Grid::line(1, 32), arguments) }
    }
}
