//! Stream capture: work that is recorded into a graph instead of being run.

use std::ffi::c_int;

use super::call::refuse;
use super::error::{CudaError, Result};
use super::exports;
use super::ffi::{Handle, Out};
use super::objects::{Branch, Capture, Graph};
use super::state::{State, current, enter};
use super::work::{Node, Work};

const MODE_GLOBAL: c_int = 0;
const MODE_THREAD: c_int = 1;
const MODE_RELAXED: c_int = 2;

/// `CUstreamCaptureStatus`
const STATUS_NONE: c_int = 0;
const STATUS_ACTIVE: c_int = 1;
const STATUS_INVALIDATED: c_int = 2;

impl State {
    fn capture_of(&self, stream: Handle) -> Option<(Handle, &Capture)> {
        let branch = self.streams.get(&stream)?.capture.as_ref()?;
        Some((branch.capture, self.captures.get(&branch.capture)?))
    }

    fn invalidate(&mut self, capture: Handle) {
        if let Some(capture) = self.captures.get_mut(&capture) {
            capture.valid = false;
        }
    }

    /// Records work in a stream that captures.
    ///
    /// # Errors
    /// `StreamCaptureInvalidated`; `StreamCaptureUnsupported` for what graphs do not hold here.
    pub fn record(&mut self, stream: Handle, work: Work) -> Result<()> {
        let branch = self.streams.get(&stream).and_then(|stream| stream.capture.clone());
        let branch = branch.ok_or(CudaError::IllegalState)?;
        let capture = self.captures.get_mut(&branch.capture).ok_or(CudaError::StreamCaptureInvalidated)?;
        if !capture.valid {
            return Err(CudaError::StreamCaptureInvalidated);
        }

        if matches!(work, Work::Commit(_) | Work::Free(_)) {
            capture.valid = false;
            return Err(refuse(
                CudaError::StreamCaptureUnsupported,
                "the simulator does not capture allocations: allocate before the capture begins",
            ));
        }

        // A graph that is launched while another is captured becomes part of it.
        // A graph that is launched while another is captured becomes part of it.
        let nodes = match work {
            Work::Graph(nodes) => nodes.iter().cloned().collect(),
            work => vec![Node { work, after: Vec::new() }],
        };

        // The new nodes come after the front; the last of them are the new front.
        let first = capture.nodes.len();
        let mut is_inner = vec![false; nodes.len()];
        for (index, mut node) in nodes.into_iter().enumerate() {
            node.after.iter().for_each(|&before| is_inner[before] = true);
            node.after.iter_mut().for_each(|before| *before += first);
            if node.after.is_empty() {
                node.after.clone_from(&branch.front);
            }
            capture.nodes.push(node);
            debug_assert!(capture.nodes.len() == first + index + 1);
        }

        let front: Vec<usize> = (0..is_inner.len()).filter(|&n| !is_inner[n]).map(|n| first + n).collect();
        let branch = self.streams.get_mut(&stream).and_then(|stream| stream.capture.as_mut());
        if let Some(branch) = branch.filter(|_| !front.is_empty()) {
            branch.front = front;
        }
        Ok(())
    }

    /// That a stream which is to be waited for does not capture.
    ///
    /// # Errors
    /// `StreamCaptureUnsupported`, and the capture is invalid; also where the legacy stream is to be waited for.
    pub fn forbid_capturing(&mut self, stream: Handle) -> Result<()> {
        if let Some((capture, _)) = self.capture_of(stream) {
            self.invalidate(capture);
            return Err(refuse(CudaError::StreamCaptureUnsupported, "a stream that captures cannot be waited for"));
        }
        self.forbid_implicit(stream)
    }

    /// That the legacy default stream is not used while a stream captures that it would wait for.
    ///
    /// # Errors
    /// `StreamCaptureImplicit`, and the capture is invalid.
    pub fn forbid_implicit(&mut self, stream: Handle) -> Result<()> {
        let Some(found) = self.streams.get(&stream) else { return Ok(()) };
        let context = found.context;
        if self.contexts.get(&context).is_none_or(|owner| owner.legacy != stream) {
            return Ok(());
        }

        let capturing = self.streams.values().find_map(|other| match &other.capture {
            Some(branch) if other.context == context && other.blocking => Some(branch.capture),
            _ => None,
        });
        match capturing {
            Some(capture) => {
                self.invalidate(capture);
                Err(refuse(
                    CudaError::StreamCaptureImplicit,
                    "the legacy default stream would wait for a stream that captures",
                ))
            }
            None => Ok(()),
        }
    }

