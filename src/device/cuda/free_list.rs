//! Buffers that are free, by size.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use cudarc::driver::CudaSlice;

use super::host_memory::HostMemory;
use super::pointer::Pointer;

/// How many times as large as asked a lent buffer may be: a small tensor is not worth a large buffer that others wait for.
const WASTE: usize = 8;

/// The memory of a buffer.
pub(super) enum Memory {
    /// The driver's.
    Taken(CudaSlice<u8>),
    /// Of a device that only counts: there is none, but perhaps an address.
    Counted(Pointer),
    /// The host's, which no free list has; none on a device that only counts.
    Host { _memory: Option<HostMemory> },
}

/// Buffers that are free, by size in bytes.
#[derive(Default)]
pub(super) struct FreeList {
    free: RefCell<BTreeMap<usize, Vec<Memory>>>,
    /// Set once a recording has gone, and its buffers have become everybody's.
    retired: Cell<bool>,
}

impl FreeList {
    /// One of just this size.
    pub fn take(&self, size: usize) -> Option<Memory> {
        self.free.borrow_mut().get_mut(&size).and_then(Vec::pop)
    }

    /// The smallest of at least this size, and its own; none if that is far larger.
    pub fn take_at_least(&self, size: usize) -> Option<(usize, Memory)> {
        let mut free = self.free.borrow_mut();
        let fits = free.range_mut(size..=size.saturating_mul(WASTE)).find(|(_, buffers)| !buffers.is_empty());
        fits.and_then(|(size, buffers)| Some((*size, buffers.pop()?)))
    }

    pub fn put(&self, size: usize, memory: Memory) {
        self.free.borrow_mut().entry(size).or_default().push(memory);
    }

    /// Number of buffers.
    pub fn len(&self) -> usize {
        self.free.borrow().values().map(Vec::len).sum()
    }

    /// All of them, with their sizes.
    pub fn drain(&self) -> Vec<(usize, Memory)> {
        let free = self.free.take();
        free.into_iter().flat_map(|(size, buffers)| buffers.into_iter().map(move |memory| (size, memory))).collect()
    }

    /// Says that its buffers have become everybody's.
    pub fn retire(&self) {
        self.retired.set(true);
    }

    pub fn is_retired(&self) -> bool {
        self.retired.get()
    }
}
