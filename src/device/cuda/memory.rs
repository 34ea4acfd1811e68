//! Device memory: a pool of buffers that a step takes and gives back.
//!
//! A step takes and drops the same buffers as the step before, so the pool keeps each by its size, and after the first
//! step nothing is allocated. The main order of work is one stream, so a buffer may be used again as soon as it is
//! dropped: whatever reads it was launched before whatever writes it next. One that work beside it has touched is kept until the
//! main order has met that work ([`Streams`]).
//!
//! What a recorded step takes stays its own, for the graph writes to it at every replay. Between two replays nothing in
//! those buffers is of use but the tensors that the step returned, so they are lent to work that gives everything back
//! before the next replay ([`Pool::lend`]): evaluation and samples of a training run need next to nothing of their own.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use cudarc::driver::sys::CUresult;
use cudarc::driver::{CudaStream, DevicePtr, DeviceRepr, DriverError, result};

use super::context::bind;
use super::error::{self, failed};
use super::free_list::{FreeList, Memory};
use super::host_memory::HostMemory;
use super::pinned::DoubleBuffer;
use super::pointer::{NULL, Pointer};
use super::streams::Streams;
use super::trace::Tracer;
use crate::device::{Error, MemoryUse, Result};

/// Sizes are multiples of this, and buffers start on one: more than any access needs.
const GRAIN: usize = 256;

/// Where buffers come from and go back to.
pub(super) struct Pool {
    streams: Rc<Streams>,
    tracer: Option<Rc<Tracer>>,
    /// Fill whatever is handed out with NaN.
    poison: bool,
    free_list: Rc<FreeList>,
    /// The free list of the capture in progress. What recorded work takes is the recording's for as long as it can
    /// be replayed: others may not use it between two replays either.
    recording: RefCell<Option<Rc<FreeList>>>,
    /// The free list that is lent to the work in progress.
    lent: RefCell<Option<Rc<FreeList>>>,
    /// What was dropped while work beside the main order may have been using it: where it goes to, its size, and what it is.
    kept: RefCell<Vec<(Rc<FreeList>, usize, Memory)>>,
    memory: Cell<MemoryUse>,
}

impl Pool {
    pub(super) fn new(streams: Rc<Streams>, tracer: Option<Rc<Tracer>>, poison: bool) -> Rc<Self> {
        let (recording, lent, kept) = (RefCell::default(), RefCell::default(), RefCell::default());
        let (free_list, memory) = (Rc::default(), Cell::default());
        Rc::new(Self { streams, tracer, poison, free_list, recording, lent, kept, memory })
    }

    /// A buffer of at least `bytes` bytes, whatever they are.
    pub(super) fn take(self: &Rc<Self>, bytes: usize) -> Result<Buffer> {
        let (size, memory, home) = self.find(bytes.next_multiple_of(GRAIN))?;
        let pointer = match (&memory, self.streams.main()) {
            (Memory::Taken(slice), Some(stream)) => Pointer(slice.device_ptr(stream).0),
            (Memory::Counted(pointer), _) => *pointer,
            _ => NULL,
        };
        self.count(size as isize, 0);
        let (beside, pool) = (Cell::new(0), Rc::clone(self));
        let mut buffer = Buffer { memory: Some(memory), size, pointer, beside, double_buffer: None, home, pool };
        if self.poison {
            // All bits set are a NaN in f32 and in bf16.
            buffer.fill(0xff)?;
        }
        Ok(buffer)
    }

    /// The same for what may outlive the work in progress, and so is never of memory that is lent.
    pub(super) fn take_lasting(self: &Rc<Self>, bytes: usize) -> Result<Buffer> {
        let lent = self.lent.take();
        let buffer = self.take(bytes);
        self.lent.replace(lent);
        buffer
    }

    /// A buffer of the host's memory, with the values that it begins with; zeros behind them.
    ///
    /// # Panics
    /// If `values` are more than it holds.
    pub(super) fn take_of_host(self: &Rc<Self>, bytes: usize, values: &[f32]) -> Result<Buffer> {
        let size = bytes.next_multiple_of(GRAIN);
        assert!(size_of_val(values) <= size, "more values than the buffer holds");
        let (memory, pointer) = match HostMemory::zeros(&self.streams, size)? {
            Some((mut memory, pointer)) => {
                // SAFETY: it has `size` bytes.
                unsafe { memory.fill(values) };
                (Some(memory), pointer)
            }
            None => (None, self.tracer.as_ref().map_or(NULL, |tracer| Pointer(tracer.place(size)))),
        };
        self.count_host(size as isize);
        let (home, beside, pool) = (Rc::clone(&self.free_list), Cell::new(0), Rc::clone(self));
        Ok(Buffer {
            memory: Some(Memory::Host { _memory: memory }),
            size,
            pointer,
            beside,
            double_buffer: None,
            home,
            pool,
        })
    }

