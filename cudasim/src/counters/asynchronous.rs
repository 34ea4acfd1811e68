//! Counts of what moves without a warp's lanes asking for it: bulk and tensor copies, and the multiplicands of `wgmma`.
//!
//! How the hardware cuts this traffic is not public, so the model is plain. A copy touches each sector of 32 bytes of global
//! memory and each line of 128 bytes of shared memory once, whichever of its rows want it. A multiplicand is read in core
//! matrices of 8 chunks of 16 bytes, one wavefront each unless two chunks want different words of one bank, as a matrix of
//! `ldmatrix`: A once for each operation, B once for the four warps together.

use std::fmt::Write as _;

use super::{GlobalTraffic, SECTOR, WAVEFRONT, names, wavefronts};

/// What goes one way between copies and shared memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharedLines {
    /// Copies, one for each block that a multicast reaches.
    pub requests: u64,
    /// Lines of 128 bytes that they touched, each once for each copy.
    pub lines: u64,
    /// Bytes that they moved, with those that stand for what is outside a tensor.
    pub bytes: u64,
}

/// What bulk and tensor copies move, by direction as the copy sees the memory: it loads its source and stores its target, or
/// reduces into it (`Atomic`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkTraffic {
    /// Global memory: `requests` are copies; a multicast is one.
    pub global: [GlobalTraffic; 3],
    /// Shared memory.
    pub shared: [SharedLines; 3],
}

/// What `wgmma` reads of one of its multiplicands in shared memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Multiplicand {
    /// Core matrices of 8 chunks of 16 bytes.
    pub matrices: u64,
    /// Times that the banks had to serve them.
    pub wavefronts: u64,
    /// Bytes.
    pub bytes: u64,
}

/// How many units of `unit` bytes some pieces (address, bytes) touch, each once, and how many bytes they have.
fn touched(pieces: impl Iterator<Item = (u64, u64)>, unit: u64) -> (u64, u64) {
    let (mut units, mut bytes) = (Vec::new(), 0);
    for (address, count) in pieces.filter(|&(_, count)| count != 0) {
        units.extend(address / unit..=(address + count - 1) / unit);
        bytes += count;
    }
    units.sort_unstable();
    units.dedup();
    (units.len() as u64, bytes)
}

impl BulkTraffic {
    /// Counts what a copy asks of global memory: pieces are addresses and lengths.
    pub fn global(&mut self, direction: super::Direction, pieces: impl Iterator<Item = (u64, u64)>) {
        let (sectors, bytes) = touched(pieces, SECTOR);
        let traffic = &mut self.global[direction as usize];
        traffic.requests += 1;
        traffic.sectors += sectors;
        traffic.bytes += bytes;
    }

    /// Counts what a copy asks of the shared memory of a block: pieces are addresses and lengths.
    pub fn shared(&mut self, direction: super::Direction, pieces: impl Iterator<Item = (u64, u64)>) {
        let (lines, bytes) = touched(pieces, WAVEFRONT);
        let traffic = &mut self.shared[direction as usize];
        traffic.requests += 1;
        traffic.lines += lines;
        traffic.bytes += bytes;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.global.iter_mut().zip(&other.global) {
            mine.add(theirs);
        }
        for (mine, theirs) in self.shared.iter_mut().zip(&other.shared) {
            mine.requests += theirs.requests;
            mine.lines += theirs.lines;
            mine.bytes += theirs.bytes;
        }
    }

    pub(super) fn json(&self, text: &mut String) {
        text.push_str("{\"global\":{");
        names(text, &["load", "store", "atomic"], &self.global, GlobalTraffic::json);
        text.push_str("},\"shared\":{");
        names(text, &["load", "store", "atomic"], &self.shared, |traffic, text| {
            let SharedLines { requests, lines, bytes } = traffic;
            let _ = write!(text, "{{\"requests\":{requests},\"lines\":{lines},\"bytes\":{bytes}}}");
        });
        text.push_str("}}");
    }
}

impl Multiplicand {
    /// Counts a core matrix: the addresses of its chunks.
    pub fn matrix(&mut self, chunks: [u64; 8]) {
        let mut addresses = [0; 32];
        addresses[..8].copy_from_slice(&chunks);
        self.matrices += 1;
        self.wavefronts += wavefronts(&addresses, 0xff, 16);
        self.bytes += 8 * 16;
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.matrices += other.matrices;
        self.wavefronts += other.wavefronts;
        self.bytes += other.bytes;
    }

    pub(super) fn json(&self, text: &mut String) {
        let Self { matrices, wavefronts, bytes } = self;
        let _ = write!(text, "{{\"matrices\":{matrices},\"wavefronts\":{wavefronts},\"bytes\":{bytes}}}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Direction;

    #[test]
    fn each_sector_and_line_counts_once_for_a_copy() {
        let mut bulk = BulkTraffic::default();
        // Rows of 48 bytes, 48 apart: 144 bytes from 0x1010 on touch sectors 0x1000 to 0x1080, neighbours share some.
        let rows = (0..3).map(|row| (0x1010 + 48 * row, 48));
        bulk.global(Direction::Load, rows);
        assert_eq!(bulk.global[0], GlobalTraffic { requests: 1, sectors: 5, bytes: 144 });
        bulk.global(Direction::Load, [(0x1000, 16), (0x1010, 16), (0x2000, 0)].into_iter());
        assert_eq!(bulk.global[0], GlobalTraffic { requests: 2, sectors: 6, bytes: 176 });
        bulk.shared(Direction::Atomic, [(1024 + 112, 16), (1024 + 128, 32)].into_iter());
        assert_eq!(bulk.shared[2], SharedLines { requests: 1, lines: 2, bytes: 48 });
        let mut sum = bulk;
        sum.add(&bulk);
        assert_eq!((sum.global[0].sectors, sum.shared[2].lines), (12, 4));
    }

    #[test]
    fn core_matrices_conflict_where_chunks_share_banks() {
        let count = |chunk: fn(u64) -> u64| {
            let mut multiplicand = Multiplicand::default();
            multiplicand.matrix(std::array::from_fn(|row| chunk(row as u64)));
            (multiplicand.wavefronts, multiplicand.bytes)
        };
        assert_eq!(count(|row| 1024 + 16 * row), (1, 128));
        assert_eq!(count(|row| 1024 + 16 + 16 * row), (1, 128), "across a line");
        assert_eq!(count(|row| 128 * row), (8, 128), "rows of 128 bytes without a swizzle");
        assert_eq!(count(|row| 128 * row + 16 * row), (1, 128), "with it");
        assert_eq!(count(|row| 64 * row), (4, 128));
        assert_eq!(count(|_| 64), (1, 128), "the same words");
    }
}
