//! Streams: who waits for whom, and when work runs.

use std::sync::{Arc, PoisonError};

use super::call;
use super::error::{CudaError, Result};
use super::ffi::Handle;
use super::objects::{Point, Queued};
use super::problem::Problem;
use super::state::{self, DONE, Guard, State};
use super::work::{Scene, Work};
use crate::exec::rng::Rng;
use crate::options::StreamOrder;

impl State {
    fn is_legacy(&self, stream: Handle) -> bool {
        let context = self.streams.get(&stream).map_or(0, |found| found.context);
        self.contexts.get(&context).is_some_and(|context| context.legacy == stream)
    }

    /// Whether a place in a stream is reached. What is forgotten is done.
    pub fn is_reached(&self, point: Point) -> bool {
        self.streams.get(&point.stream).is_none_or(|stream| stream.finished >= point.position)
    }

    /// The end of a stream as it is now.
    pub fn end_of(&self, stream: Handle) -> Point {
        Point { stream, position: self.streams.get(&stream).map_or(0, |stream| stream.queued) }
    }

    /// The ends of every stream of a context.
    pub fn ends_of(&self, context: Handle) -> Vec<Point> {
        let mut ends: Vec<Point> = (self.streams.iter().filter(|(_, stream)| stream.context == context))
            .map(|(&handle, stream)| Point { stream: handle, position: stream.queued })
            .collect();
        // The order of a hash map is not the seed's.
        ends.sort_unstable_by_key(|point| point.stream);
        ends
    }

    /// What work in `stream` must wait for by the rules of the legacy default stream.
    fn implicit(&self, stream: Handle) -> Vec<Point> {
        let Some(found) = self.streams.get(&stream) else { return Vec::new() };
        if self.is_legacy(stream) {
            let mut ends = self.ends_of(found.context);
            ends.retain(|end| {
                end.stream != stream && self.streams.get(&end.stream).is_some_and(|other| other.blocking)
            });
            ends
        } else if found.blocking {
            let legacy = self.contexts.get(&found.context).map_or(0, |context| context.legacy);
            vec![self.end_of(legacy)]
        } else {
            Vec::new()
        }
    }

    /// Gives work to a stream that was resolved, after what `after` names; a stream that captures records it.
    ///
    /// # Errors
    /// Those of captures.
    pub fn submit(&mut self, stream: Handle, work: Work, after: Vec<Point>) -> Result<()> {
        let found = self.streams.get(&stream).ok_or(CudaError::InvalidHandle)?;
        if found.capture.is_some() {
            return self.record(stream, work);
        }
        self.forbid_implicit(stream)?;
        let mut after = after;
        after.extend(self.implicit(stream));
        after.retain(|&point| !self.is_reached(point));
        if let Some(found) = self.streams.get_mut(&stream) {
            found.queued += 1;
            found.queue.push_back(Queued { after, work, call: call::name() });
        }
        Ok(())
    }

    /// A stream whose first work can run now, on the way to `point`; a busy one where that must be waited for.
    fn runnable(&self, point: Point) -> Handle {
        let mut stream = point.stream;
        // What work waits for was queued before it, so this ends.
        while let Some(found) = self.streams.get(&stream) {
            let missing = found.queue.front().and_then(|first| first.after.iter().find(|&&p| !self.is_reached(p)));
            match missing {
                Some(before) if !found.busy => stream = before.stream,
                _ => break,
            }
        }
        stream
    }

    /// Which stream goes on next, so that one of `missing` is reached.
    fn choose(&mut self, context: Handle, missing: &[Point]) -> Handle {
        let needed = self.runnable(missing[0]);
        let order = self.device_of(context).map_or(StreamOrder::Late, |device| device.options.streams);
        if order != StreamOrder::Random {
            return needed;
        }
        let pending: Vec<Point> = self.ends_of(context).into_iter().filter(|&end| !self.is_reached(end)).collect();
        let Ok(found) = self.context(context) else { return needed };
        // Now and then, some other stream gets ahead.
        if found.rng.below(2) == 0 {
            return needed;
        }
        let index = found.rng.below(pending.len().max(1));
        pending.get(index).map_or(needed, |&end| self.runnable(end))
    }

