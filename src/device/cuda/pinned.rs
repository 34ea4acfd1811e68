//! Pinned host memory: numbers cross between host and device while both go on working.
//!
//! Every buffer has an event that says when its last copy is done, so it is not touched too early and nothing waits for
//! more.

use std::cell::RefCell;
use std::sync::Arc;

use cudarc::driver::{CudaEvent, CudaStream, DeviceRepr, result};

use super::context::bind;
use super::error::failed;
use super::pointer::Pointer;
use crate::device::Result;

/// Bytes of page-locked host memory, and when their last copy is done.
pub(super) struct Pinned {
    /// `bytes` of them, from `cuMemHostAlloc`.
    address: *mut u8,
    bytes: usize,
    copied: CudaEvent,
    stream: Arc<CudaStream>,
}

impl Pinned {
    fn new(stream: &Arc<CudaStream>, bytes: usize) -> Result<Self> {
        bind(stream)?;
        let copied = stream.context().new_event(None).map_err(failed("cuEventCreate"))?;
        // SAFETY: any size may be asked for.
        let address = unsafe { result::malloc_host(bytes, 0) }.map_err(failed("cuMemHostAlloc"))?;
        Ok(Self { address: address.cast(), bytes, copied, stream: Arc::clone(stream) })
    }

    /// Waits until the last copy from or to it is done.
    pub(super) fn wait(&self) -> Result<()> {
        self.copied.synchronize().map_err(failed("cuEventSynchronize"))
    }

    /// Copies `values` into this buffer at once, and from it to the device in stream order. Call [`Pinned::wait`]
    /// first.
    ///
    /// # Panics
    /// If `values` are more than it holds.
    pub(super) fn copy_to<T: DeviceRepr + Copy>(&mut self, to: Pointer, values: &[T]) -> Result<()> {
        let bytes = size_of_val(values);
        assert!(bytes <= self.bytes, "more values than the pinned buffer holds");
        bind(&self.stream)?;
        // SAFETY: there is room, no copy is in flight, and numbers may be copied as bytes. The device's buffer is as
        // large as this one, and this one is not touched until its event says that the copy is done.
        unsafe {
            std::ptr::copy_nonoverlapping(values.as_ptr().cast::<u8>(), self.address, bytes);
            let staged = std::slice::from_raw_parts(self.address, bytes);
            result::memcpy_htod_async(to.0, staged, self.stream.cu_stream()).map_err(failed("cuMemcpyHtoDAsync"))?;
        }
        self.copied.record(&self.stream).map_err(failed("cuEventRecord"))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // An error is one that the next call returns too. Waiting makes the context current that the memory is of.
        let _ = self.copied.synchronize();
        // SAFETY: from cuMemHostAlloc, freed once, and no copy is in flight.
        let _ = unsafe { result::free_host(self.address.cast()) };
    }
}

/// Two pinned buffers used in turn: while one is copied to the device, the other is filled.
pub(super) struct DoubleBuffer {
    pair: [Pinned; 2],
    second: bool,
}

impl DoubleBuffer {
    pub(super) fn new(stream: &Arc<CudaStream>, bytes: usize) -> Result<Self> {
        Ok(Self { pair: [Pinned::new(stream, bytes)?, Pinned::new(stream, bytes)?], second: true })
    }

    pub(super) fn next(&mut self) -> &mut Pinned {
        self.second = !self.second;
        &mut self.pair[usize::from(self.second)]
    }
}

/// Floats of the host for copies that outlive the step: page-locked where the system has so many pages to lock, else ordinary memory.
pub struct Staging(Place);

enum Place {
    Locked { address: *mut f32, count: usize, stream: Arc<CudaStream> },
    Pageable(Vec<f32>),
}

// SAFETY: the memory is the host's, and this value's alone; any thread may read, write and free it.
unsafe impl Send for Staging {}

impl Staging {
    /// `count` of them, zero; pageable on a device that only counts.
    pub(super) fn new(stream: Option<&Arc<CudaStream>>, count: usize) -> Result<Self> {
        let Some(stream) = stream else { return Ok(Self(Place::Pageable(vec![0.0; count]))) };
        bind(stream)?;
        let bytes = count.max(1) * size_of::<f32>();
        // SAFETY: any size may be asked for; all bits zero are floats.
        let locked = unsafe {
            result::malloc_host(bytes, 0).inspect(|address| std::ptr::write_bytes(address.cast::<u8>(), 0, bytes))
        };
        Ok(Self(match locked {
            Ok(address) => Place::Locked { address: address.cast(), count, stream: Arc::clone(stream) },
            Err(_) => Place::Pageable(vec![0.0; count]),
        }))
    }

