//! Device memory: a pool of buffers that a step takes and gives back.
//!
//! A step takes and drops the same buffers as the step before, so the pool keeps each by its size, and after the first step
//! nothing is allocated. All work runs on one stream in order, so a buffer may be used again as soon as it is dropped: whatever
//! reads it was launched before whatever writes it next.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DeviceRepr};

use super::driver::{self, failed};
use crate::device::Result;
use crate::device::cpu::MemoryUse;

/// Sizes are multiples of this, and buffers start on one: more than any access needs.
const GRAIN: usize = 256;

/// An address on the device, as kernels take it.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Pointer(pub(super) u64);

/// The pointer that is none.
pub(super) const NULL: Pointer = Pointer(0);

impl Pointer {
    /// `bytes` further on.
    pub(super) fn offset(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}

/// Buffers waiting to be used again.
pub(super) struct Pool {
    stream: Arc<CudaStream>,
    /// Fill whatever is handed out with NaN.
    poison: bool,
    state: RefCell<PoolState>,
}

#[derive(Default)]
struct PoolState {
    /// By size in bytes.
    free: HashMap<usize, Vec<CudaSlice<u8>>>,
    memory: MemoryUse,
}

impl Pool {
    pub(super) fn new(stream: Arc<CudaStream>, poison: bool) -> Rc<Self> {
        Rc::new(Self { stream, poison, state: RefCell::default() })
    }

    /// A buffer of at least `bytes` bytes, whatever they are.
    pub(super) fn take(self: &Rc<Self>, bytes: usize) -> Result<Buffer> {
        let size = bytes.next_multiple_of(GRAIN);
        let reused = {
            let mut state = self.state.borrow_mut();
            let reused = state.free.get_mut(&size).and_then(Vec::pop);
            state.memory.in_use += size;
            state.memory.peak = state.memory.peak.max(state.memory.in_use);
            if reused.is_none() {
                state.memory.allocated += size;
            }
            reused
        };
        let slice = match reused {
            Some(slice) => slice,
            // SAFETY: nothing reads a buffer before a kernel or a copy has written it: every op writes all of its results, which
            // the tests check with poisoned memory.
            None => match unsafe { self.stream.alloc::<u8>(size) } {
                Ok(slice) => slice,
                Err(error) => {
                    let mut state = self.state.borrow_mut();
                    state.memory.in_use -= size;
                    state.memory.allocated -= size;
                    return Err(driver::error(format!("cuMemAlloc of {size} bytes"), error));
                }
            },
        };
        let pointer = Pointer(slice.device_ptr(&self.stream).0);
        let mut buffer = Buffer { slice: Some(slice), size, pointer, pool: Rc::clone(self) };
        if self.poison {
            // All bits set are a NaN in f32 and in bf16.
            buffer.fill(0xff)?;
        }
        Ok(buffer)
    }

    pub(super) fn memory(&self) -> MemoryUse {
        self.state.borrow().memory
    }
}

/// Bytes from the pool; dropping it gives them back.
pub(super) struct Buffer {
    /// Always there until it is dropped.
    slice: Option<CudaSlice<u8>>,
    size: usize,
    pointer: Pointer,
    pool: Rc<Pool>,
}

impl Buffer {
    pub(super) fn pointer(&self) -> Pointer {
        self.pointer
    }

    /// Sets every byte.
    pub(super) fn fill(&mut self, byte: u8) -> Result<()> {
        let stream = &self.pool.stream;
        // SAFETY: the buffer is `size` bytes long and this stream's.
        let result =
            unsafe { cudarc::driver::result::memset_d8_async(self.pointer.0, byte, self.size, stream.cu_stream()) };
        result.map_err(failed("cuMemsetD8Async"))
    }

    /// Overwrites its beginning.
    ///
    /// # Panics
    /// If `values` are more than it holds.
    pub(super) fn upload<T: DeviceRepr>(&mut self, values: &[T]) -> Result<()> {
        assert!(size_of_val(values) <= self.size, "more values than the buffer holds");
        // SAFETY: the buffer is long enough; the driver copies from pageable memory before the call returns, or stages it.
        let result =
            unsafe { cudarc::driver::result::memcpy_htod_async(self.pointer.0, values, self.pool.stream.cu_stream()) };
        result.map_err(failed("cuMemcpyHtoDAsync"))
    }

    /// Its first values, as many as `values` has, once all work before is done.
    ///
    /// # Panics
    /// If that is more than it holds.
    pub(super) fn download<T: DeviceRepr>(&self, values: &mut [T]) -> Result<()> {
        assert!(size_of_val(values) <= self.size, "more values than the buffer holds");
        let stream = &self.pool.stream;
        // SAFETY: the buffer is long enough, and `values` live until the stream is done.
        unsafe { cudarc::driver::result::memcpy_dtoh_async(values, self.pointer.0, stream.cu_stream()) }
            .map_err(failed("cuMemcpyDtoHAsync"))?;
        stream.synchronize().map_err(failed("cuStreamSynchronize"))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(slice) = self.slice.take() else { return };
        let mut state = self.pool.state.borrow_mut();
        state.memory.in_use -= self.size;
        state.free.entry(self.size).or_default().push(slice);
    }
}
