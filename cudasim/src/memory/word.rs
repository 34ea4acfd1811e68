//! The words that memory is loaded and stored in: 1, 2, 4 or 8 bytes, each access a relaxed atomic of its own size.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// A value that is loaded and stored as one.
pub trait Word: Copy + Default + Into<u64> + PartialEq + Send + Sync + 'static {
    /// Bytes.
    const BYTES: u64;
    /// The value whose bytes are all 1: what the notes of a written word are.
    const WRITTEN: Self;
    /// Reads a word.
    ///
    /// # Safety
    /// `at` is aligned and valid for the type while it is read.
    unsafe fn load(at: *mut u8) -> Self;
    /// Writes a word.
    ///
    /// # Safety
    /// `at` is aligned and valid for the type while it is written.
    unsafe fn store(at: *mut u8, value: Self);
    /// Writes `new` if the word is `old`, else gives the word that it is.
    ///
    /// # Safety
    /// As [`Word::store`].
    unsafe fn exchange(at: *mut u8, old: Self, new: Self) -> Result<(), Self>;
    /// Replaces a word by `change` of it, at once for all threads of the host; returns the old one.
    ///
    /// # Safety
    /// As [`Word::store`].
    unsafe fn update(at: *mut u8, change: impl FnMut(Self) -> Self) -> Self;
    /// The low bits of a number.
    fn cut(value: u64) -> Self;
    /// The word in the first bytes of a slice.
    fn from_slice(bytes: &[u8]) -> Self;
    /// Puts the word into the first bytes of a slice.
    fn to_slice(self, bytes: &mut [u8]);
}

macro_rules! words {
    ($($ty:ty, $atomic:ident;)*) => {$(
        impl Word for $ty {
            const BYTES: u64 = size_of::<$ty>() as u64;
            const WRITTEN: Self = (0x0101_0101_0101_0101_u64 & <$ty>::MAX as u64) as $ty;

            #[inline(always)]
            unsafe fn load(at: *mut u8) -> Self {
                // SAFETY: aligned and valid, as the caller promises; all accesses are atomic.
                unsafe { $atomic::from_ptr(at.cast()) }.load(Ordering::Relaxed)
            }

            #[inline(always)]
            unsafe fn store(at: *mut u8, value: Self) {
                // SAFETY: as in `load`.
                unsafe { $atomic::from_ptr(at.cast()) }.store(value, Ordering::Relaxed);
            }

            unsafe fn exchange(at: *mut u8, old: Self, new: Self) -> Result<(), Self> {
                // SAFETY: as in `load`.
                let place = unsafe { $atomic::from_ptr(at.cast()) };
                place.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).map(|_| ())
            }

            #[inline(always)]
            unsafe fn update(at: *mut u8, mut change: impl FnMut(Self) -> Self) -> Self {
                // SAFETY: as in `load`.
                let place = unsafe { $atomic::from_ptr(at.cast()) };
                let mut old = place.load(Ordering::Relaxed);
                loop {
                    match place.compare_exchange_weak(old, change(old), Ordering::AcqRel, Ordering::Relaxed) {
                        Ok(old) => return old,
                        Err(now) => old = now,
                    }
                }
            }

            #[inline(always)]
            fn cut(value: u64) -> Self {
                value as Self
            }

            #[inline(always)]
            fn from_slice(bytes: &[u8]) -> Self {
                let mut word = [0; size_of::<$ty>()];
                word.copy_from_slice(&bytes[..size_of::<$ty>()]);
                Self::from_le_bytes(word)
            }

            #[inline(always)]
            fn to_slice(self, bytes: &mut [u8]) {
                bytes[..size_of::<$ty>()].copy_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

words! { u8, AtomicU8; u16, AtomicU16; u32, AtomicU32; u64, AtomicU64; }
