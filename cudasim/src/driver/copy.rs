//! Copies and fills.
//!
//! From pageable host memory, a copy takes its bytes when it is queued; to pageable host memory, the call returns when they
//! are there; page-locked memory is read and written when the stream gets so far. So it is with CUDA's driver, which does not
//! promise the first: under the option `late_pageable` such memory is read as late as page-locked memory.

use std::ffi::c_uint;

use super::error::{CudaError, Result};
use super::exports;
use super::ffi::{DevicePointer, Handle, HostPointer, In};
use super::queue::{reach, submit, submit_and_wait};
use super::state::{Guard, NULL_STREAM, enter};
use super::work::{Fill, Place, Transfer, Work};

/// Whether a call may return before its stream gets so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Queued,
    /// As the functions without `Async`.
    Now,
}

fn row(from: Place, to: Place, width: usize) -> Transfer {
    Transfer { from, from_pitch: 0, to, to_pitch: 0, width: width as u64, rows: 1 }
}

/// The bytes from the first to the last of a transfer's side.
fn extent(pitch: u64, transfer: &Transfer) -> Result<u64> {
    let before = transfer.rows.saturating_sub(1).checked_mul(pitch).ok_or(CudaError::InvalidValue)?;
    before.checked_add(transfer.width).ok_or(CudaError::InvalidValue)
}

fn transfer(mut transfer: Transfer, stream: Handle, when: When) -> Result<()> {
    let (mut state, context) = enter()?;
    let stream = state.resolve_stream(context, stream)?;
    let capturing = state.streams.get(&stream).is_some_and(|stream| stream.capture.is_some());
    if when == When::Now {
        state.forbid_implicit(stream)?;
        state.forbid_unsafe()?;
    }

    if transfer.width == 0 || transfer.rows == 0 {
        return Ok(());
    }

    let (read, written) = (extent(transfer.from_pitch, &transfer)?, extent(transfer.to_pitch, &transfer)?);
    for (place, bytes) in [(&transfer.from, read), (&transfer.to, written)] {
        match place {
            Place::Device(address) => state.check_range(context, *address, bytes)?,
            Place::Host(pointer) if pointer.is_null() => return Err(CudaError::InvalidValue),
            _ => {}
        }
    }

    // Pageable memory is read now, and waited for when it is written.
    let mut waits = false;
    if let Place::Host(pointer) = transfer.from {
        let is_late = state.device_of(context)?.options.late_pageable;
        let pinned = is_late || state.is_pinned(context, pointer.address());
        if !pinned && !capturing {
            if when == When::Now {
                let end = state.end_of(stream);
                state = reach(state, context, &[end])?;
            }
            transfer.from = Place::Staged(pointer.read(read as usize).into());
        }
        waits |= pinned && when == When::Now;
    }

    if let Place::Host(pointer) = transfer.to {
        waits |= when == When::Now || (!capturing && !state.is_pinned(context, pointer.address()));
    }

    give(state, context, stream, Work::Copy(transfer), waits)
}

fn give(state: Guard, context: Handle, stream: Handle, work: Work, waits: bool) -> Result<()> {
    match waits {
        true => submit_and_wait(state, context, stream, work).map(drop),
        false => submit(state, context, stream, work).map(drop),
    }
}

fn fill(fill: Fill, stream: Handle, when: When) -> Result<()> {
    let (mut state, context) = enter()?;
    let stream = state.resolve_stream(context, stream)?;
    if when == When::Now {
        state.forbid_implicit(stream)?;
        state.forbid_unsafe()?;
    }

    let size = fill.pattern.len() as u64;
    if !fill.to.is_multiple_of(size) || !fill.pitch.is_multiple_of(size) {
        return Err(CudaError::InvalidValue);
    }

    if fill.width == 0 || fill.rows == 0 {
        return Ok(());
    }

    let bytes = (fill.rows - 1).checked_mul(fill.pitch).and_then(|before| before.checked_add(fill.width));
    state.check_range(context, fill.to, bytes.ok_or(CudaError::InvalidValue)?)?;
    // Fills of device memory are not waited for, even by the functions without `Async`.
    submit(state, context, stream, Work::Fill(fill)).map(drop)
}

fn line(to: DevicePointer, pattern: &[u8], count: usize) -> Result<Fill> {
    let width = (count as u64).checked_mul(pattern.len() as u64).ok_or(CudaError::InvalidValue)?;
    Ok(Fill { to, pitch: 0, width, rows: 1, pattern: pattern.to_vec() })
}

fn area(to: DevicePointer, pitch: usize, pattern: &[u8], width: usize, rows: usize) -> Result<Fill> {
    let line = line(to, pattern, width)?;
    if rows > 1 && (pitch as u64) < line.width {
        return Err(CudaError::InvalidValue);
    }
    Ok(Fill { pitch: pitch as u64, rows: rows as u64, ..line })
}

/// A pointer of `cuMemcpy`, which says by itself what it points to.
fn any(address: u64) -> Result<Place> {
    let (mut state, context) = enter()?;
    let known = state.context(context)?.engine.memory.extent(address).is_some();
    let pinned = state.is_pinned(context, address);
    Ok(if known && !pinned { Place::Device(address) } else { Place::Host(HostPointer::new(address)) })
}

/// `CUDA_MEMCPY2D`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Copy2D {
    from_x: usize,
    from_y: usize,
    from_type: c_uint,
    from_host: u64,
    from_device: DevicePointer,
    from_array: Handle,
    from_pitch: usize,
    to_x: usize,
    to_y: usize,
    to_type: c_uint,
    to_host: u64,
    to_device: DevicePointer,
    to_array: Handle,
    to_pitch: usize,
    width: usize,
    height: usize,
}

