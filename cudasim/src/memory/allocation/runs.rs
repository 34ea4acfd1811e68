//! Runs: what 32 lanes side by side read and write at once.

use super::Allocation;
use crate::memory::word::Word;

impl Allocation {
    /// The offset of 32 lanes of `bytes` bytes side by side, the first at `address`, where all of it is inside and at a multiple
    /// of `bytes`, a power of two.
    #[inline(always)]
    pub fn run(&self, address: u64, bytes: u64) -> Option<u64> {
        let offset = address.wrapping_sub(self.base);
        let inside = offset < self.size && 32 * bytes <= self.size - offset;
        (inside && address & (bytes - 1) == 0).then_some(offset)
    }

    /// As [`Allocation::gather`] for a run at `offset`, which [`Allocation::run`] gave.
    #[inline(always)]
    pub fn load_run<T: Word, const N: usize>(&self, offset: u64, into: &mut [[T; 32]; N]) -> bool {
        self.check_run::<T, N>(offset);
        let start = offset as usize;
        for lane in 0..32 {
            for (part, values) in into.iter_mut().enumerate() {
                // SAFETY: `check_run` has just said that the run is inside and its words aligned.
                values[lane] = unsafe { T::load(self.data.add(start + (lane * N + part) * T::BYTES as usize)) };
            }
        }

        // Whether all of it was written: in words of 8 where the run allows that.
        let bytes = 32 * N as u64 * T::BYTES;
        let mut unwritten = 0;
        if offset.is_multiple_of(8) {
            for at in (offset..offset + bytes).step_by(8) {
                // SAFETY: the notes are as many as the bytes, in whole words of 8.
                unwritten |= unsafe { u64::load(self.notes(at)) } ^ u64::WRITTEN;
            }
        } else {
            for at in (offset..offset + bytes).step_by(T::BYTES as usize) {
                // SAFETY: as above, aligned as the bytes are.
                unwritten |= unsafe { T::load(self.notes(at)) }.into() ^ T::WRITTEN.into();
            }
        }
        unwritten == 0
    }

    /// As [`Allocation::scatter`] for a run at `offset`, which [`Allocation::run`] gave.
    #[inline(always)]
    pub fn store_run<T: Word, const N: usize>(&self, offset: u64, from: &[[T; 32]; N]) {
        self.check_run::<T, N>(offset);
        let start = offset as usize;
        for lane in 0..32 {
            for (part, values) in from.iter().enumerate() {
                // SAFETY: as in `load_run`.
                unsafe { T::store(self.data.add(start + (lane * N + part) * T::BYTES as usize), values[lane]) };
            }
        }

        let bytes = 32 * N as u64 * T::BYTES;
        if offset.is_multiple_of(8) {
            for at in (offset..offset + bytes).step_by(8) {
                // SAFETY: as in `load_run`.
                unsafe { u64::store(self.notes(at), u64::WRITTEN) };
            }
        } else {
            for at in (offset..offset + bytes).step_by(T::BYTES as usize) {
                // SAFETY: as in `load_run`.
                unsafe { T::store(self.notes(at), T::WRITTEN) };
            }
        }
    }

    #[inline(always)]
    fn check_run<T: Word, const N: usize>(&self, offset: u64) {
        let bytes = 32 * N as u64 * T::BYTES;
        let inside = offset.checked_add(bytes).is_some_and(|end| end <= self.size);
        assert!(inside && offset.is_multiple_of(T::BYTES), "unchecked access");
    }
}

#[cfg(test)]
mod tests {
    use super::super::Origin;
    use super::*;

    fn filled(bytes: u64) -> Allocation {
        let allocation = Allocation::new(0x1000, bytes, Origin::Allocated(0)).unwrap();
        let values: Vec<u8> = (0..bytes).map(|i| (i * 7 % 251) as u8).collect();
        allocation.write(0, &values);
        allocation
    }

    fn agrees<T: Word + std::fmt::Debug, const N: usize>() {
        let (ours, theirs) = (filled(4096), filled(4096));
        let width = N as u64 * T::BYTES;
        for offset in [0, width, 3 * width, 1024 + 8, 2048 + width] {
            let addresses: [u64; 32] = std::array::from_fn(|lane| 0x1000 + offset + lane as u64 * width);
            assert_eq!(ours.run(addresses[0], width), Some(offset).filter(|offset| offset % width == 0));
            if offset % width != 0 {
                continue;
            }

            let (mut run, mut gathered) = ([[T::default(); 32]; N], [[T::default(); 32]; N]);
            assert!(ours.load_run(offset, &mut run) && theirs.gather(&addresses, &mut gathered));
            assert_eq!(run, gathered);
            for at in [offset, offset + 31 * width, offset + 32 * width - 1] {
                ours.set_written(at, 1, false);
                assert!(!ours.load_run(offset, &mut run), "byte {at} was never written");
                ours.set_written(at, 1, true);
            }

            ours.set_written(offset, 32 * width, false);
            let reversed = run.map(|mut values| {
                values.reverse();
                values
            });
            ours.store_run(offset, &reversed);
            theirs.scatter(&addresses, u32::MAX, &reversed);

            let (mut left, mut right) = ([0; 4096], [0; 4096]);
            ours.read(0, &mut left);
            theirs.read(0, &mut right);
            assert_eq!(left, right);
            assert!(ours.is_written(0, 4096));
        }
    }

    #[test]
    fn runs_do_what_gather_and_scatter_do() {
        agrees::<u8, 1>();
        agrees::<u8, 4>();
        agrees::<u16, 1>();
        agrees::<u32, 1>();
        agrees::<u32, 2>();
        agrees::<u32, 4>();
        agrees::<u64, 1>();
        agrees::<u64, 2>();
    }

    #[test]
    fn a_run_is_inside_and_aligned() {
        let allocation = filled(1000);
        assert_eq!(allocation.run(0x1000 + 872, 4), Some(872));
        assert_eq!(allocation.run(0x1000 + 876, 4), None, "behind the end");
        assert_eq!(allocation.run(0x1002, 4), None);
        assert_eq!(allocation.run(0xfff, 1), None);
        assert_eq!(allocation.run(u64::MAX - 63, 4), None);
    }
}