    /// To be filled.
    pub(super) fn floats_mut(&mut self) -> &mut [f32] {
        match &mut self.0 {
            // SAFETY: there are so many, initialised, and borrowed with this value.
            Place::Locked { address, count, .. } => unsafe { std::slice::from_raw_parts_mut(*address, *count) },
            Place::Pageable(floats) => floats,
        }
    }
}

impl AsRef<[f32]> for Staging {
    fn as_ref(&self) -> &[f32] {
        match &self.0 {
            // SAFETY: there are so many, initialised, and borrowed with this value.
            Place::Locked { address, count, .. } => unsafe { std::slice::from_raw_parts(*address, *count) },
            Place::Pageable(floats) => floats,
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Place::Locked { address, stream, .. } = &self.0 {
            // An error is one that the next call returns too; every copy was waited for.
            let _ = bind(stream);
            // SAFETY: from cuMemHostAlloc, freed once.
            let _ = unsafe { result::free_host(address.cast()) };
        }
    }
}

/// A copy of floats to the host that is in flight.
pub struct PendingRead {
    /// Nothing on a device that only counts.
    pinned: Option<Pinned>,
    count: usize,
}

/// Pinned buffers for readbacks, those that are not in use.
pub(super) struct Readbacks {
    /// Nothing on a device that only counts.
    stream: Option<Arc<CudaStream>>,
    free: RefCell<Vec<Pinned>>,
}

/// Readbacks that are usually in flight at once: a step's, and that of the step before.
const IN_FLIGHT: usize = 2;

impl Readbacks {
    pub(super) fn new(stream: Option<Arc<CudaStream>>) -> Self {
        Self { stream, free: RefCell::default() }
    }

    /// Starts to copy floats to the host: from each part's address, as many as it says, one part after the other.
    pub(super) fn start(&self, parts: impl Iterator<Item = (Pointer, usize)> + Clone) -> Result<PendingRead> {
        let count: usize = parts.clone().map(|(_, count)| count).sum();
        let Some(stream) = &self.stream else { return Ok(PendingRead { pinned: None, count }) };
        let pinned = self.pinned(stream, count * size_of::<f32>())?;
        bind(stream)?;

        let mut done = 0;
        for (from, count) in parts {
            // SAFETY: there is room for all parts; `from` is a tensor of `count` floats; nothing reads the values before
            // the event that is recorded behind the copies.
            unsafe {
                let to = std::slice::from_raw_parts_mut(pinned.address.cast::<f32>().add(done), count);
                let copied = result::memcpy_dtoh_async(to, from.0, stream.cu_stream());
                copied.map_err(failed("cuMemcpyDtoHAsync"))?;
            }
            done += count;
        }

        // What `finish` waits for.
        pinned.copied.record(stream).map_err(failed("cuEventRecord"))?;
        Ok(PendingRead { pinned: Some(pinned), count })
    }

    /// A free buffer of at least `bytes`. Where there is none, [`IN_FLIGHT`] of them are made at once, so that
    /// later steps find theirs.
    fn pinned(&self, stream: &Arc<CudaStream>, bytes: usize) -> Result<Pinned> {
        let mut free = self.free.borrow_mut();
        if let Some(index) = free.iter().position(|pinned| pinned.bytes >= bytes) {
            return Ok(free.swap_remove(index));
        }

        // Smaller ones were for another kind of step.
        free.clear();
        for _ in 1..IN_FLIGHT {
            free.push(Pinned::new(stream, bytes.max(256))?);
        }
        Pinned::new(stream, bytes.max(256))
    }

    /// Waits for the values.
    pub(super) fn finish(&self, PendingRead { pinned, count }: PendingRead) -> Result<Vec<f32>> {
        let (Some(pinned), Some(stream)) = (pinned, &self.stream) else { return Ok(vec![0.0; count]) };
        pinned.wait()?;
        stream.context().check_err().map_err(failed("an earlier call"))?;
        // SAFETY: `count` floats were copied there, and the copies are done.
        let values = unsafe { std::slice::from_raw_parts(pinned.address.cast::<f32>(), count) }.to_vec();
        self.free.borrow_mut().push(pinned);
        Ok(values)
    }
}
