//! Asking memory for what will be read soon.

/// Floats, or words as wide, of a cache line.
const LINE: usize = 16;

/// Asks for the cache line of an address, into the L2 cache: a hint, which reads nothing.
#[inline(always)]
pub(super) fn ask_for_line<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: any address will do, and the instruction is in every x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// The same of all lines of a row of words of 32 bits.
#[inline(always)]
pub(super) fn ask_for<T>(row: &[T]) {
    row.chunks(LINE).for_each(|line| ask_for_line(line.as_ptr()));
}
