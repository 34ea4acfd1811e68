//! CUDA graph capture: hundreds of launches become one call.

use std::rc::Rc;

use cudarc::driver::CudaGraph;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};

use super::CudaDevice;
use super::error::failed;
use super::memory::{FreeList, Pool};
use crate::device::{Capture, Error, Result};

/// Launches that are repeated together, on the same memory each time.
pub struct Recording {
    graph: CudaGraph,
    /// The buffers that only these launches use.
    free_list: Rc<FreeList>,
    pool: Rc<Pool>,
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.pool.retire(&self.free_list);
    }
}

impl Capture for CudaDevice {
    type Recording = Recording;

    fn record<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, Option<Recording>)> {
        let stream = &self.driver.stream;

        // Relaxed: a kernel that is first used here may be loaded, and memory allocated outside the stream.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        stream.begin_capture(mode).map_err(failed("cuStreamBeginCapture"))?;
        self.memory.begin_recording();
        let outcome = work();

        // The capture ends even if the work failed, or the stream could not be used any more.
        let graph = stream.end_capture(CUgraphInstantiate_flags(0));
        let free_list = self.memory.end_recording();
        let value = outcome?;

        // Capturing does not compute: the first replay does.
        let graph = graph.map_err(failed("cuStreamEndCapture"))?.ok_or_else(|| Error::Driver {
            call: "cuStreamEndCapture".to_owned(),
            message: "the recorded work launched nothing".to_owned(),
        })?;
        let recording = Recording { graph, free_list, pool: Rc::clone(&self.memory) };
        self.replay(&recording)?;
        Ok((value, Some(recording)))
    }

    fn replay(&self, recording: &Recording) -> Result<()> {
        recording.graph.launch().map_err(failed("cuGraphLaunch"))
    }
}
