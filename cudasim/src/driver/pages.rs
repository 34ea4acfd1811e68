//! Page-locked host memory that the driver owns.

use std::alloc::Layout;

use super::error::{CudaError, Result};
use super::ffi::HostPointer;

/// Whole pages of host memory, zero at first.
pub struct Pages {
    data: *mut u8,
    layout: Layout,
}

// SAFETY: it owns the memory and hands out no reference to it.
unsafe impl Send for Pages {}

impl Pages {
    /// At least `bytes` bytes.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn new(bytes: usize) -> Result<Self> {
        let layout = Layout::from_size_align(bytes.max(1), 4096).map_err(|_| CudaError::OutOfMemory)?.pad_to_align();
        // SAFETY: the layout is not empty.
        let data = unsafe { std::alloc::alloc_zeroed(layout) };
        if data.is_null() {
            return Err(CudaError::OutOfMemory);
        }
        Ok(Self { data, layout })
    }

    /// The first byte.
    pub fn pointer(&self) -> HostPointer {
        HostPointer::new(self.data.expose_provenance() as u64)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `new`.
        unsafe { std::alloc::dealloc(self.data, self.layout) };
    }
}
