//! CUDA graph capture: hundreds of launches become one call.

use std::rc::Rc;
use std::sync::Arc;

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaGraph, CudaStream};

use super::CudaDevice;
use super::driver::Driver;
use super::error::failed;
use super::free_list::FreeList;
use super::memory::Pool;
use crate::device::{Beside, Capture, Error, Result};

/// Launches that are repeated together, on the same memory each time.
pub struct Recording {
    /// Nothing on a device that only counts.
    graph: Option<CudaGraph>,
    /// The buffers that only these launches use.
    free_list: Rc<FreeList>,
    pool: Rc<Pool>,
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.pool.retire(&self.free_list);
    }
}

/// A capture in progress. If the work fails or panics, dropping this ends it: the stream could not be used any more, and whatever
/// is freed later would be freed into the capture.
struct Capturing<'d> {
    device: &'d CudaDevice,
    /// Pieces of work asked for beside the main order before it.
    beside: u64,
    ended: bool,
}

impl<'d> Capturing<'d> {
    fn begin(device: &'d CudaDevice) -> Result<Self> {
        // What is beside now is not captured, and nothing captured may wait for it.
        device.join()?;
        if let Some(stream) = &device.driver.stream {
            // Relaxed: a kernel that is first used here may be loaded, and memory allocated outside the stream.
            let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
            stream.begin_capture(mode).map_err(failed("cuStreamBeginCapture"))?;
        }
        device.memory.begin_recording();
        Ok(Self { device, beside: device.driver.streams.asked(), ended: false })
    }

    /// What was captured.
    fn end(mut self) -> Result<Recording> {
        self.ended = true;
        let (graph, free_list) = self.stop();
        // Dropped on an error, it gives its buffers back.
        let mut recording = Recording { graph: None, free_list, pool: Rc::clone(&self.device.memory) };
        recording.graph = graph?;
        if recording.graph.is_none() && self.device.driver.stream.is_some() {
            let message = "the recorded work launched nothing".to_owned();
            return Err(Error::Driver { call: "cuStreamEndCapture".to_owned(), message });
        }
        Ok(recording)
    }

    /// Ends the capture; its graph and its buffers.
    fn stop(&self) -> (Result<Option<CudaGraph>>, Rc<FreeList>) {
        // All that was captured beside the main order comes before the graph's end.
        let Driver { stream, streams, .. } = &self.device.driver;
        let closed = if streams.asked() > self.beside { streams.close() } else { Ok(()) };
        self.device.memory.settle();

        let end = |stream: &Arc<CudaStream>| stream.end_capture(CUgraphInstantiate_flags(0));
        let graph = stream.as_ref().map_or(Ok(None), end).map_err(failed("cuStreamEndCapture"));
        (closed.and(graph), self.device.memory.end_recording())
    }
}

impl Drop for Capturing<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // The graph goes, and the buffers become everybody's. An error would be that of the work, which is on its way.
            let (_, free_list) = self.stop();
            self.device.memory.retire(&free_list);
        }
    }
}

impl Capture for CudaDevice {
    type Recording = Recording;

    fn record<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, Option<Recording>)> {
        let capturing = Capturing::begin(self)?;
        let value = work()?;

        // Capturing does not compute: the first replay does.
        let recording = capturing.end()?;
        self.replay(&recording)?;
        Ok((value, Some(recording)))
    }

    fn lend<T, E: From<Error>>(
        &self,
        recording: Option<&Recording>,
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        self.memory.lend(recording.map(|recording| &recording.free_list), work)
    }

    fn replay(&self, recording: &Recording) -> Result<()> {
        recording.graph.as_ref().map_or(Ok(()), CudaGraph::launch).map_err(failed("cuGraphLaunch"))
    }
}