    /// Memory of at least `size` bytes, how many it has, and where it goes back to.
    fn find(&self, size: usize) -> Result<(usize, Memory, Rc<FreeList>)> {
        // While recording: from the recording's free list, then from everybody's, then from the driver. All of it goes back to
        // the recording.
        if let Some(recording) = self.recording.borrow().clone() {
            let reused = recording.take(size).or_else(|| self.free_list.take(size));
            let memory = reused.map_or_else(|| self.allocate(size, true), Ok)?;
            return Ok((size, memory, recording));
        }

        // Where memory is lent: whatever is large enough. Otherwise sizes are exact, or steps would take each other's buffers.
        if let Some(lent) = self.lent.borrow().clone() {
            for free_list in [&lent, &self.free_list] {
                if let Some((size, memory)) = free_list.take_at_least(size) {
                    return Ok((size, memory, Rc::clone(free_list)));
                }
            }
        }
        // Memory that the main order allocates is not there yet beside it.
        let memory = self.free_list.take(size).map_or_else(|| self.allocate(size, self.streams.is_beside()), Ok)?;
        Ok((size, memory, Rc::clone(&self.free_list)))
    }

    /// New memory. Where the driver has none left, what is free is given back to it, and it is asked once more: buffers
    /// of sizes that nothing needs now may be in the way.
    fn allocate(&self, size: usize, at_once: bool) -> Result<Memory> {
        let memory = match self.streams.main() {
            None => Memory::Counted(self.tracer.as_ref().map_or(NULL, |tracer| Pointer(tracer.place(size)))),
            Some(stream) => {
                bind(stream)?;
                let slice = match ask(stream, size, at_once) {
                    Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)) if !at_once && self.give_back(stream)? => {
                        ask(stream, size, at_once)
                    }
                    asked => asked,
                };
                Memory::Taken(slice.map_err(|error| error::error(format!("cuMemAlloc of {size} bytes"), error))?)
            }
        };
        self.count(0, size as isize);
        Ok(memory)
    }

    /// Gives everybody's free buffers back to the driver; whether there were any.
    pub(super) fn give_back(&self, stream: &CudaStream) -> Result<bool> {
        let free = self.free_list.drain();
        let bytes: usize = free.iter().map(|(size, _)| size).sum();
        drop(free);

        // They are freed in the order of the stream, and gone once it gets there.
        stream.synchronize().map_err(failed("cuStreamSynchronize"))?;
        self.count(0, -(bytes as isize));
        Ok(bytes > 0)
    }

    fn count(&self, in_use: isize, allocated: isize) {
        let mut memory = self.memory.get();
        memory.in_use = memory.in_use.wrapping_add_signed(in_use);
        memory.peak = memory.peak.max(memory.in_use);
        memory.allocated = memory.allocated.wrapping_add_signed(allocated);
        self.memory.set(memory);
    }

    fn count_host(&self, bytes: isize) {
        let memory = self.memory.get();
        self.memory.set(MemoryUse { host: memory.host.wrapping_add_signed(bytes), ..memory });
    }

    /// From now on, what is taken belongs to a recording.
    pub(super) fn begin_recording(&self) {
        self.recording.replace(Some(Rc::default()));
    }

    /// The end of that; the recording's buffers.
    pub(super) fn end_recording(&self) -> Rc<FreeList> {
        self.recording.take().unwrap_or_default()
    }

    /// Gives back what was kept for work beside the main order, which has met all of it.
    pub(super) fn settle(&self) {
        for (home, size, memory) in self.kept.take() {
            self.put(&home, size, memory);
        }
    }

    /// Memory that nothing uses any more, or only what was asked for before.
    fn put(&self, home: &Rc<FreeList>, size: usize, memory: Memory) {
        let free_list = if home.is_retired() { &self.free_list } else { home };
        free_list.put(size, memory);
    }

    /// Gives everybody the buffers of a recording that is not replayed any more.
    pub(super) fn retire(&self, free_list: &FreeList) {
        free_list.retire();
        free_list.drain().into_iter().for_each(|(size, memory)| self.free_list.put(size, memory));
    }

    /// Lends the free buffers of a recording to `work`, or everybody's in any size where there is no recording: all that is
    /// taken meanwhile must be back when the work ends.
    ///
    /// # Errors
    /// Those of the work; [`Error::Unavailable`] if it kept some of what was lent.
    pub(super) fn lend<T, E: From<Error>>(
        &self,
        recording: Option<&Rc<FreeList>>,
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let lent = recording.unwrap_or(&self.free_list);
        let before = lent.len();
        let lending = Lending::begin(self, Rc::clone(lent));
        let value = work()?;
        drop(lending);

        // Without a recording nothing is replayed, and whatever was kept is simply in use.
        if recording.is_some() && lent.len() != before {
            let problem = "work between two replays kept memory that the next one writes to";
            return Err(Error::unavailable(problem, "drop its tensors before it ends").into());
        }
        Ok(value)
    }

    pub(super) fn memory(&self) -> MemoryUse {
        self.memory.get()
    }
}

