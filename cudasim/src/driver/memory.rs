//! Device memory, page-locked host memory, and what is known of pointers.

use std::ffi::{c_int, c_uint};

use super::call::{self, refuse};
use super::error::{CudaError, Result};
use super::exports;
use super::ffi::{DevicePointer, Handle, HostPointer, In, Out};
use super::objects::{HostKind, HostMemory};
use super::pages::Pages;
use super::problem::Problem;
use super::queue::{reach, submit};
use super::state::{State, enter, in_context};
use super::work::Work;
use crate::memory::{MemoryError, Origin};

impl From<MemoryError> for CudaError {
    fn from(error: MemoryError) -> Self {
        match error {
            MemoryError::OutOfMemory => Self::OutOfMemory,
            MemoryError::InvalidAddress => Self::InvalidValue,
        }
    }
}

impl State {
    /// That a range lies inside one allocation that is live, or promised by a stream.
    ///
    /// # Errors
    /// `InvalidValue`, with the reason on standard error.
    pub fn check_range(&mut self, context: Handle, address: DevicePointer, bytes: u64) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let engine = &self.context(context)?.engine;
        let inside =
            (engine.memory.extent(address)).is_some_and(|found| bytes <= found.base() + found.size() - address);
        if inside {
            return Ok(());
        }
        let what = engine.memory.map().describe(address);
        let what = what.unwrap_or_else(|| "no memory is allocated".into());
        Err(refuse(CudaError::InvalidValue, format!("{bytes} bytes at {address:#x}: {what}")))
    }

    /// Whether the host memory at an address is page-locked.
    pub fn is_pinned(&mut self, context: Handle, address: u64) -> bool {
        let Ok(context) = self.context(context) else { return false };
        let found = context.hosts.range(..=address).next_back();
        found.is_some_and(|(_, host)| address - host.address < host.bytes)
    }

    /// Makes host memory known to the device, and keeps its pages where they are `owned`.
    fn add_host(
        &mut self,
        context: Handle,
        memory: HostPointer,
        bytes: u64,
        kind: HostKind,
        owned: Option<Pages>,
    ) -> Result<()> {
        // Words of 8 bytes; what lies in the same word is on the same page, so it is there.
        let base = memory.address() & !7;
        let end = (memory.address() + bytes).next_multiple_of(8);

        let context = self.context(context)?;
        // SAFETY: pages of our own, or a range that the C caller promises to keep until it is unregistered; both are
        // forgotten by the device (`free`) before they go.
        unsafe { context.engine.memory.register_host(HostPointer::new(base).raw(), end - base)? };
        context
            .hosts
            .insert(memory.address(), HostMemory { address: memory.address(), bytes, kind, base, _owned: owned });
        Ok(())
    }

    fn new_host(&mut self, context: Handle, bytes: usize, kind: HostKind) -> Result<HostPointer> {
        let pages = Pages::new(bytes)?;
        let memory = pages.pointer();
        self.add_host(context, memory, bytes.max(1) as u64, kind, Some(pages))?;
        Ok(memory)
    }

    fn misuse(&mut self, context: Handle, message: String) -> CudaError {
        self.report(context, Problem::Misuse { function: call::name(), message });
        CudaError::InvalidValue
    }

    /// That an address is where an allocation begins which may be freed.
    fn check_free(&mut self, context: Handle, address: DevicePointer) -> Result<()> {
        let owner = self.context(context)?;
        let found = owner.engine.memory.extent(address);
        let is_whole =
            found.is_some_and(|found| found.base() == address && matches!(found.origin(), Origin::Allocated(_)));
        if is_whole && owner.freeing.insert(address) {
            return Ok(());
        }
        let message = match owner.freeing.contains(&address) {
            true => format!("{address:#x} is freed twice"),
            false => match owner.engine.memory.map().describe(address) {
                Some(what) => format!("{address:#x} is not the start of an allocation: {what}"),
                None => format!("{address:#x} is not an allocation"),
            },
        };
        Err(self.misuse(context, message))
    }
}

/// Takes memory that is there at once.
fn allocate(pointer: Out<DevicePointer>, bytes: usize) -> Result<()> {
    let (mut state, context) = enter()?;
    if bytes == 0 || pointer.is_null() {
        return Err(CudaError::InvalidValue);
    }
    state.forbid_unsafe()?;
    let engine = &state.context(context)?.engine;
    let address = engine.memory.allocate(bytes as u64, None).map_err(|error| {
        let (used, capacity) = (engine.memory.used(), engine.memory.capacity());
        refuse(error.into(), format!("{bytes} bytes; {used} of {capacity} are taken (option memory=BYTES)"))
    })?;
    pointer.put(address)
}

