//! Stamps of time.

use std::sync::LazyLock;
use std::time::Instant;

use super::CpuDevice;
use super::tensor::CpuTensor;
use crate::device::Result;
use crate::device::ops::stamp::{StampOps, check};

/// From where nanoseconds are counted.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

impl StampOps for CpuDevice {
    fn stamp(&self, times: &mut CpuTensor, stamp: usize) -> Result<()> {
        check(times.dimensions(), stamp)?;
        let now = ORIGIN.elapsed().as_nanos() as u64;
        let values = &mut times.values;
        if stamp == 0 {
            values[0] = f32::from_bits(now as u32);
            values[1] = f32::from_bits((now >> 32) as u32);
        } else {
            let start = u64::from(values[0].to_bits()) | u64::from(values[1].to_bits()) << 32;
            values[1 + stamp] = now.wrapping_sub(start) as f32 * 1e-6;
        }
        Ok(())
    }
}
