//! The `igpt-engine` binary: hands over to [`igpt_engine::cli`], and ends with a message where memory runs out.

use std::alloc::{GlobalAlloc, Layout, System};

use igpt_engine::plan::exhausted;

#[global_allocator]
static ALLOCATOR: Speaking = Speaking;

/// The system's allocator; what it cannot give ends the process with what the command prepared to say, on whichever thread,
/// where Rust's own way is to abort.
struct Speaking;

impl Speaking {
    #[inline]
    fn given(pointer: *mut u8, bytes: usize) -> *mut u8 {
        if pointer.is_null() {
            refused(bytes);
        }
        pointer
    }
}

#[cold]
fn refused(bytes: usize) {
    exhausted::end(bytes);
}

// SAFETY: every call goes to the system's allocator with what it was called with, and its answer is handed on; `given` returns
// the pointer that it was given and neither allocates nor unwinds.
unsafe impl GlobalAlloc for Speaking {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the promises of `GlobalAlloc::alloc`.
        Self::given(unsafe { System.alloc(layout) }, layout.size())
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the promises of `GlobalAlloc::alloc_zeroed`.
        Self::given(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the promises of `GlobalAlloc::realloc`.
        Self::given(unsafe { System.realloc(pointer, layout, size) }, size)
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the promises of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn main() -> std::process::ExitCode {
    igpt_engine::cli::main()
}