/// Takes memory that is there when the stream gets so far.
pub fn allocate_in_stream(pointer: Out<DevicePointer>, bytes: usize, stream: Handle) -> Result<()> {
    let (mut state, context) = enter()?;
    let stream = state.resolve_stream(context, stream)?;
    if bytes == 0 || pointer.is_null() {
        return Err(CudaError::InvalidValue);
    }
    if state.streams.get(&stream).is_some_and(|stream| stream.capture.is_some()) {
        return state.record(stream, Work::Commit(0));
    }
    let engine = std::sync::Arc::clone(&state.context(context)?.engine);
    let address = engine.memory.reserve(bytes as u64)?;
    pointer.put(address)?;
    submit(state, context, stream, Work::Commit(address)).map(drop).inspect_err(|_| {
        // Nobody has got it.
        let _ = engine.memory.free(address);
    })
}

/// Gives memory back at once, after all that the context still has to do.
fn free(address: DevicePointer) -> Result<()> {
    let (mut state, context) = enter()?;
    if address == 0 {
        return Ok(());
    }
    state.forbid_unsafe()?;
    if state.context(context)?.hosts.get(&address).is_some_and(|host| host.kind == HostKind::Managed) {
        drop(state);
        return free_host(address, HostKind::Managed);
    }
    let ends = state.ends_of(context);
    let mut state = reach(state, context, &ends)?;
    state.check_free(context, address)?;
    Ok(state.context(context)?.engine.memory.free(address)?)
}

fn free_host(address: u64, kind: HostKind) -> Result<()> {
    let (mut state, context) = enter()?;
    state.forbid_unsafe()?;
    // Work that still runs may use it.
    let ends = state.ends_of(context);
    let mut state = reach(state, context, &ends)?;
    let owner = state.context(context)?;
    match owner.hosts.get(&address) {
        Some(host) if host.kind == kind => {
            owner.engine.memory.free(host.base)?;
            owner.hosts.remove(&address);
            Ok(())
        }
        _ if kind == HostKind::Registered => Err(CudaError::HostMemoryNotRegistered),
        _ => Err(state.misuse(context, format!("{address:#x} is not page-locked memory of this kind, or no more"))),
    }
}

fn allocate_host(pointer: Out<HostPointer>, bytes: usize, flags: c_uint) -> Result<()> {
    let (mut state, context) = enter()?;
    if bytes == 0 || flags > 7 || pointer.is_null() {
        return Err(CudaError::InvalidValue);
    }
    state.forbid_unsafe()?;
    let most = state.device_of(context)?.options.pinned;
    let taken: u64 = state.context(context)?.hosts.values().map(|host| host.bytes).sum();
    if taken.saturating_add(bytes as u64) > most {
        let message = format!("{bytes} bytes; {taken} of {most} are taken (option pinned=BYTES)");
        return Err(refuse(CudaError::OutOfMemory, message));
    }
    pointer.put(state.new_host(context, bytes, HostKind::Allocated)?)
}

/// `CUpointer_attribute`: a value of its size is written.
fn pointer_attribute(data: Out<u8>, attribute: c_int, address: u64) -> Result<()> {
    let (mut state, context) = enter()?;
    let put = |bytes: &[u8]| bytes.iter().enumerate().try_for_each(|(index, &byte)| data.put_at(index, byte));

    let owner = state.context(context)?;
    let device = owner.device as i32;
    let host = owner.hosts.range(..=address).next_back().map(|(_, host)| host);
    let host = host.filter(|host| address - host.address < host.bytes);
    let managed = host.is_some_and(|host| host.kind == HostKind::Managed);
    let host = host.map(|host| (host.address, host.bytes));

    let found = owner.engine.memory.extent(address);
    let range = host.or(found.map(|found| (found.base(), found.size())));
    let (base, size) = range.ok_or(CudaError::InvalidValue)?;

    const HOST: u32 = 1;
    const DEVICE: u32 = 2;
    match attribute {
        1 => put(&context.to_ne_bytes()),
        2 => put(&if host.is_some() && !managed { HOST } else { DEVICE }.to_ne_bytes()),
        3 => put(&address.to_ne_bytes()),
        4 if host.is_some() => put(&address.to_ne_bytes()),
        7 => put(&base.to_ne_bytes()),
        8 => put(&[managed.into()]),
        9 => put(&device.to_ne_bytes()),
        11 => put(&base.to_ne_bytes()),
        12 => put(&size.to_ne_bytes()),
        13 => put(&[1]),
        4 => Err(CudaError::InvalidValue),
        _ => Err(CudaError::NotSupported),
    }
}

