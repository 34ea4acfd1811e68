//! Loops over blocks of rows, divided among the threads.
//!
//! Blocks have a fixed size and each is computed by one task, so results do not depend on the number of threads or on
//! who ran what. Sums over rows go through [`CpuDevice::for_each_block`] into partial sums by block, which
//! [`add_partial_sums`] combines in order.

use super::CpuDevice;

/// Rows of a block: enough to pay for the task, few enough to balance the threads.
pub(super) const ROW_BLOCK: usize = 64;

/// Elements below which waking another thread costs more than it saves.
const SMALL: usize = 16 * 1024;

/// An output of which each task gets its own `block` elements; the last block may be shorter.
pub(super) struct Blocked<'a> {
    data: &'a mut [f32],
    block: usize,
}

/// `data` in blocks of `block` elements.
pub(super) fn blocked(data: &mut [f32], block: usize) -> Blocked<'_> {
    Blocked { data, block }
}

impl<'a> Blocked<'a> {
    /// Takes the first `blocks` blocks away.
    fn take(&mut self, blocks: usize) -> &'a mut [f32] {
        let data = std::mem::take(&mut self.data);
        let (head, tail) = data.split_at_mut((blocks * self.block).min(data.len()));
        self.data = tail;
        head
    }
}

impl CpuDevice {
    /// Calls `task` with the index of each of `count` blocks and its part of every output.
    ///
    /// `work` is the number of elements that all blocks together touch: little work stays on the calling thread.
    pub(super) fn for_each_block<const N: usize>(
        &self,
        count: usize,
        work: usize,
        mut outputs: [Blocked<'_>; N],
        task: impl Fn(usize, [&mut [f32]; N]) + Sync,
    ) {
        if self.threads == 1 || count == 1 || work < SMALL {
            (0..count).for_each(|block| task(block, outputs.each_mut().map(|output| output.take(1))));
        } else {
            self.pool.install(|| fork(0, count, outputs, &task));
        }
    }
}

/// Halves the blocks until each is a task of its own that an idle thread can steal.
fn fork<const N: usize, F: Fn(usize, [&mut [f32]; N]) + Sync>(
    first: usize,
    count: usize,
    mut outputs: [Blocked<'_>; N],
    task: &F,
) {
    if count == 1 {
        return task(first, outputs.map(|output| output.data));
    }
    let half = count / 2;
    let left = outputs.each_mut().map(|output| Blocked { data: output.take(half), block: output.block });
    rayon::join(|| fork(first, half, left, task), || fork(first + half, count - half, outputs, task));
}

/// `out += Σ_blocks partial[block]`, in the order of the blocks.
pub(super) fn add_partial_sums(out: &mut [f32], partial: &[f32]) {
    for row in partial.chunks_exact(out.len()) {
        out.iter_mut().zip(row).for_each(|(out, partial)| *out += partial);
    }
}

/// A slice to which the tasks of one loop write in strides, each its own elements.
pub(super) struct Scattered<'a> {
    start: *mut f32,
    len: usize,
    borrow: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is only used through `part`, whose callers promise that no two tasks use the same elements.
unsafe impl Sync for Scattered<'_> {}

impl<'a> Scattered<'a> {
    pub(super) fn new(data: &'a mut [f32]) -> Self {
        Self { start: data.as_mut_ptr(), len: data.len(), borrow: std::marker::PhantomData }
    }

    /// `len` elements from `first` on.
    ///
    /// # Safety
    /// As long as the returned slice lives, nothing else may use any of its elements.
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn part(&self, first: usize, len: usize) -> &mut [f32] {
        assert!(first.checked_add(len).is_some_and(|end| end <= self.len), "part of a tensor past its end");
        // SAFETY: inside the borrowed slice by the assertion, and the caller's alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), len) }
    }

    /// Where `len` elements from `first` on are.
    pub(super) fn pointer(&self, first: usize, len: usize) -> *mut f32 {
        assert!(first.checked_add(len).is_some_and(|end| end <= self.len), "part of a tensor past its end");
        self.start.wrapping_add(first)
    }
}