/// Asks the driver for memory. During a capture it is allocated outside the stream, `at_once`, or the allocation would be captured: it
/// is there synchronously and stays, like that of any recorded buffer.
fn ask(
    stream: &Arc<CudaStream>,
    size: usize,
    at_once: bool,
) -> std::result::Result<cudarc::driver::CudaSlice<u8>, DriverError> {
    // SAFETY: nothing reads a buffer before a kernel or a copy has written it: every op writes all of its results,
    // which the tests check with poisoned memory. What `malloc_sync` returns is `size` bytes that nobody else owns.
    unsafe {
        match at_once {
            false => stream.alloc::<u8>(size),
            true => result::malloc_sync(size).map(|address| stream.upgrade_device_ptr(address, size)),
        }
    }
}

/// A free list that is lent, until this is dropped.
struct Lending<'p>(&'p Pool);

impl<'p> Lending<'p> {
    fn begin(pool: &'p Pool, free_list: Rc<FreeList>) -> Self {
        pool.lent.replace(Some(free_list));
        Self(pool)
    }
}

impl Drop for Lending<'_> {
    fn drop(&mut self) {
        self.0.lent.take();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Memory is freed in the main order; an error is one that the next call returns too.
        if !self.kept.borrow().is_empty() {
            let _ = self.streams.synchronize();
        }
    }
}

/// Bytes from the pool; dropping it gives them back.
pub(super) struct Buffer {
    /// Always there until it is dropped.
    memory: Option<Memory>,
    size: usize,
    pointer: Pointer,
    /// The last work beside the main order that has touched it, by its number.
    beside: Cell<u64>,
    /// Pinned host memory that it is overwritten from, once it has been.
    double_buffer: Option<DoubleBuffer>,
    /// Where it goes back to.
    home: Rc<FreeList>,
    pool: Rc<Pool>,
}

impl Buffer {
    /// Where it is, for an op that is asked for now.
    pub(super) fn pointer(&self) -> Pointer {
        let streams = &self.pool.streams;
        if streams.is_beside() {
            self.beside.set(streams.asked());
        } else if !streams.has_met(self.beside.get()) {
            streams.trespass();
        }
        self.pointer
    }

    /// The same for a call of the driver.
    fn address(&self) -> Result<Pointer> {
        let pointer = self.pointer();
        self.pool.streams.check()?;
        Ok(pointer)
    }

    /// The same for one that moves numbers between host and device, which only the main order does; with its stream.
    fn in_main_order(&self) -> Result<(Pointer, Option<&Arc<CudaStream>>)> {
        let pointer = self.pointer();
        self.pool.streams.check_main()?;
        Ok((pointer, self.pool.streams.main()))
    }

    /// Sets every byte.
    pub(super) fn fill(&mut self, byte: u8) -> Result<()> {
        if let Some(tracer) = &self.pool.tracer {
            tracer.fill(self.size);
        }
        let to = self.address()?.0;
        let Some(stream) = self.pool.streams.current() else { return Ok(()) };
        bind(stream)?;
        // SAFETY: the buffer is `size` bytes long and this device's.
        let result = unsafe { cudarc::driver::result::memset_d8_async(to, byte, self.size, stream.cu_stream()) };
        result.map_err(failed("cuMemsetD8Async"))
    }

