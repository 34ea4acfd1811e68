//! Device memory: a pool of buffers that a step takes and gives back.
//!
//! A step takes and drops the same buffers as the step before, so the pool keeps each by its size, and after the first
//! step nothing is allocated. All work runs on one stream in order, so a buffer may be used again as soon as it is
//! dropped: whatever reads it was launched before whatever writes it next.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DeviceRepr, result};

use super::error::{self, failed};
use super::pinned::DoubleBuffer;
use super::pointer::Pointer;
use crate::device::{MemoryUse, Result};

/// Sizes are multiples of this, and buffers start on one: more than any access needs.
const GRAIN: usize = 256;

/// Buffers that are free, by size in bytes.
#[derive(Default)]
pub(super) struct FreeList {
    free: RefCell<HashMap<usize, Vec<CudaSlice<u8>>>>,
    /// Set once a recording has gone, and its buffers have become everybody's.
    retired: Cell<bool>,
}

impl FreeList {
    fn take(&self, size: usize) -> Option<CudaSlice<u8>> {
        self.free.borrow_mut().get_mut(&size).and_then(Vec::pop)
    }

    fn put(&self, size: usize, slice: CudaSlice<u8>) {
        self.free.borrow_mut().entry(size).or_default().push(slice);
    }
}

/// Where buffers come from and go back to.
pub(super) struct Pool {
    stream: Arc<CudaStream>,
    /// Fill whatever is handed out with NaN.
    poison: bool,
    free_list: Rc<FreeList>,
    /// The free list of the capture in progress. What recorded work takes is the recording's for as long as it can
    /// be replayed: others may not use it between two replays either.
    recording: RefCell<Option<Rc<FreeList>>>,
    memory: Cell<MemoryUse>,
}

impl Pool {
    pub(super) fn new(stream: Arc<CudaStream>, poison: bool) -> Rc<Self> {
        let (free_list, recording, memory) = (Rc::default(), RefCell::default(), Cell::default());
        Rc::new(Self { stream, poison, free_list, recording, memory })
    }

    /// A buffer of at least `bytes` bytes, whatever they are.
    pub(super) fn take(self: &Rc<Self>, bytes: usize) -> Result<Buffer> {
        let size = bytes.next_multiple_of(GRAIN);

        // From the recording's free list, then from everybody's, then from the driver.
        let recording = self.recording.borrow().clone();
        let reused =
            recording.as_ref().and_then(|free_list| free_list.take(size)).or_else(|| self.free_list.take(size));
        let slice = match reused {
            Some(slice) => slice,
            None => self.allocate(size, recording.is_some())?,
        };

        // A buffer taken while recording goes back to the recording.
        let pointer = Pointer(slice.device_ptr(&self.stream).0);
        let home = recording.unwrap_or_else(|| Rc::clone(&self.free_list));
        self.count(size as isize, 0);
        let mut buffer = Buffer { slice: Some(slice), size, pointer, double_buffer: None, home, pool: Rc::clone(self) };
        if self.poison {
            // All bits set are a NaN in f32 and in bf16.
            buffer.fill(0xff)?;
        }
        Ok(buffer)
    }

    /// New memory. During a capture it is allocated outside the stream, synchronously, or the allocation would be
    /// captured: it is there at once and stays, like that of any recorded buffer.
    fn allocate(&self, size: usize, recording: bool) -> Result<CudaSlice<u8>> {
        // SAFETY: nothing reads a buffer before a kernel or a copy has written it: every op writes all of its results,
        // which the tests check with poisoned memory. What `malloc_sync` returns is `size` bytes that nobody else owns.
        let slice = unsafe {
            match recording {
                false => self.stream.alloc::<u8>(size),
                true => result::malloc_sync(size).map(|address| self.stream.upgrade_device_ptr(address, size)),
            }
        };
        let slice = slice.map_err(|error| error::error(format!("cuMemAlloc of {size} bytes"), error))?;
        self.count(0, size);
        Ok(slice)
    }

    fn count(&self, in_use: isize, allocated: usize) {
        let mut memory = self.memory.get();
        memory.in_use = memory.in_use.wrapping_add_signed(in_use);
        memory.peak = memory.peak.max(memory.in_use);
        memory.allocated += allocated;
        self.memory.set(memory);
    }

    /// From now on, what is taken belongs to a recording.
    pub(super) fn begin_recording(&self) {
        self.recording.replace(Some(Rc::default()));
    }

    /// The end of that; the recording's buffers.
    pub(super) fn end_recording(&self) -> Rc<FreeList> {
        self.recording.take().unwrap_or_default()
    }

    /// Gives everybody the buffers of a recording that is not replayed any more.
    pub(super) fn retire(&self, free_list: &FreeList) {
        free_list.retired.set(true);
        for (size, slices) in free_list.free.take() {
            slices.into_iter().for_each(|slice| self.free_list.put(size, slice));
        }
    }

    pub(super) fn memory(&self) -> MemoryUse {
        self.memory.get()
    }
}

/// Bytes from the pool; dropping it gives them back.
pub(super) struct Buffer {
    /// Always there until it is dropped.
    slice: Option<CudaSlice<u8>>,
    size: usize,
    pointer: Pointer,
    /// Pinned host memory that it is overwritten from, once it has been.
    double_buffer: Option<DoubleBuffer>,
    /// Where it goes back to.
    home: Rc<FreeList>,
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

    /// Overwrites its first bytes with `values`.
    ///
    /// # Panics
    /// If `values` are more than it holds.
    pub(super) fn upload<T: DeviceRepr>(&mut self, values: &[T]) -> Result<()> {
        assert!(size_of_val(values) <= self.size, "more values than the buffer holds");
        // SAFETY: the buffer is long enough; the driver copies from pageable memory before the call returns, or stages
        // it.
        let result =
            unsafe { cudarc::driver::result::memcpy_htod_async(self.pointer.0, values, self.pool.stream.cu_stream()) };
        result.map_err(failed("cuMemcpyHtoDAsync"))
    }

    /// [`Buffer::upload`] without waiting for the device: the values are copied to one of two pinned buffers of the
    /// host, which are used in turn, and from there when the stream gets to it. For what is overwritten again and
    /// again.
    ///
    /// # Panics
    /// If `values` are more than it holds.
    pub(super) fn overwrite<T: DeviceRepr + Copy>(&mut self, values: &[T]) -> Result<()> {
        assert!(size_of_val(values) <= self.size, "more values than the buffer holds");
        let double_buffer = match self.double_buffer.take() {
            Some(double_buffer) => double_buffer,
            None => DoubleBuffer::new(&self.pool.stream, self.size)?,
        };
        let pinned = self.double_buffer.insert(double_buffer).next();
        pinned.wait()?;
        pinned.copy_to(self.pointer, values)
    }

    /// Fills `values` from its first bytes, once all work before is done.
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
        self.pool.count(-(self.size as isize), 0);
        let free_list = if self.home.retired.get() { &self.pool.free_list } else { &self.home };
        free_list.put(self.size, slice);
    }
}
