//! How long each op takes, for `profile`: only a device that was made to keep times does.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::CpuDevice;
use crate::device::Result;

/// All calls of one op.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OpTime {
    /// Calls.
    pub calls: u64,
    /// Seconds of the clock.
    pub seconds: f64,
    /// Multiplications and additions of matrix products, attention's scores that backward computes again included; a causal mask
    /// halves them.
    pub flops: f64,
    /// Bytes that are read or written at least once.
    pub bytes: f64,
}

/// Times by op.
pub type OpTimes = BTreeMap<&'static str, OpTime>;

/// A call in progress; dropping it ends it.
pub(super) struct Timed<'a> {
    times: &'a Mutex<OpTimes>,
    op: &'static str,
    start: Instant,
    flops: f64,
    floats: usize,
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        let seconds = self.start.elapsed().as_secs_f64();
        let mut times = lock(self.times);
        let op = times.entry(self.op).or_default();
        op.calls += 1;
        op.seconds += seconds;
        op.flops += self.flops;
        op.bytes += (self.floats * size_of::<f32>()) as f64;
    }
}

/// A panic elsewhere leaves the sums as they were between two calls: still good.
fn lock(times: &Mutex<OpTimes>) -> MutexGuard<'_, OpTimes> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CpuDevice {
    /// A device that keeps the time of every op of a training step.
    ///
    /// # Errors
    /// As [`CpuDevice::new`].
    pub fn timing(threads: Option<usize>) -> Result<Self> {
        Ok(Self { times: Some(Mutex::default()), ..Self::new(threads)? })
    }

    /// What was timed since this was last called.
    pub fn take_times(&self) -> OpTimes {
        self.times.as_ref().map_or_else(OpTimes::new, |times| std::mem::take(&mut *lock(times)))
    }

    /// Times the call of `op` until what this returns is dropped.
    pub(super) fn time(&self, op: &'static str, flops: f64, floats: usize) -> Option<Timed<'_>> {
        self.times.as_ref().map(|times| Timed { times, op, start: Instant::now(), flops, floats })
    }

    /// [`CpuDevice::time`] of an op whose work is a matrix product of `[m, k]` by `[k, n]`.
    pub(super) fn time_gemm(&self, op: &'static str, m: usize, k: usize, n: usize) -> Option<Timed<'_>> {
        self.time(op, 2.0 * m as f64 * k as f64 * n as f64, m * k + k * n + m * n)
    }
}