exports! {
    fn cuMemAlloc_v2(pointer: Out<DevicePointer>, bytes: usize) {
        allocate(pointer, bytes)
    }

    fn cuMemAllocPitch_v2(
        pointer: Out<DevicePointer>, pitch: Out<usize>, width: usize, height: usize, element: c_uint,
    ) {
        if !matches!(element, 4 | 8 | 16) {
            return Err(CudaError::InvalidValue);
        }
        let row = width.checked_next_multiple_of(512).ok_or(CudaError::OutOfMemory)?;
        pitch.put(row)?;
        allocate(pointer, row.checked_mul(height).ok_or(CudaError::OutOfMemory)?)
    }

    fn cuMemFree_v2(pointer: DevicePointer) {
        free(pointer)
    }

    fn cuMemAllocAsync(pointer: Out<DevicePointer>, bytes: usize, stream: Handle) {
        allocate_in_stream(pointer, bytes, stream)
    }

    fn cuMemFreeAsync(pointer: DevicePointer, stream: Handle) {
        let (mut state, context) = enter()?;
        let stream = state.resolve_stream(context, stream)?;
        if state.streams.get(&stream).is_some_and(|stream| stream.capture.is_some()) {
            return state.record(stream, Work::Free(pointer));
        }
        state.check_free(context, pointer)?;
        submit(state, context, stream, Work::Free(pointer)).map(drop)
    }

    fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) {
        let (mut state, context) = enter()?;
        let memory = &state.context(context)?.engine.memory;
        free.put((memory.capacity() - memory.used()) as usize)?;
        total.put(memory.capacity() as usize)
    }

    fn cuMemGetAddressRange_v2(base: Out<DevicePointer>, size: Out<usize>, pointer: DevicePointer) {
        let (mut state, context) = enter()?;
        let found = state.context(context)?.engine.memory.extent(pointer).ok_or(CudaError::NotFound)?;
        base.put_if_wanted(found.base());
        size.put_if_wanted(found.size() as usize);
        Ok(())
    }

    fn cuMemHostAlloc(pointer: Out<HostPointer>, bytes: usize, flags: c_uint) {
        allocate_host(pointer, bytes, flags)
    }

    fn cuMemAllocHost_v2(pointer: Out<HostPointer>, bytes: usize) {
        allocate_host(pointer, bytes, 0)
    }

    fn cuMemFreeHost(pointer: HostPointer) {
        free_host(pointer.address(), HostKind::Allocated)
    }

    fn cuMemHostRegister_v2(pointer: HostPointer, bytes: usize, flags: c_uint) {
        let (mut state, context) = enter()?;
        if pointer.is_null() || bytes == 0 || flags > 15 {
            return Err(CudaError::InvalidValue);
        }
        state.forbid_unsafe()?;
        let last = pointer.address() + bytes as u64 - 1;
        if state.is_pinned(context, pointer.address()) || state.is_pinned(context, last) {
            return Err(CudaError::HostMemoryAlreadyRegistered);
        }
        state.add_host(context, pointer, bytes as u64, HostKind::Registered, None)
    }

    fn cuMemHostUnregister(pointer: HostPointer) {
        free_host(pointer.address(), HostKind::Registered)
    }

    fn cuMemHostGetDevicePointer_v2(device: Out<DevicePointer>, pointer: HostPointer, flags: c_uint) {
        let (mut state, context) = enter()?;
        if flags != 0 || !state.is_pinned(context, pointer.address()) {
            return Err(CudaError::InvalidValue);
        }
        device.put(pointer.address())
    }

    fn cuMemHostGetFlags(flags: Out<c_uint>, pointer: HostPointer) {
        let (mut state, context) = enter()?;
        if !state.is_pinned(context, pointer.address()) {
            return Err(CudaError::InvalidValue);
        }
        // Portable and mapped: all page-locked memory is, with unified addresses.
        flags.put(3)
    }

    fn cuMemAllocManaged(pointer: Out<DevicePointer>, bytes: usize, flags: c_uint) {
        let (mut state, context) = enter()?;
        if bytes == 0 || !(1..=2).contains(&flags) || pointer.is_null() {
            return Err(CudaError::InvalidValue);
        }
        state.forbid_unsafe()?;
        pointer.put(state.new_host(context, bytes, HostKind::Managed)?.address())
    }

    fn cuMemAdvise_v2(pointer: DevicePointer, bytes: usize, _advice: c_int, _location: u64) {
        let (mut state, context) = enter()?;
        state.check_range(context, pointer, bytes as u64)
    }

    fn cuMemPrefetchAsync_v2(pointer: DevicePointer, bytes: usize, _location: u64, _flags: c_uint, stream: Handle) {
        let (mut state, context) = enter()?;
        let stream = state.resolve_stream(context, stream)?;
        state.check_range(context, pointer, bytes as u64)?;
        submit(state, context, stream, Work::Nothing).map(drop)
    }

    fn cuPointerGetAttribute(data: Out<u8>, attribute: c_int, pointer: DevicePointer) {
        pointer_attribute(data, attribute, pointer)
    }

    fn cuPointerGetAttributes(count: c_uint, attributes: In<c_int>, data: In<Out<u8>>, pointer: DevicePointer) {
        in_context()?;
        for index in 0..count as usize {
            let (attribute, place) = (attributes.at(index)?, data.at(index)?);
            // A pointer that is not the device's has attributes too: zeros.
            if pointer_attribute(place, attribute, pointer).is_err() {
                let bytes = match attribute {
                    2 | 9 => 4,
                    8 | 13 => 1,
                    _ => 8,
                };
                (0..bytes).try_for_each(|byte| place.put_at(byte, 0))?;
            }
        }
        Ok(())
    }
}
