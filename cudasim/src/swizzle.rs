//! How tensor copies and wgmma permute the 16-byte chunks of shared memory, so that a column of a tile touches all banks.
//!
//! The permutation is one of addresses, not of a tile: of the bits that number a 16-byte chunk inside 128 bytes, the lowest
//! one, two or three are XORed with as many bits of the number of the 128-byte line.
//!
//! ```text
//! address bits   9 8 7 | 6 5 4 | 3 2 1 0
//! 32 B               7 ->    4
//! 64 B             8 7 ->  5 4
//! 128 B          9 8 7 ->6 5 4
//! ```

/// A permutation, in the order of `CUtensorMapSwizzle`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Swizzle {
    /// Every chunk stays.
    #[default]
    None,
    /// Two chunks of 16 bytes; repeats every 256 bytes.
    B32,
    /// Four chunks; repeats every 512 bytes.
    B64,
    /// Eight chunks; repeats every 1024 bytes.
    B128,
}

impl Swizzle {
    /// Bytes among which chunks are permuted: the width of a tile's rows. 16 without a permutation.
    pub const fn width(self) -> u64 {
        match self {
            Self::None => 16,
            Self::B32 => 32,
            Self::B64 => 64,
            Self::B128 => 128,
        }
    }

    /// Bytes of a row of a tile that a tensor copy may write: what the innermost dimension of a box may have.
    pub const fn span(self) -> u64 {
        match self {
            Self::None => u64::MAX,
            _ => self.width(),
        }
    }

    /// Bytes after which the pattern repeats; 16 without a permutation.
    pub const fn period(self) -> u64 {
        match self {
            Self::None => 16,
            _ => 8 * self.width(),
        }
    }

    /// Where the byte lies that would lie at `address` without a permutation. Its own inverse.
    #[inline(always)]
    pub const fn apply(self, address: u64) -> u64 {
        self.apply_from(address, 0)
    }

    /// As [`Swizzle::apply`], for a pattern that starts `lines` lines of 128 bytes after a multiple of its period.
    #[inline(always)]
    pub const fn apply_from(self, address: u64, lines: u64) -> u64 {
        let bits = (self.width() - 1) & !15;
        address ^ (address.wrapping_sub(lines << 7) >> 3 & bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Swizzle; 4] = [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128];

    #[test]
    fn chunks_move_as_the_figures_show() {
        // Chunk numbers of the lines of 128 bytes, as in the figures of the PTX ISA on swizzling modes.
        let line = |swizzle: Swizzle, line: u64| -> Vec<u64> {
            (0..8).map(|chunk| swizzle.apply(line * 128 + chunk * 16) / 16 % 8).collect()
        };
        assert_eq!(line(Swizzle::B128, 0), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(line(Swizzle::B128, 1), [1, 0, 3, 2, 5, 4, 7, 6]);
        assert_eq!(line(Swizzle::B128, 5), [5, 4, 7, 6, 1, 0, 3, 2]);
        assert_eq!(line(Swizzle::B128, 8), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(line(Swizzle::B64, 1), [1, 0, 3, 2, 5, 4, 7, 6]);
        assert_eq!(line(Swizzle::B64, 2), [2, 3, 0, 1, 6, 7, 4, 5]);
        assert_eq!(line(Swizzle::B64, 4), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(line(Swizzle::B32, 1), [1, 0, 3, 2, 5, 4, 7, 6]);
        assert_eq!(line(Swizzle::B32, 2), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn each_is_its_own_inverse_and_keeps_lines_and_bytes() {
        for swizzle in ALL {
            for address in (0..4096).chain(1 << 20..(1 << 20) + 4096) {
                let moved = swizzle.apply(address);
                assert_eq!(swizzle.apply(moved), address);
                assert_eq!((moved >> 7, moved % 16), (address >> 7, address % 16));
                assert_eq!(moved / swizzle.width(), address / swizzle.width());
                assert_eq!(swizzle.apply(address + swizzle.period()), moved + swizzle.period());
                let later = swizzle.apply_from(address + 3 * 128, 3);
                assert_eq!(later - 3 * 128, moved, "a pattern that starts three lines on");
            }
        }
    }

    #[test]
    fn a_column_of_eight_rows_touches_every_bank_once() {
        let mut banks: Vec<u64> = (0..8).map(|row| Swizzle::B128.apply(row * 128 + 48) % 128).collect();
        banks.sort_unstable();
        assert_eq!(banks, [0, 16, 32, 48, 64, 80, 96, 112]);
    }
}