    /// Forgets what waits in a context in which something failed.
    fn abandon(&mut self, context: Handle) {
        for stream in self.streams.values_mut().filter(|stream| stream.context == context) {
            let running = usize::from(stream.busy);
            stream.queue.truncate(running);
            stream.finished = stream.queued - running as u64;
        }
    }

    fn sweep(&mut self) {
        self.streams.retain(|_, stream| !stream.destroyed || !stream.queue.is_empty());
    }
}

/// Runs work until every point is reached.
///
/// # Errors
/// That of the context, where something in it fails.
pub fn reach(mut state: Guard, context: Handle, points: &[Point]) -> Result<Guard> {
    loop {
        if let Some(fault) = state.context(context)?.fault {
            return Err(fault);
        }
        let missing: Vec<Point> = points.iter().copied().filter(|&point| !state.is_reached(point)).collect();
        if missing.is_empty() {
            state.sweep();
            return Ok(state);
        }
        let stream = state.choose(context, &missing);
        state = step(state, context, stream);
    }
}

/// Runs the first work of a stream, or waits while another thread does.
fn step(mut state: Guard, context: Handle, stream: Handle) -> Guard {
    let Some(found) = state.streams.get(&stream) else { return state };
    if found.busy {
        return DONE.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    let Some(first) = found.queue.front() else { return state };

    // The work leaves the lock with all that it needs.
    let (work, call) = (first.work.clone(), first.call);
    let options = state.device_of(context).map(|device| device.options.clone()).unwrap_or_default();
    let Ok(owner) = state.context(context) else { return state };
    let rng = Rng::new(owner.rng.bits(), 0);
    let (engine, warnings) = (Arc::clone(&owner.engine), Arc::default());
    let mut scene = Scene { engine, options, rng, call, counters: Vec::new(), warnings };
    if let Some(found) = state.streams.get_mut(&stream) {
        found.busy = true;
    }

    // Other threads may call the driver while it runs.
    drop(state);
    let outcome = scene.run(&work);
    let mut state = state::lock_raw();

    // What it left: counts, progress, and what went wrong.
    for line in scene.counters {
        state.count(context, line);
    }
    for report in std::mem::take(&mut *scene.warnings.lock().unwrap_or_else(PoisonError::into_inner)) {
        state.report(context, Problem::Warning(Box::new(report)));
    }
    if let Some(found) = state.streams.get_mut(&stream) {
        found.busy = false;
        found.queue.pop_front();
        found.finished += 1;
    }

    if let Err(problem) = outcome {
        state.report(context, problem);
    }
    if state.context(context).is_ok_and(|context| context.fault.is_some()) {
        state.abandon(context);
    }

    DONE.notify_all();
    state
}

/// Gives work to a stream; where streams are not lazy, it runs at once.
///
/// # Errors
/// Those of [`State::submit`] and [`reach`].
pub fn submit(state: Guard, context: Handle, stream: Handle, work: Work) -> Result<Guard> {
    submit_after(state, context, stream, work, Vec::new())
}

/// As [`submit`], after what `after` names.
///
/// # Errors
/// As [`submit`].
pub fn submit_after(mut state: Guard, context: Handle, stream: Handle, work: Work, after: Vec<Point>) -> Result<Guard> {
    state.submit(stream, work, after)?;
    let eager = state.device_of(context)?.options.streams == StreamOrder::Eager;
    if eager && state.streams.get(&stream).is_some_and(|stream| stream.capture.is_none()) {
        let end = state.end_of(stream);
        return reach(state, context, &[end]);
    }
    Ok(state)
}

/// Gives work to a stream and waits for it.
///
/// # Errors
/// As [`submit`]; `StreamCaptureUnsupported` where the stream captures.
pub fn submit_and_wait(mut state: Guard, context: Handle, stream: Handle, work: Work) -> Result<Guard> {
    state.forbid_capturing(stream)?;
    state.submit(stream, work, Vec::new())?;
    let end = state.end_of(stream);
    reach(state, context, &[end])
}
