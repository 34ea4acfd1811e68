//! Whether a step is a spike.

use super::CpuDevice;
use super::tensor::CpuTensor;
use crate::device::Result;
use crate::device::ops::spike::{SpikeOps, check, judge};

impl SpikeOps for CpuDevice {
    fn judge_spike(
        &self,
        losses: &CpuTensor,
        sigmas: f32,
        recent: &mut CpuTensor,
        verdict: &mut CpuTensor,
    ) -> Result<()> {
        check(losses.dimensions(), sigmas, recent.dimensions(), verdict.dimensions())?;
        let loss = losses.values.iter().map(|loss| f64::from(*loss)).sum();
        if let (Some(recent), Some(verdict)) = (recent.values.first_chunk_mut(), verdict.values.first_chunk_mut()) {
            judge(loss, sigmas, recent, verdict);
        }
        Ok(())
    }
}
