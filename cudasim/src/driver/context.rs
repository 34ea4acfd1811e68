//! Contexts: the primary one of each device, and others.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{c_int, c_uint};
use std::sync::{Arc, PoisonError};

use super::call::refuse;
use super::error::{CudaError, Result};
use super::exports;
use super::ffi::{Handle, Out};
use super::objects::{Context, Stream};
use super::problem::Problem;
use super::queue::reach;
use super::state::{
    self, DONE, Guard, State, current, enter, in_context, initialised, lock, pop_current, push_current, set_current,
};
use super::work::Engine;
use crate::exec::rng::Rng;
use crate::memory::Origin;

impl State {
    /// Makes a context on a device.
    ///
    /// # Errors
    /// `InvalidDevice`.
    pub fn create_context(&mut self, ordinal: c_int, flags: c_uint) -> Result<Handle> {
        let options = self.device(ordinal)?.options.clone();
        let handle = self.new_handle();
        let legacy = self.new_handle();
        self.streams.insert(legacy, Stream::new(handle, 0, 0));
        self.contexts_made += 1;

        let context = Context {
            device: ordinal as usize,
            flags,
            engine: Arc::new(Engine::new(self.contexts_made, options.memory)),
            fault: None,
            legacy,
            per_thread: HashMap::new(),
            rng: Rng::new(options.seed, self.contexts_made as u64),
            hosts: BTreeMap::new(),
            freeing: Default::default(),
            limits: BTreeMap::new(),
        };

        self.contexts.insert(handle, context);
        Ok(handle)
    }

    fn leaks(&self, handle: Handle) -> Vec<String> {
        let Some(context) = self.contexts.get(&handle) else { return Vec::new() };

        // Memory.
        let mut leaks: Vec<String> = (context.engine.memory.map().iter())
            .filter(|allocation| matches!(allocation.origin(), Origin::Allocated(_)))
            .map(|allocation| format!("{allocation} was never freed"))
            .collect();
        leaks.extend(context.hosts.values().map(|host| {
            format!("{} bytes of page-locked host memory at {:#x} were never given back", host.bytes, host.address)
        }));

        // Handles: streams (but for the default ones), events, modules, graphs.
        let own = |stream: &Handle| context.legacy == *stream || context.per_thread.values().any(|own| own == stream);
        let streams =
            self.streams.iter().filter(|(s, stream)| stream.context == handle && !own(s) && !stream.destroyed);
        let counts = [
            ("stream", streams.count()),
            ("event", self.events.values().filter(|event| event.context == handle).count()),
            ("module", self.modules.values().filter(|module| module.context == handle && !module.is_library).count()),
            ("graph", self.graphs.values().filter(|graph| graph.context == handle).count()),
            ("instantiated graph", self.executables.values().filter(|graph| graph.context == handle).count()),
        ];

        leaks.extend(counts.iter().filter(|(_, count)| *count > 0).map(|(what, count)| match count {
            1 => format!("1 {what} was never destroyed"),
            _ => format!("{count} {what}s were never destroyed"),
        }));
        leaks
    }

    /// Forgets a context and all that it has.
    pub fn forget_context(&mut self, handle: Handle) {
        self.contexts.remove(&handle);
        self.streams.retain(|_, stream| stream.context != handle);
        self.events.retain(|_, event| event.context != handle);
        self.modules.retain(|_, module| module.context != handle);
        self.functions.retain(|_, function| function.context != handle);
        self.graphs.retain(|_, graph| graph.context != handle);
        self.executables.retain(|_, executable| executable.context != handle);
        let streams = &self.streams;
        self.captures.retain(|_, capture| streams.contains_key(&capture.origin));
    }
}

