//! Shared memory that a block may have, by compute capability; and that every variant of a kernel fits it.

use super::kernel::Kernel;

/// Compute capability and largest shared memory of a block in bytes (CUDA C++ programming guide, "Technical specifications per
/// compute capability").
pub const SHARED_LIMITS: [((i32, i32), usize); 7] = [
    ((8, 0), 163 << 10),
    ((8, 6), 99 << 10),
    ((8, 9), 99 << 10),
    ((9, 0), 227 << 10),
    ((10, 0), 227 << 10),
    ((10, 3), 227 << 10),
    ((12, 0), 99 << 10),
];

/// What every card has: compute capability 8.6, 8.9 and 12.0 no more.
pub(super) const SMALLEST: usize = of(8, 6);
/// Of compute capability 8.0.
pub(super) const MEDIUM: usize = of(8, 0);
/// Of 9.0 and 10.x.
pub(super) const LARGE: usize = of(9, 0);

/// The limit of a compute capability.
const fn of(major: i32, minor: i32) -> usize {
    let mut index = 0;
    loop {
        let ((of_major, of_minor), bytes) = SHARED_LIMITS[index];
        if of_major == major && of_minor == minor {
            return bytes;
        }
        index += 1;
    }
}

/// Blocks of so much shared memory that a multiprocessor has room for, where one may have `limit` bytes. It has 1 KB more than
/// that, and each block takes 1 KB besides its own.
pub(super) const fn blocks_of(limit: usize, shared: usize) -> usize {
    const RESERVED: usize = 1 << 10;
    (limit + RESERVED) / (shared + RESERVED)
}

/// Shared memory of a block in bytes: what the kernel declares, on the architecture where that is most, and `dynamic` more.
pub(super) const fn shared_of<A: super::kernel::Arguments>(kernel: &Kernel<A>, dynamic: usize) -> usize {
    let Some(info) = kernel.info() else { return dynamic };
    let mut fixed = 0;
    let mut index = 0;
    while index < info.resources.len() {
        if info.resources[index].shared as usize > fixed {
            fixed = info.resources[index].shared as usize;
        }
        index += 1;
    }
    fixed + dynamic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_card_has_less_than_the_smallest_and_two_blocks_share_a_multiprocessor() {
        assert!(SHARED_LIMITS.iter().all(|(_, bytes)| [SMALLEST, MEDIUM, LARGE].contains(bytes)));
        const { assert!(SMALLEST < MEDIUM && MEDIUM < LARGE) };
        // 100 KB in two halves of 50, each with 1 KB of its own.
        assert_eq!([blocks_of(SMALLEST, 49 << 10), blocks_of(SMALLEST, (49 << 10) + 1)], [2, 1]);
    }
}
