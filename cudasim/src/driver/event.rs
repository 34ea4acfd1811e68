//! Events.

use std::ffi::c_uint;
use std::sync::{Arc, OnceLock};

use super::error::{CudaError, Result};
use super::exports;
use super::ffi::{Handle, Out};
use super::objects::{Event, Point};
use super::queue::{reach, submit};
use super::state::{Guard, enter, lock};
use super::work::Work;

/// Every flag of an event: blocking, without time, between processes.
const FLAGS: c_uint = 1 | 2 | 4;

/// Whether a point is reached; if not, a little work is done on the way there, so that polling ends.
pub fn query(mut state: Guard, context: Handle, point: Point) -> Result<()> {
    if state.is_reached(point) {
        return Ok(());
    }
    let finished = state.streams.get(&point.stream).map_or(0, |stream| stream.finished);
    let next = Point { position: (finished + 1).min(point.position), ..point };
    // What the work did is seen at the next query.
    if state.context(context)?.rng.below(2) == 0 || next == point {
        drop(reach(state, context, &[next])?);
    }
    Err(CudaError::NotReady)
}

fn record(event: Handle, stream: Handle) -> Result<()> {
    let (mut state, context) = enter()?;
    let stream = state.resolve_stream(context, stream)?;
    let found = state.events.get(&event).ok_or(CudaError::InvalidHandle)?;
    if found.context != context {
        return Err(CudaError::InvalidHandle);
    }

    // In a capture the event stands for the nodes so far.
    if let Some(branch) = state.streams.get(&stream).and_then(|stream| stream.capture.clone()) {
        if let Some(event) = state.events.get_mut(&event) {
            event.captured = Some(branch);
        }
        return Ok(());
    }

    // Else it is one more piece of work of the stream.
    let time = Arc::new(OnceLock::new());
    let mut state = submit(state, context, stream, Work::Record(Arc::clone(&time)))?;
    let point = state.end_of(stream);
    if let Some(event) = state.events.get_mut(&event) {
        event.recorded = Some((point, time));
        event.captured = None;
    }
    Ok(())
}

fn elapsed(milliseconds: Out<f32>, start: Handle, end: Handle) -> Result<()> {
    let (mut state, _) = enter()?;
    state.forbid_captured(start)?;
    state.forbid_captured(end)?;
    let mut times = [std::time::Duration::ZERO; 2];
    for (time, event) in times.iter_mut().zip([start, end]) {
        let event = state.events.get(&event).ok_or(CudaError::InvalidHandle)?;
        let (_, recorded) = event.recorded.as_ref().filter(|_| event.is_timed()).ok_or(CudaError::InvalidHandle)?;
        *time = *recorded.get().ok_or(CudaError::NotReady)?;
    }
    milliseconds.put(((times[1].as_secs_f64() - times[0].as_secs_f64()) * 1e3) as f32)
}

exports! {
    fn cuEventCreate(event: Out<Handle>, flags: c_uint) {
        let (mut state, context) = enter()?;
        // Events between processes must not measure time.
        if flags & !FLAGS != 0 || flags & 6 == 4 || event.is_null() {
            return Err(CudaError::InvalidValue);
        }
        let handle = state.new_handle();
        state.events.insert(handle, Event { context, flags, recorded: None, captured: None });
        event.put(handle)
    }

    fn cuEventDestroy_v2(event: Handle) {
        lock()?.events.remove(&event).map(drop).ok_or(CudaError::InvalidHandle)
    }

    fn cuEventRecord(event: Handle, stream: Handle) {
        record(event, stream)
    }

    fn cuEventRecordWithFlags(event: Handle, stream: Handle, flags: c_uint) {
        match flags {
            0 => record(event, stream),
            1 => Err(CudaError::NotSupported),
            _ => Err(CudaError::InvalidValue),
        }
    }

    fn cuEventQuery(event: Handle) {
        let (mut state, context) = enter()?;
        state.forbid_captured(event)?;
        state.forbid_unsafe()?;
        let found = state.events.get(&event).ok_or(CudaError::InvalidHandle)?;
        match found.recorded {
            Some((point, _)) => query(state, context, point),
            None => Ok(()),
        }
    }

    fn cuEventSynchronize(event: Handle) {
        let (mut state, context) = enter()?;
        state.forbid_captured(event)?;
        let found = state.events.get(&event).ok_or(CudaError::InvalidHandle)?;
        match found.recorded {
            Some((point, _)) => reach(state, context, &[point]).map(drop),
            None => Ok(()),
        }
    }

    fn cuEventElapsedTime(milliseconds: Out<f32>, start: Handle, end: Handle) {
        elapsed(milliseconds, start, end)
    }

    fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: Handle, end: Handle) {
        elapsed(milliseconds, start, end)
    }
}