/// Ends a context: finishes its work, so that faults in it are seen; says what leaked; forgets all that it has.
pub fn destroy(mut state: Guard, handle: Handle) -> Result<()> {
    let ends = state.ends_of(handle);
    // The context ends whatever its work does.
    drop(reach(state, handle, &ends));
    state = state::lock_raw();
    while state.streams.values().any(|stream| stream.context == handle && stream.busy) {
        state = DONE.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    let faultless = state.context(handle)?.fault.is_none();
    if faultless && state.device_of(handle)?.options.leaks {
        for leak in state.leaks(handle) {
            state.report(handle, Problem::Leak(leak));
        }
    }
    state.forget_context(handle);
    Ok(())
}

fn create(out: Out<Handle>, flags: c_uint, device: c_int) -> Result<()> {
    let mut state = lock()?;
    if out.is_null() {
        return Err(CudaError::InvalidValue);
    }
    let context = state.create_context(device, flags)?;
    push_current(context);
    out.put(context)
}

/// Gives back a retained primary context.
pub fn release(device: c_int, all: bool) -> Result<()> {
    let mut state = lock()?;
    let found = state.device(device)?;
    let Some(primary) = found.primary else {
        return match all {
            true => Ok(()),
            false => Err(refuse(CudaError::InvalidContext, "the primary context is not retained")),
        };
    };
    found.retained = if all { 0 } else { found.retained.saturating_sub(1) };
    if found.retained > 0 {
        return Ok(());
    }
    found.primary = None;
    destroy(state, primary)
}

/// The limits that `cuCtxSetLimit` knows, with their defaults: stack, printf buffer, heap, nesting, pending launches,
/// L2 fetch granularity, persisting L2.
const LIMITS: [(c_int, usize); 7] = [(0, 1024), (1, 1 << 20), (2, 8 << 20), (3, 2), (4, 2048), (5, 64), (6, 0)];

exports! {
    fn cuDevicePrimaryCtxRetain(out: Out<Handle>, device: c_int) {
        let mut state = lock()?;
        let found = state.device(device)?;
        let (primary, flags) = (found.primary, found.flags);
        let context = match primary {
            Some(context) => context,
            None => state.create_context(device, flags)?,
        };
        out.put(context)?;
        let found = state.device(device)?;
        found.primary = Some(context);
        found.retained += 1;
        Ok(())
    }

    fn cuDevicePrimaryCtxRelease_v2(device: c_int) {
        release(device, false)
    }

    fn cuDevicePrimaryCtxReset_v2(device: c_int) {
        release(device, true)
    }

    fn cuDevicePrimaryCtxSetFlags_v2(device: c_int, flags: c_uint) {
        lock()?.device(device)?.flags = flags;
        Ok(())
    }

    fn cuDevicePrimaryCtxGetState(device: c_int, flags: Out<c_uint>, active: Out<c_int>) {
        let mut state = lock()?;
        let device = state.device(device)?;
        flags.put_if_wanted(device.flags);
        active.put(device.primary.is_some().into())
    }

    fn cuCtxCreate_v2(context: Out<Handle>, flags: c_uint, device: c_int) {
        create(context, flags, device)
    }

    fn cuCtxCreate_v3(context: Out<Handle>, _affinity: Out<u64>, count: c_int, flags: c_uint, device: c_int) {
        match count {
            0 => create(context, flags, device),
            _ => Err(CudaError::UnsupportedExecAffinity),
        }
    }

    fn cuCtxCreate_v4(context: Out<Handle>, parameters: Out<u64>, flags: c_uint, device: c_int) {
        match parameters.is_null() {
            true => create(context, flags, device),
            false => Err(CudaError::UnsupportedExecAffinity),
        }
    }

    fn cuCtxDestroy_v2(context: Handle) {
        let mut state = lock()?;
        state.context(context)?;
        if state.devices.iter().any(|device| device.primary == Some(context)) {
            return Err(refuse(CudaError::InvalidContext, "a primary context is released, not destroyed"));
        }
        if current() == context {
            pop_current();
        }
        destroy(state, context)
    }

    fn cuCtxGetCurrent(context: Out<Handle>) {
        initialised()?;
        context.put(current())
    }

    fn cuCtxSetCurrent(context: Handle) {
        let mut state = lock()?;
        if context != 0 {
            state.context(context)?;
        }
        set_current(context);
        Ok(())
    }

    fn cuCtxPushCurrent_v2(context: Handle) {
        lock()?.context(context)?;
        push_current(context);
        Ok(())
    }

    fn cuCtxPopCurrent_v2(context: Out<Handle>) {
        initialised()?;
        let popped = pop_current().ok_or(CudaError::InvalidContext)?;
        context.put_if_wanted(popped);
        Ok(())
    }

    fn cuCtxGetDevice(device: Out<c_int>) {
        let mut state = lock()?;
        device.put(state.context(current())?.device as c_int)
    }

    fn cuCtxGetDevice_v2(device: Out<c_int>, context: Handle) {
        let mut state = lock()?;
        device.put(state.context(context)?.device as c_int)
    }

    fn cuCtxGetApiVersion(context: Handle, version: Out<c_uint>) {
        let mut state = lock()?;
        state.context(if context == 0 { current() } else { context })?;
        version.put(3020)
    }

    fn cuCtxGetId(context: Handle, id: Out<u64>) {
        let mut state = lock()?;
        let handle = if context == 0 { current() } else { context };
        state.context(handle)?;
        id.put(handle as u64)
    }

    fn cuCtxGetFlags(flags: Out<c_uint>) {
        let mut state = lock()?;
        flags.put(state.context(current())?.flags)
    }

    fn cuCtxSetFlags(flags: c_uint) {
        let (mut state, context) = enter()?;
        state.context(context)?.flags = flags;
        Ok(())
    }

    fn cuCtxSynchronize() {
        let (mut state, context) = enter()?;
        let capturing = state.streams.iter().find(|(_, s)| s.context == context && s.capture.is_some());
        if let Some((&stream, _)) = capturing {
            state.forbid_capturing(stream)?;
        }
        let ends = state.ends_of(context);
        reach(state, context, &ends).map(drop)
    }

    fn cuCtxGetLimit(value: Out<usize>, limit: c_int) {
        let (mut state, context) = enter()?;
        let (_, default) = LIMITS.iter().find(|(number, _)| *number == limit).ok_or(CudaError::UnsupportedLimit)?;
        value.put(state.context(context)?.limits.get(&limit).copied().unwrap_or(*default))
    }

    fn cuCtxSetLimit(limit: c_int, value: usize) {
        let (mut state, context) = enter()?;
        if !LIMITS.iter().any(|(number, _)| *number == limit) {
            return Err(CudaError::UnsupportedLimit);
        }
        state.context(context)?.limits.insert(limit, value);
        Ok(())
    }

    fn cuCtxGetCacheConfig(config: Out<c_int>) {
        in_context()?;
        config.put(0)
    }

    fn cuCtxSetCacheConfig(config: c_int) {
        // There are no caches.
        in_context()?;
        if (0..=3).contains(&config) { Ok(()) } else { Err(CudaError::InvalidValue) }
    }
}
