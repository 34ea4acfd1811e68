//! Memory of the host that is zero at first, and is taken page by page as it is touched.

use std::ops::Deref;
use std::sync::atomic::AtomicU64;

use memmap2::MmapMut;

use super::error::MemoryError;

/// From so many bytes on, pages of its own. An allocator that has some of that size back writes zeros to all of it, however little of it
/// is touched then.
const MAPPED: usize = 4 << 20;

/// Atomics that were zero when they were made.
pub(super) struct Zeroed {
    first: *const AtomicU64,
    count: usize,
    /// Where they are: in one of the two.
    _memory: (Vec<AtomicU64>, Option<MmapMut>),
}

// SAFETY: a shared slice of atomics, and what owns it.
unsafe impl Send for Zeroed {}
// SAFETY: as above.
unsafe impl Sync for Zeroed {}

impl Zeroed {
    /// `count` of them, without touching their pages where they are many.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub(super) fn new(count: usize) -> Result<Self, MemoryError> {
        let bytes = count.checked_mul(size_of::<AtomicU64>()).ok_or(MemoryError::OutOfMemory)?;
        if bytes >= MAPPED {
            let pages = MmapMut::map_anon(bytes).map_err(|_| MemoryError::OutOfMemory)?;
            return Ok(Self { first: pages.as_ptr().cast(), count, _memory: (Vec::new(), Some(pages)) });
        }
        let mut words = Vec::new();
        words.try_reserve_exact(count).map_err(|_| MemoryError::OutOfMemory)?;
        words.resize_with(count, AtomicU64::default);
        Ok(Self { first: words.as_ptr(), count, _memory: (words, None) })
    }
}

impl Deref for Zeroed {
    type Target = [AtomicU64];

    #[inline(always)]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: `count` atomics that live as long as `_memory`, which is reached through here alone; pages are aligned, and begin as zeros.
        unsafe { std::slice::from_raw_parts(self.first, self.count) }
    }
}
