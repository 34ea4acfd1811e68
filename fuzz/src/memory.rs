//! The allocation guard: a global allocator that counts, and a check after each input.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes that reading an input may hold beyond the input's own size.
pub const ALLOWED: usize = 64 << 20;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes held now, the most since the last reset, and the most that any input took.
static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

fn grown(bytes: usize) {
    let held = HELD.fetch_add(bytes, Relaxed).wrapping_add(bytes);
    PEAK.fetch_max(held, Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came; beside that only counters change.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller keeps the promises of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller keeps the promises of `GlobalAlloc::alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the promises of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What was held before an input.
pub struct Guard {
    before: usize,
}

impl Guard {
    /// Starts counting.
    pub fn start() -> Self {
        let before = HELD.load(Relaxed);
        PEAK.store(before, Relaxed);
        Guard { before }
    }

    /// Fails where more was held than is allowed; prints every new maximum from 64 KiB on, for the table of `cargo xtask fuzz`.
    pub fn check(&self, input: usize, target: &str) {
        let taken = PEAK.load(Relaxed).saturating_sub(self.before);
        let beyond = taken.saturating_sub(input);
        assert!(beyond <= ALLOWED, "{target}: {beyond} bytes were held beyond the input's {input}");
        let largest = LARGEST.fetch_max(taken, Relaxed);
        if taken > largest + (64 << 10) || largest == 0 {
            eprintln!("LARGEST {taken}");
        }
    }
}
