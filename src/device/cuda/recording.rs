//! Work recorded as a CUDA graph: hundreds of launches become one call.

use std::rc::Rc;

use cudarc::driver::CudaGraph;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};

use super::CudaDevice;
use super::driver::failed;
use super::memory::{Pool, Shelf};
use crate::device::{Error, Result};

/// Launches that are repeated together, on the same memory each time.
pub struct Recording {
    graph: CudaGraph,
    /// The buffers that they use for themselves.
    shelf: Rc<Shelf>,
    pool: Rc<Pool>,
}

impl Recording {
    pub(super) fn replay(&self) -> Result<()> {
        self.graph.launch().map_err(failed("cuGraphLaunch"))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.pool.retire(&self.shelf);
    }
}

/// Records the launches that `work` makes, and does them once.
pub(super) fn record<T>(device: &CudaDevice, work: impl FnOnce() -> Result<T>) -> Result<(T, Recording)> {
    let stream = &device.driver.stream;
    // Relaxed: a kernel that is first used here may be loaded, and memory had past the stream.
    let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
    stream.begin_capture(mode).map_err(failed("cuStreamBeginCapture"))?;
    device.memory.begin_recording();
    let outcome = work();
    // Ends in any case, or the stream could not be used any more.
    let graph = stream.end_capture(CUgraphInstantiate_flags(0));
    let shelf = device.memory.end_recording();
    let value = outcome?;
    let graph = graph.map_err(failed("cuStreamEndCapture"))?.ok_or_else(|| Error::Driver {
        call: "cuStreamEndCapture".to_owned(),
        message: "the recorded work launched nothing".to_owned(),
    })?;
    let recording = Recording { graph, shelf, pool: Rc::clone(&device.memory) };
    recording.replay()?;
    Ok((value, recording))
}
