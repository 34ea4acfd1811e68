//! A stream of the benchmark's own, for what is not the engine's: the ceilings and the libraries beside it.

use std::sync::Arc;

use anyhow::{Context, Result};
use cudarc::driver::sys::{CUevent_flags_enum::CU_EVENT_DEFAULT, CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, CudaGraph, CudaStream};

use crate::graph::Graph;

/// A stream on the context that the engine uses too.
pub struct Stream {
    pub context: Arc<CudaContext>,
    pub stream: Arc<CudaStream>,
}

impl Stream {
    /// On device `ordinal`.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn open(ordinal: usize) -> Result<Self> {
        let context = CudaContext::new(ordinal).context("the device's context")?;
        // SAFETY: all that is used here is used on one stream.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().context("a stream")?;
        Ok(Self { context, stream })
    }

    /// Milliseconds between two events around `work`.
    ///
    /// # Errors
    /// When the driver refuses, and those of the work.
    pub fn elapsed(&self, work: impl FnOnce() -> Result<()>) -> Result<f64> {
        let before = self.stream.record_event(Some(CU_EVENT_DEFAULT))?;
        work()?;
        let after = self.stream.record_event(Some(CU_EVENT_DEFAULT))?;
        Ok(f64::from(before.elapsed_ms(&after)?))
    }

    /// Captures `launches` calls of `work`, with the number of each. `kept` is what the graph reads and writes.
    ///
    /// # Errors
    /// When the driver refuses, and those of the work.
    pub fn capture<K>(
        &self,
        kept: K,
        launches: usize,
        mut work: impl FnMut(&K, usize) -> Result<()>,
    ) -> Result<Captured<K>> {
        self.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED)?;
        let outcome = (0..launches).try_for_each(|launch| work(&kept, launch));
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0));
        outcome?;
        let graph = graph?.context("the captured work launched nothing")?;
        let own = Self { context: Arc::clone(&self.context), stream: Arc::clone(&self.stream) };
        Ok(Captured { graph, stream: own, launches, _kept: kept })
    }
}

/// A graph, with what it reads and writes.
pub struct Captured<K> {
    graph: CudaGraph,
    stream: Stream,
    launches: usize,
    _kept: K,
}

impl<K> Graph for Captured<K> {
    fn milliseconds(&self) -> Result<f64> {
        // One before, untimed, as for the engine's graphs.
        self.graph.launch()?;
        self.stream.elapsed(|| Ok(self.graph.launch()?))
    }

    fn launches(&self) -> usize {
        self.launches
    }
}