    /// That no capture forbids a call that is not recorded and may wait for the device. CUDA's rule is for the whole
    /// process; here each device keeps it for itself, since tests that run at once have a device each.
    ///
    /// # Errors
    /// `StreamCaptureUnsupported`, and the captures that forbid it are invalid.
    pub fn forbid_unsafe(&mut self) -> Result<()> {
        let thread = std::thread::current().id();
        let mut forbidden = false;
        let device_of = |context| self.contexts.get(&context).map(|context| context.device);
        let device = device_of(current());
        for capture in self.captures.values_mut() {
            if self.streams.get(&capture.origin).and_then(|origin| device_of(origin.context)) != device {
                continue;
            }
            if capture.mode == MODE_GLOBAL || (capture.mode == MODE_THREAD && capture.thread == thread) {
                capture.valid = false;
                forbidden = true;
            }
        }
        match forbidden {
            true => Err(refuse(CudaError::StreamCaptureUnsupported, "not allowed while a stream captures")),
            false => Ok(()),
        }
    }

    /// That an event was not recorded last in a capture.
    ///
    /// # Errors
    /// `CapturedEvent`, and the capture is invalid.
    pub fn forbid_captured(&mut self, event: Handle) -> Result<()> {
        let branch = self.events.get(&event).and_then(|event| event.captured.clone());
        let Some(branch) = branch.filter(|branch| self.captures.contains_key(&branch.capture)) else { return Ok(()) };
        self.invalidate(branch.capture);
        Err(CudaError::CapturedEvent)
    }

    /// Makes a stream wait for nodes of a capture, which it thereby joins.
    ///
    /// # Errors
    /// `StreamCaptureMerge` where it takes part in another one.
    pub fn join(&mut self, stream: Handle, branch: &Branch) -> Result<()> {
        let other = self.capture_of(stream).map(|(capture, _)| capture);
        if let Some(other) = other.filter(|&other| other != branch.capture) {
            self.invalidate(other);
            self.invalidate(branch.capture);
            return Err(CudaError::StreamCaptureMerge);
        }
        if let Some(stream) = self.streams.get_mut(&stream) {
            match &mut stream.capture {
                Some(own) => {
                    own.front.extend(&branch.front);
                    own.front.sort_unstable();
                    own.front.dedup();
                }
                none => *none = Some(branch.clone()),
            }
        }
        Ok(())
    }

    /// A stream that captures was told to wait for work outside the capture.
    ///
    /// # Errors
    /// Always `StreamCaptureIsolation`.
    pub fn isolate(&mut self, stream: Handle) -> Result<()> {
        if let Some((capture, _)) = self.capture_of(stream) {
            self.invalidate(capture);
        }
        Err(CudaError::StreamCaptureIsolation)
    }

    fn end_capture(&mut self, stream: Handle) -> Result<Graph> {
        let Some((handle, capture)) = self.capture_of(stream) else {
            return Err(refuse(CudaError::IllegalState, "the stream does not capture"));
        };
        if capture.origin != stream {
            self.invalidate(handle);
            return Err(CudaError::StreamCaptureUnmatched);
        }
        if capture.mode != MODE_RELAXED && capture.thread != std::thread::current().id() {
            return Err(CudaError::StreamCaptureWrongThread);
        }

        let front = self.streams.get(&stream).and_then(|s| s.capture.as_ref()).map_or(Vec::new(), |b| b.front.clone());
        let context = self.streams.get(&stream).map_or(0, |stream| stream.context);

        // The capture ends in every stream that took part.
        for other in self.streams.values_mut() {
            if other.capture.as_ref().is_some_and(|branch| branch.capture == handle) {
                other.capture = None;
            }
        }

        let capture = self.captures.remove(&handle).ok_or(CudaError::IllegalState)?;
        if !capture.valid {
            return Err(CudaError::StreamCaptureInvalidated);
        }
        // Everything must come before the end of the first stream.

        let mut reached = vec![false; capture.nodes.len()];
        let mut next = front;
        while let Some(node) = next.pop() {
            if !std::mem::replace(&mut reached[node], true) {
                next.extend(&capture.nodes[node].after);
            }
        }

        if reached.contains(&false) {
            return Err(refuse(
                CudaError::StreamCaptureUnjoined,
                "work of another stream was not joined: record an event there and wait for it in the first stream",
            ));
        }
        Ok(Graph { context, nodes: capture.nodes })
    }
}

