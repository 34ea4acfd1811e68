//! Tensors, and the pool that their memory comes from and goes back to.
//!
//! A step takes and drops the same tensors as the step before, so the pool keeps every buffer by its exact length and
//! after the first step nothing is allocated: fresh pages are what costs Hugging Face, candle and burn a factor of 2 to
//! 4 here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::device::shape::Shape;
use crate::device::{MemoryUse, Precision};

/// A cache line, which is also the widest vector: buffers start on one.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Floats in a line.
const LINE: usize = 16;

/// Buffers waiting to be used again.
#[derive(Default)]
pub(super) struct Pool {
    /// Fill whatever is handed out with NaN.
    poison: bool,
    state: Mutex<PoolState>,
}

#[derive(Default)]
struct PoolState {
    /// By length in lines.
    free: HashMap<usize, Vec<Vec<Line>>>,
    memory: MemoryUse,
}

impl Pool {
    pub(super) fn new(poison: bool) -> Arc<Self> {
        Arc::new(Self { poison, state: Mutex::default() })
    }

    /// A buffer of `len` floats, whatever values they have.
    pub(super) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let lines = len.div_ceil(LINE);

        // A free buffer of this length, and the statistics, under one lock.
        let reused = {
            let mut state = self.lock();
            let reused = state.free.get_mut(&lines).and_then(Vec::pop);
            let bytes = lines * size_of::<Line>();
            state.memory.in_use += bytes;
            state.memory.peak = state.memory.peak.max(state.memory.in_use);
            if reused.is_none() {
                state.memory.allocated += bytes;
            }
            reused
        };

        let lines = reused.unwrap_or_else(|| vec![Line([0.0; LINE]); lines]);
        let mut buffer = Buffer { lines, len, pool: Arc::clone(self), panels: Panels::new() };
        if self.poison {
            buffer.fill(f32::NAN);
        }
        buffer
    }

    pub(super) fn memory(&self) -> MemoryUse {
        self.lock().memory
    }

    /// A panic elsewhere leaves the lists as they were between two of these short calls: still good.
    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Panels of a weight (`few_rows.rs`), made when they were asked for, and gone when the weight changes.
pub(super) type Panels = OnceLock<Box<Laid>>;

/// A weight in panels.
pub(super) struct Laid {
    /// How its numbers are rounded: two of bf16 are a word.
    pub precision: Precision,
    /// The panels' words, of 32 bits.
    pub words: Buffer,
}

/// Floats from the pool; dropping it gives them back.
pub(super) struct Buffer {
    lines: Vec<Line>,
    len: usize,
    pool: Arc<Pool>,
    /// The same numbers in panels, of a weight that images are drawn with.
    panels: Panels,
}

impl Buffer {
    pub(super) fn panels(&self) -> &Panels {
        &self.panels
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        let mut state = self.pool.lock();
        state.memory.in_use -= lines.len() * size_of::<Line>();
        state.free.entry(lines.len()).or_default().push(lines);
    }
}

impl std::ops::Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // Whoever may write makes them stale.
        self.panels.take();
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

/// A dense row-major array of floats on a [`CpuDevice`](super::CpuDevice).
pub struct CpuTensor {
    pub(super) shape: Shape,
    pub(super) values: Buffer,
}

impl CpuTensor {
    /// The elements, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    pub(super) fn dimensions(&self) -> &[usize] {
        self.shape.as_slice()
    }
}

/// A dense row-major array of token ids on a [`CpuDevice`](super::CpuDevice).
pub struct CpuTokens {
    pub(super) shape: [usize; 2],
    pub(super) ids: Vec<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_round_allocates_nothing() {
        let pool = Pool::new(false);
        for _ in 0..2 {
            let (a, b) = (pool.take(17), pool.take(40));
            assert_eq!((a.len(), b.len()), (17, 40));
            assert_eq!(a.as_ptr() as usize % 64, 0);
        }
        let line = size_of::<Line>();
        assert_eq!(pool.memory(), MemoryUse { in_use: 0, peak: 5 * line, allocated: 5 * line, host: 0 });
    }

    #[test]
    fn poison_reaches_reused_buffers() {
        let pool = Pool::new(true);
        pool.take(5).fill(1.0);
        assert!(pool.take(5).iter().all(|value| value.is_nan()));
    }
}
