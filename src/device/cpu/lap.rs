//! A stopwatch.

use std::sync::LazyLock;
use std::time::Instant;

use super::CpuDevice;
use super::tensor::CpuTensor;
use crate::device::Result;
use crate::device::ops::lap::{LapOps, check};

/// From where nanoseconds are counted.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

impl LapOps for CpuDevice {
    fn lap(&self, watch: &mut CpuTensor, total: Option<usize>) -> Result<()> {
        check(watch.dimensions(), total)?;
        let now = ORIGIN.elapsed().as_nanos() as u64;
        let (last, totals) = watch.values.split_at_mut(2);
        match total {
            None => totals.fill(0.0),
            Some(total) => {
                let before = u64::from(last[0].to_bits()) | u64::from(last[1].to_bits()) << 32;
                totals[total] += now.wrapping_sub(before) as f32 * 1e-6;
            }
        }
        last.copy_from_slice(&[now as u32, (now >> 32) as u32].map(f32::from_bits));
        Ok(())
    }
}
