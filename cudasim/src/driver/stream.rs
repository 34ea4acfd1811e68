//! Streams.

use std::ffi::{c_int, c_uint, c_void};

use super::error::{CudaError, Result};
use super::exports;
use super::ffi::{Handle, HostFunction, HostPointer, Out};
use super::objects::Stream;
use super::queue::{reach, submit, submit_after};
use super::state::{current, enter, in_context, initialised, lock};
use super::work::Work;

/// The priorities of an H100: lowest and highest.
pub const PRIORITIES: (c_int, c_int) = (0, -5);

fn create(stream: Out<Handle>, flags: c_uint, priority: c_int) -> Result<()> {
    let (mut state, context) = enter()?;
    if flags > 1 || stream.is_null() {
        return Err(CudaError::InvalidValue);
    }
    let handle = state.new_handle();
    state.streams.insert(handle, Stream::new(context, flags, priority.clamp(PRIORITIES.1, PRIORITIES.0)));
    stream.put(handle)
}

exports! {
    fn cuStreamCreate(stream: Out<Handle>, flags: c_uint) {
        create(stream, flags, 0)
    }

    fn cuStreamCreateWithPriority(stream: Out<Handle>, flags: c_uint, priority: c_int) {
        create(stream, flags, priority)
    }

    fn cuCtxGetStreamPriorityRange(least: Out<c_int>, greatest: Out<c_int>) {
        in_context()?;
        least.put_if_wanted(PRIORITIES.0);
        greatest.put_if_wanted(PRIORITIES.1);
        Ok(())
    }

    fn cuStreamGetPriority(stream: Handle, priority: Out<c_int>) {
        let (mut state, context) = enter()?;
        let stream = state.resolve_stream(context, stream)?;
        priority.put(state.streams.get(&stream).map_or(0, |stream| stream.priority))
    }

    fn cuStreamGetFlags(stream: Handle, flags: Out<c_uint>) {
        let (mut state, context) = enter()?;
        let stream = state.resolve_stream(context, stream)?;
        flags.put(state.streams.get(&stream).map_or(0, |stream| stream.flags))
    }

    fn cuStreamGetId(stream: Handle, id: Out<u64>) {
        let (mut state, context) = enter()?;
        id.put(state.resolve_stream(context, stream)? as u64)
    }

    fn cuStreamGetCtx(stream: Handle, of: Out<Handle>) {
        let (mut state, context) = enter()?;
        state.resolve_stream(context, stream)?;
        of.put(context)
    }

    fn cuStreamGetDevice(stream: Handle, device: Out<c_int>) {
        let (mut state, context) = enter()?;
        state.resolve_stream(context, stream)?;
        device.put(state.context(context)?.device as c_int)
    }

    fn cuStreamDestroy_v2(stream: Handle) {
        let mut state = lock()?;
        // Only streams that were created; the default ones are their context's.
        let is_default = |state: &super::state::State| {
            state.contexts.values().any(|c| c.legacy == stream || c.per_thread.values().any(|&own| own == stream))
        };
        if is_default(&state) {
            return Err(CudaError::InvalidHandle);
        }
        let found = state.streams.get_mut(&stream).filter(|found| !found.destroyed).ok_or(CudaError::InvalidHandle)?;
        // What it has still runs, some time.
        found.destroyed = true;
        let capture = found.capture.take();
        if let Some(capture) = capture.and_then(|branch| state.captures.get_mut(&branch.capture)) {
            capture.valid = false;
        }
        state.streams.retain(|_, stream| !stream.destroyed || !stream.queue.is_empty());
        Ok(())
    }

    fn cuStreamSynchronize(stream: Handle) {
        let (mut state, context) = enter()?;
        let stream = state.resolve_stream(context, stream)?;
        state.forbid_capturing(stream)?;
        let end = state.end_of(stream);
        reach(state, context, &[end]).map(drop)
    }

    fn cuStreamQuery(stream: Handle) {
        let (mut state, context) = enter()?;
        let stream = state.resolve_stream(context, stream)?;
        state.forbid_capturing(stream)?;
        state.forbid_unsafe()?;
        let end = state.end_of(stream);
        super::event::query(state, context, end)
    }

    fn cuStreamWaitEvent(stream: Handle, event: Handle, flags: c_uint) {
        let (mut state, context) = enter()?;
        if flags > 1 {
            return Err(CudaError::InvalidValue);
        }
        let stream = state.resolve_stream(context, stream)?;
        let found = state.events.get(&event).cloned().ok_or(CudaError::InvalidHandle)?;
        if let Some(branch) = found.captured.filter(|branch| state.captures.contains_key(&branch.capture)) {
            return state.join(stream, &branch);
        }
        // An event that was never recorded holds nobody up.
        let Some((point, _)) = found.recorded else { return Ok(()) };
        if state.streams.get(&stream).is_some_and(|stream| stream.capture.is_some()) {
            return state.isolate(stream);
        }
        submit_after(state, context, stream, Work::Nothing, vec![point]).map(drop)
    }

    fn cuLaunchHostFunc(stream: Handle, function: Option<extern "C" fn(*mut c_void)>, data: HostPointer) {
        let (mut state, context) = enter()?;
        let function = function.ok_or(CudaError::InvalidValue)?;
        let stream = state.resolve_stream(context, stream)?;
        submit(state, context, stream, Work::Host(HostFunction { function, data })).map(drop)
    }

    fn cuStreamAttachMemAsync(stream: Handle, _pointer: u64, _length: usize, _flags: c_uint) {
        // Managed memory is seen by all streams here, so there is nothing to attach.
        let (mut state, context) = enter()?;
        state.resolve_stream(context, stream).map(drop)
    }

    fn cuProfilerStart() {
        initialised()?;
        match current() {
            0 => Err(CudaError::InvalidContext),
            _ => Ok(()),
        }
    }

    fn cuProfilerStop() {
        initialised()?;
        match current() {
            0 => Err(CudaError::InvalidContext),
            _ => Ok(()),
        }
    }
}