exports! {
    fn cuStreamBeginCapture_v2(stream: Handle, mode: c_int) {
        let (mut state, context) = enter()?;
        if !(MODE_GLOBAL..=MODE_RELAXED).contains(&mode) {
            return Err(CudaError::InvalidValue);
        }

        let stream = state.resolve_stream(context, stream)?;
        if state.context(context)?.legacy == stream {
            return Err(refuse(CudaError::StreamCaptureUnsupported, "the legacy default stream cannot capture"));
        }
        if state.capture_of(stream).is_some() {
            return Err(refuse(CudaError::IllegalState, "the stream captures already"));
        }

        let handle = state.new_handle();
        let thread = std::thread::current().id();
        state.captures.insert(handle, Capture { origin: stream, mode, thread, nodes: Vec::new(), valid: true });
        if let Some(stream) = state.streams.get_mut(&stream) {
            stream.capture = Some(Branch { capture: handle, front: Vec::new() });
        }
        Ok(())
    }

    fn cuStreamEndCapture(stream: Handle, graph: Out<Handle>) {
        let (mut state, context) = enter()?;
        let stream = state.resolve_stream(context, stream)?;
        graph.put(0)?;
        let recorded = state.end_capture(stream)?;
        let handle = state.new_handle();
        state.graphs.insert(handle, recorded);
        graph.put(handle)
    }

    fn cuStreamIsCapturing(stream: Handle, status: Out<c_int>) {
        let (mut state, context) = enter()?;
        let stream = state.resolve_stream(context, stream)?;
        status.put(state.capture_of(stream).map_or(STATUS_NONE, |(_, capture)| status_of(capture)))
    }

    fn cuStreamGetCaptureInfo_v2(
        stream: Handle, status: Out<c_int>, id: Out<u64>, graph: Out<Handle>, nodes: Out<Handle>, count: Out<usize>,
    ) {
        capture_info(stream, status, id, graph, nodes, count)
    }

    fn cuStreamGetCaptureInfo_v3(
        stream: Handle, status: Out<c_int>, id: Out<u64>, graph: Out<Handle>, nodes: Out<Handle>, edges: Out<Handle>,
        count: Out<usize>,
    ) {
        edges.put_if_wanted(0);
        capture_info(stream, status, id, graph, nodes, count)
    }

    fn cuThreadExchangeStreamCaptureMode(mode: Out<c_int>) {
        // Captures keep the mode that they began with; a thread that has none of its own is as strict as they are.
        let wanted = mode.get()?;
        match (MODE_GLOBAL..=MODE_RELAXED).contains(&wanted) {
            true => Err(CudaError::NotSupported),
            false => Err(CudaError::InvalidValue),
        }
    }

}

fn status_of(capture: &Capture) -> c_int {
    if capture.valid { STATUS_ACTIVE } else { STATUS_INVALIDATED }
}

fn capture_info(
    stream: Handle,
    status: Out<c_int>,
    id: Out<u64>,
    graph: Out<Handle>,
    nodes: Out<Handle>,
    count: Out<usize>,
) -> Result<()> {
    let (mut state, context) = enter()?;
    let stream = state.resolve_stream(context, stream)?;

    // Graphs that are still recorded cannot be changed by hand here: no handle of theirs is given out.
    graph.put_if_wanted(0);
    nodes.put_if_wanted(0);
    count.put_if_wanted(0);

    match state.capture_of(stream) {
        Some((handle, capture)) => {
            id.put_if_wanted(handle as u64);
            status.put(status_of(capture))
        }
        None => status.put(STATUS_NONE),
    }
}