impl Copy2D {
    fn transfer(&self) -> Result<Transfer> {
        let place = |kind, host: u64, device: u64, x: usize, y: usize, pitch: usize| {
            let offset = (y as u64).wrapping_mul(pitch as u64).wrapping_add(x as u64);
            match kind {
                1 => Ok(Place::Host(HostPointer::new(host.wrapping_add(offset)))),
                2 => Ok(Place::Device(device.wrapping_add(offset))),
                4 => any(device.wrapping_add(offset)),
                // Arrays, which belong to textures.
                3 => Err(CudaError::NotSupported),
                _ => Err(CudaError::InvalidValue),
            }
        };

        let pitch = |pitch: usize| if pitch == 0 { self.width } else { pitch };
        let (from_pitch, to_pitch) = (pitch(self.from_pitch), pitch(self.to_pitch));
        if self.height > 1 && (from_pitch < self.width || to_pitch < self.width) {
            return Err(CudaError::InvalidValue);
        }

        Ok(Transfer {
            from: place(self.from_type, self.from_host, self.from_device, self.from_x, self.from_y, from_pitch)?,
            from_pitch: from_pitch as u64,
            to: place(self.to_type, self.to_host, self.to_device, self.to_x, self.to_y, to_pitch)?,
            to_pitch: to_pitch as u64,
            width: self.width as u64,
            rows: self.height as u64,
        })
    }
}

exports! {
    fn cuMemcpyHtoD_v2(to: DevicePointer, from: HostPointer, bytes: usize) {
        transfer(row(Place::Host(from), Place::Device(to), bytes), NULL_STREAM, When::Now)
    }

    fn cuMemcpyDtoH_v2(to: HostPointer, from: DevicePointer, bytes: usize) {
        transfer(row(Place::Device(from), Place::Host(to), bytes), NULL_STREAM, When::Now)
    }

    fn cuMemcpyDtoD_v2(to: DevicePointer, from: DevicePointer, bytes: usize) {
        transfer(row(Place::Device(from), Place::Device(to), bytes), NULL_STREAM, When::Now)
    }

    fn cuMemcpy(to: u64, from: u64, bytes: usize) {
        transfer(row(any(from)?, any(to)?, bytes), NULL_STREAM, When::Now)
    }

    fn cuMemcpyHtoDAsync_v2(to: DevicePointer, from: HostPointer, bytes: usize, stream: Handle) {
        transfer(row(Place::Host(from), Place::Device(to), bytes), stream, When::Queued)
    }

    fn cuMemcpyDtoHAsync_v2(to: HostPointer, from: DevicePointer, bytes: usize, stream: Handle) {
        transfer(row(Place::Device(from), Place::Host(to), bytes), stream, When::Queued)
    }

    fn cuMemcpyDtoDAsync_v2(to: DevicePointer, from: DevicePointer, bytes: usize, stream: Handle) {
        transfer(row(Place::Device(from), Place::Device(to), bytes), stream, When::Queued)
    }

    fn cuMemcpyAsync(to: u64, from: u64, bytes: usize, stream: Handle) {
        transfer(row(any(from)?, any(to)?, bytes), stream, When::Queued)
    }

    fn cuMemcpyPeerAsync(
        to: DevicePointer, to_context: Handle, from: DevicePointer, from_context: Handle, bytes: usize, stream: Handle,
    ) {
        match to_context == from_context {
            true => transfer(row(Place::Device(from), Place::Device(to), bytes), stream, When::Queued),
            false => Err(CudaError::NotSupported),
        }
    }

    fn cuMemcpy2D_v2(copy: In<Copy2D>) {
        transfer(copy.get()?.transfer()?, NULL_STREAM, When::Now)
    }

    fn cuMemcpy2DUnaligned_v2(copy: In<Copy2D>) {
        transfer(copy.get()?.transfer()?, NULL_STREAM, When::Now)
    }

    fn cuMemcpy2DAsync_v2(copy: In<Copy2D>, stream: Handle) {
        transfer(copy.get()?.transfer()?, stream, When::Queued)
    }

    fn cuMemsetD8_v2(to: DevicePointer, value: u8, count: usize) {
        fill(line(to, &[value], count)?, NULL_STREAM, When::Now)
    }

    fn cuMemsetD16_v2(to: DevicePointer, value: u16, count: usize) {
        fill(line(to, &value.to_le_bytes(), count)?, NULL_STREAM, When::Now)
    }

    fn cuMemsetD32_v2(to: DevicePointer, value: u32, count: usize) {
        fill(line(to, &value.to_le_bytes(), count)?, NULL_STREAM, When::Now)
    }

    fn cuMemsetD8Async(to: DevicePointer, value: u8, count: usize, stream: Handle) {
        fill(line(to, &[value], count)?, stream, When::Queued)
    }

    fn cuMemsetD16Async(to: DevicePointer, value: u16, count: usize, stream: Handle) {
        fill(line(to, &value.to_le_bytes(), count)?, stream, When::Queued)
    }

    fn cuMemsetD32Async(to: DevicePointer, value: u32, count: usize, stream: Handle) {
        fill(line(to, &value.to_le_bytes(), count)?, stream, When::Queued)
    }

    fn cuMemsetD2D8Async(
        to: DevicePointer, pitch: usize, value: u8, width: usize, height: usize, stream: Handle,
    ) {
        fill(area(to, pitch, &[value], width, height)?, stream, When::Queued)
    }

    fn cuMemsetD2D32Async(
        to: DevicePointer, pitch: usize, value: u32, width: usize, height: usize, stream: Handle,
    ) {
        fill(area(to, pitch, &value.to_le_bytes(), width, height)?, stream, When::Queued)
    }
}
