//! Swizzles: how tensor copies lay rows out in shared memory so that tensor cores read columns without bank conflicts.
//! One definition for the copies that write and the `wgmma` that reads.

/// A swizzle, in the order of `CUtensorMapSwizzle`. It permutes pieces of 16 bytes within rows of `span` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swizzle {
    /// As it comes.
    None,
    /// Rows of 32 bytes; repeats after 256.
    B32,
    /// Rows of 64 bytes; repeats after 512.
    B64,
    /// Rows of 128 bytes; repeats after 1024.
    B128,
}

impl Swizzle {
    /// The shared address at which the byte lies that would lie at `address` without a swizzle. It is its own inverse.
    #[inline(always)]
    pub fn apply(self, address: u64) -> u64 {
        // The bits above a row's 128 bytes choose which of its pieces of 16 bytes change places.
        let pieces = match self {
            Self::None => 0,
            Self::B32 => 1,
            Self::B64 => 3,
            Self::B128 => 7,
        };
        address ^ (address >> 7 & pieces) << 4
    }

    /// Bytes of a row: what the innermost dimension of a box may have.
    pub fn span(self) -> u64 {
        match self {
            Self::None => u64::MAX,
            Self::B32 => 32,
            Self::B64 => 64,
            Self::B128 => 128,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_row_change_places_as_the_isa_shows() {
        // The ISA's tables: row r of the pattern of 128 bytes has piece c at c ^ r.
        for row in 0..8 {
            for piece in 0..8 {
                let address = row * 128 + piece * 16 + 5;
                assert_eq!(Swizzle::B128.apply(address), row * 128 + (piece ^ row) * 16 + 5);
                assert_eq!(Swizzle::B64.apply(address), row * 128 + (piece ^ row % 4) * 16 + 5);
                assert_eq!(Swizzle::B32.apply(address), row * 128 + (piece ^ row % 2) * 16 + 5);
                for swizzle in [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128] {
                    assert_eq!(swizzle.apply(swizzle.apply(address)), address);
                }
            }
        }
    }
}