    /// Overwrites its first bytes with `values`, and waits until that is done.
    ///
    /// # Panics
    /// If `values` are more than it holds.
    pub(super) fn upload<T: DeviceRepr>(&mut self, values: &[T]) -> Result<()> {
        assert!(size_of_val(values) <= self.size, "more values than the buffer holds");
        self.trace_upload(values);
        let (pointer, Some(stream)) = self.in_main_order()? else { return Ok(()) };
        bind(stream)?;
        // SAFETY: the buffer is long enough, and `values` live until the stream is done: most drivers have staged pageable
        // memory when the call returns, but none promises it, and where host and device share their memory none needs to.
        unsafe { cudarc::driver::result::memcpy_htod_async(pointer.0, values, stream.cu_stream()) }
            .map_err(failed("cuMemcpyHtoDAsync"))?;
        stream.synchronize().map_err(failed("cuStreamSynchronize"))
    }

    /// [`Buffer::upload`] without waiting for the device: the values are copied to one of two pinned buffers of the
    /// host, which are used in turn, and from there when the stream gets to it. For what is overwritten again and
    /// again.
    ///
    /// # Panics
    /// If `values` are more than it holds.
    pub(super) fn overwrite<T: DeviceRepr + Copy>(&mut self, values: &[T]) -> Result<()> {
        assert!(size_of_val(values) <= self.size, "more values than the buffer holds");
        self.trace_upload(values);
        let (pointer, Some(stream)) = self.in_main_order()? else { return Ok(()) };
        let stream = Arc::clone(stream);
        let double_buffer = match self.double_buffer.take() {
            Some(double_buffer) => double_buffer,
            None => DoubleBuffer::new(&stream, self.size)?,
        };
        let pinned = self.double_buffer.insert(double_buffer).next();
        pinned.wait()?;
        pinned.copy_to(pointer, values)
    }

    /// Notes an upload where uploads are noted.
    fn trace_upload<T: DeviceRepr>(&self, values: &[T]) {
        if let Some(tracer) = &self.pool.tracer {
            // SAFETY: numbers without padding, which may be looked at as bytes: that is what `DeviceRepr` promises of them.
            let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) };
            tracer.upload(self.pointer, bytes);
        }
    }

    /// Copies `bytes` bytes of `other`, from its byte `from` on, to its own byte `to` and on, when the stream gets there.
    ///
    /// # Panics
    /// If either holds fewer.
    pub(super) fn copy_within_device(&mut self, to: usize, other: &Self, from: usize, bytes: usize) -> Result<()> {
        assert!(to + bytes <= self.size && from + bytes <= other.size, "more bytes than the buffers hold");
        if let Some(tracer) = &self.pool.tracer {
            tracer.copy(bytes);
        }
        let (to, from) = (self.address()?.offset(to).0, other.address()?.offset(from).0);
        let Some(stream) = self.pool.streams.current() else { return Ok(()) };
        bind(stream)?;
        // SAFETY: both buffers are long enough, and this device's; they are different ones, since one is borrowed mutably.
        unsafe { cudarc::driver::result::memcpy_dtod_async(to, from, bytes, stream.cu_stream()) }
            .map_err(failed("cuMemcpyDtoDAsync"))
    }

    /// Fills `values` with its own from number `first` on, once all work before is done.
    ///
    /// # Panics
    /// If that is more than it holds.
    pub(super) fn download<T: DeviceRepr>(&self, first: usize, values: &mut [T]) -> Result<()> {
        let skipped = first * size_of::<T>();
        assert!(skipped + size_of_val(values) <= self.size, "more values than the buffer holds");
        let (pointer, Some(stream)) = self.in_main_order()? else { return Ok(()) };
        bind(stream)?;
        let from = pointer.offset(skipped).0;
        // SAFETY: the buffer is long enough, and `values` live until the stream is done.
        unsafe { cudarc::driver::result::memcpy_dtoh_async(values, from, stream.cu_stream()) }
            .map_err(failed("cuMemcpyDtoHAsync"))?;
        stream.synchronize().map_err(failed("cuStreamSynchronize"))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(memory) = self.memory.take() else { return };
        if matches!(memory, Memory::Host { .. }) {
            return self.pool.count_host(-(self.size as isize));
        }
        self.pool.count(-(self.size as isize), 0);
        if self.pool.streams.has_met(self.beside.get()) {
            return self.pool.put(&self.home, self.size, memory);
        }
        self.pool.kept.borrow_mut().push((Rc::clone(&self.home), self.size, memory));
    }
}
