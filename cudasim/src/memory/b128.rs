//! Values of 128 bits that are loaded, stored and exchanged in one piece, as the hardware does with `.b128` and with strong
//! vector accesses of 16 bytes: a scan's status and value travel together.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::word::Word;

/// Where the processor cannot exchange 16 bytes, only one thread at a time touches any.
static LOCK: Mutex<()> = Mutex::new(());

fn lock() -> MutexGuard<'static, ()> {
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// # Safety
/// `at` is a multiple of 16 and valid for reads and writes of 16 bytes, which only atomics touch.
pub(super) unsafe fn load(at: *mut u8) -> u128 {
    // SAFETY: as the caller promises; the value that it stores is the one that is there.
    unsafe { update(at, |old| old) }
}

/// # Safety
/// As [`load`].
pub(super) unsafe fn store(at: *mut u8, value: u128) {
    // SAFETY: as the caller promises.
    unsafe { update(at, |_| value) };
}

/// # Safety
/// As [`load`].
pub(super) unsafe fn update(at: *mut u8, mut change: impl FnMut(u128) -> u128) -> u128 {
    // The instruction of the processor, where it has it.
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("cmpxchg16b") {
        // SAFETY: as the caller promises.
        let mut old = unsafe { halves(at) };
        loop {
            // SAFETY: the processor has the instruction; the address is as the caller promises.
            let found = unsafe { exchange(at.cast(), old, change(old)) };
            if found == old {
                return old;
            }
            old = found;
        }
    }

    // Else one thread at a time.
    let _alone = lock();
    // SAFETY: as the caller promises.
    unsafe {
        let old = halves(at);
        let new = change(old);
        <u64 as Word>::store(at, new as u64);
        <u64 as Word>::store(at.add(8), (new >> 64) as u64);
        old
    }
}

/// The two halves, perhaps of different times.
unsafe fn halves(at: *mut u8) -> u128 {
    // SAFETY: as the callers promise.
    let (low, high) = unsafe { (<u64 as Word>::load(at), <u64 as Word>::load(at.add(8))) };
    u128::from(high) << 64 | u128::from(low)
}

/// Stores `new` where `old` is; gives what was there.
///
/// # Safety
/// As [`load`]; the processor has `cmpxchg16b`.
#[cfg(target_arch = "x86_64")]
unsafe fn exchange(at: *mut u128, old: u128, new: u128) -> u128 {
    let (low, high): (u64, u64);
    // SAFETY: as the caller promises. The compiler keeps rbx for itself, so it is put back.
    unsafe {
        std::arch::asm!(
            "xchg {new_low}, rbx",
            "lock cmpxchg16b [{at}]",
            "mov rbx, {new_low}",
            at = in(reg) at,
            new_low = inout(reg) new as u64 => _,
            in("rcx") (new >> 64) as u64,
            inout("rax") old as u64 => low,
            inout("rdx") (old >> 64) as u64 => high,
            options(nostack)
        );
    }
    u128::from(high) << 64 | u128::from(low)
}
