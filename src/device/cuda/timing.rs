//! Times of launches, by CUDA events: for benchmarks. Off, it costs a launch one look at a cell.

use std::cell::RefCell;
use std::sync::Arc;

use cudarc::driver::sys::CUevent_flags_enum::CU_EVENT_DEFAULT;
use cudarc::driver::{CudaEvent, CudaStream};

use super::CudaDevice;
use super::error::failed;
use crate::device::Result;

/// A launch: the kernel's name, and events before and after it.
type Launch = (&'static str, CudaEvent, CudaEvent);

/// Launches since timing began; `None` while nothing is timed.
#[derive(Default)]
pub(super) struct Timer(RefCell<Option<Vec<Launch>>>);

impl Timer {
    /// An event before a launch, if launches are timed.
    pub(super) fn before(&self, stream: &Arc<CudaStream>) -> Result<Option<CudaEvent>> {
        self.0.borrow().is_some().then(|| event(stream)).transpose()
    }

    /// Pairs it with one after the launch.
    pub(super) fn after(
        &self,
        kernel: &'static str,
        before: Option<CudaEvent>,
        stream: &Arc<CudaStream>,
    ) -> Result<()> {
        if let (Some(before), Some(launches)) = (before, &mut *self.0.borrow_mut()) {
            launches.push((kernel, before, event(stream)?));
        }
        Ok(())
    }
}

fn event(stream: &Arc<CudaStream>) -> Result<CudaEvent> {
    stream.record_event(Some(CU_EVENT_DEFAULT)).map_err(failed("cuEventRecord"))
}

impl CudaDevice {
    /// Milliseconds by the device's clock between two events, before and after all that `work` asks of it. Waits for the end.
    /// Not to be called while launches are captured in a graph; zero on a device that only counts.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::device::Error::Driver) if the driver fails, and what `work` returns.
    pub fn elapsed(&self, work: impl FnOnce() -> Result<()>) -> Result<f32> {
        let Some(stream) = &self.driver.stream else { return work().map(|()| 0.0) };
        let before = event(stream)?;
        work()?;
        let after = event(stream)?;
        before.elapsed_ms(&after).map_err(failed("cuEventElapsedTime"))
    }

    /// The kernels that `work` launches, in order, with their times in milliseconds by CUDA events. Not to be called
    /// while launches are captured in a graph.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::device::Error::Driver) if the driver fails, and what `work` returns.
    pub fn timed(&self, work: impl FnOnce() -> Result<()>) -> Result<Vec<(&'static str, f32)>> {
        *self.driver.timer.0.borrow_mut() = Some(Vec::new());
        let outcome = work();
        let launches = self.driver.timer.0.borrow_mut().take().unwrap_or_default();
        outcome?;
        self.synchronize()?;
        let time = |(kernel, before, after): Launch| {
            let time = before.elapsed_ms(&after).map_err(failed("cuEventElapsedTime"))?;
            Ok((kernel, time))
        };
        launches.into_iter().map(time).collect()
    }
}
