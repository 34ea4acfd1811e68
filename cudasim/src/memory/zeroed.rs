//! Memory of the host that is zero at first, and is taken page by page as it is touched.

use std::sync::atomic::AtomicU64;

use super::error::MemoryError;

/// `count` atomics that are zero, without touching their pages.
pub(super) fn zeroed<T: Zeroable>(count: usize) -> Result<Box<[T]>, MemoryError> {
    let layout = std::alloc::Layout::array::<T>(count).map_err(|_| MemoryError::OutOfMemory)?;
    if layout.size() == 0 {
        return Ok(Box::new([]));
    }
    // SAFETY: the layout is not empty; a zeroed T is a T (`Zeroable`); the box frees with the same layout.
    unsafe {
        let pointer = std::alloc::alloc_zeroed(layout).cast::<T>();
        if pointer.is_null() {
            return Err(MemoryError::OutOfMemory);
        }
        Ok(Box::from_raw(std::ptr::slice_from_raw_parts_mut(pointer, count)))
    }
}

/// Types of which all-zero bytes are a value.
pub(super) trait Zeroable {}
impl Zeroable for AtomicU64 {}
