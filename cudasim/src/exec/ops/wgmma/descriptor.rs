//! Matrix descriptors: where a multiplicand of wgmma lies in shared memory (PTX ISA, "Asynchronous Warpgroup Level Matrix
//! Shared Memory Layout").
//!
//! Bits 0-13 start address, 16-29 leading byte offset, 32-45 stride byte offset (all divided by 16), 49-51 base offset,
//! 62-63 swizzle. The layouts, with T elements in a chunk of 16 bytes and W bytes in a row of the swizzle:
//!
//! ```text
//!                      element (row of M or N, k)                                                      then
//! K-major, none        row % 8 · 16 + row / 8 · stride + k / T · leading                               + k % T
//! K-major, swizzled    row % 8 · W  + row / 8 · stride + k / T · 16                                    + k % T
//! MN-major, none       k % 8 · 16   + k / 8 · leading  + row / T · stride                              + row % T
//! MN-major, swizzled   k % 8 · W    + k / 8 · stride   + row / (W / 16 T) · leading + row / T % (W/16) · 16  + row % T
//! ```
//!
//! The swizzle permutes the chunks of the addresses that come out.

use crate::report::{Fault, FaultKind};
use crate::swizzle::Swizzle;

/// A matrix descriptor, taken apart. Addresses and offsets are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    start: u64,
    leading: u64,
    stride: u64,
    base_offset: u64,
    swizzle: Swizzle,
}

/// Bits that mean nothing.
const RESERVED: u64 = 0b11 << 14 | 0b11 << 30 | 0b111 << 46 | 0x3ff << 52;

impl Descriptor {
    /// Takes a descriptor apart.
    ///
    /// # Errors
    /// Bits are set that mean nothing, so it was not made as a descriptor of wgmma.
    pub fn new(bits: u64) -> Result<Self, Fault> {
        if bits & RESERVED != 0 {
            let message = format!("matrix descriptor {bits:#018x} has bits set that mean nothing to wgmma");
            return Err(Fault::new(FaultKind::InvalidUse, message));
        }
        let field = |first: u32| (bits >> first & 0x3fff) << 4;
        let swizzle = match bits >> 62 {
            0 => Swizzle::None,
            1 => Swizzle::B128,
            2 => Swizzle::B64,
            _ => Swizzle::B32,
        };
        Ok(Self { start: field(0), leading: field(16), stride: field(32), base_offset: bits >> 49 & 7, swizzle })
    }

    /// Shared address of the chunk that holds elements T `chunk` to T `chunk` + T - 1 along k of a row, K-major.
    #[inline(always)]
    pub fn along_k(&self, row: u64, chunk: u64) -> u64 {
        let (line, step) = match self.swizzle {
            Swizzle::None => (16, self.leading),
            swizzle => (swizzle.width(), 16),
        };
        self.moved(row % 8 * line + row / 8 * self.stride + chunk * step)
    }

    /// Shared address of the chunk that holds rows 8 `eight` to 8 `eight` + 7 of one k, MN-major, of 16-bit elements.
    #[inline(always)]
    pub fn along_rows(&self, eight: u64, k: u64) -> u64 {
        let width = self.swizzle.width();
        let chunks = width / 16;
        self.moved(match self.swizzle {
            Swizzle::None => k % 8 * 16 + k / 8 * self.leading + eight * self.stride,
            _ => k % 8 * width + k / 8 * self.stride + eight / chunks * self.leading + eight % chunks * 16,
        })
    }

    #[inline(always)]
    fn moved(&self, offset: u64) -> u64 {
        self.swizzle.apply_from(self.start + offset, self.base_offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(start: u64, leading: u64, stride: u64, base: u64, mode: u64) -> Descriptor {
        Descriptor::new(start >> 4 | (leading >> 4) << 16 | (stride >> 4) << 32 | base << 49 | mode << 62).unwrap()
    }

    #[test]
    fn fields() {
        let expected = Descriptor { start: 0x3fff0, leading: 16, stride: 1024, base_offset: 5, swizzle: Swizzle::B128 };
        assert_eq!(descriptor(0x3fff0, 16, 1024, 5, 1), expected);
        for bit in [14, 15, 30, 31, 46, 47, 48, 52, 61] {
            assert_eq!(Descriptor::new(1 << bit).unwrap_err().kind, FaultKind::InvalidUse, "bit {bit}");
        }
    }

    #[test]
    fn canonical_layouts() {
        // 64 x 64 bf16 as a tensor copy of 128-byte rows lays it: row r at 128 r, chunks permuted by r mod 8.
        let rows = descriptor(0x2000, 16, 1024, 0, 1);
        assert_eq!(rows.along_k(0, 0), 0x2000);
        assert_eq!(rows.along_k(3, 0), 0x2000 + 3 * 128 + 3 * 16);
        assert_eq!(rows.along_k(13, 1), 0x2000 + 13 * 128 + (1 ^ 5) * 16);

        // The next 16 elements of k: the start moves by 32 bytes inside the pattern. Chunk 3 of row 3 lies first.
        assert_eq!(descriptor(0x2020, 16, 1024, 0, 1).along_k(3, 1), 0x2000 + 3 * 128);

        // Core matrices of 8 x 16 bytes, one after another along k, 256 bytes from eight rows to the next.
        let cores = descriptor(0x400, 128, 256, 0, 0);
        assert_eq!(cores.along_k(9, 1), 0x400 + 16 + 256 + 128);

        // N-major in 64-byte rows: 32 columns, then the next tile; eight rows of k, then the next eight.
        let columns = descriptor(0x4000, 4096, 512, 0, 2);
        assert_eq!(columns.along_rows(0, 1), 0x4000 + 64);
        assert_eq!(columns.along_rows(1, 2), 0x4000 + 128, "chunk 1 of the line of k = 2 lies first");
        assert_eq!(columns.along_rows(5, 8), 0x4000 + 4096 + 512 + 16);
        assert_eq!(descriptor(0x4000, 512, 128, 0, 0).along_rows(3, 9), 0x4000 + 16 + 512 + 3 * 128);

        // A pattern that starts 2 lines after a multiple of 1024 bytes.
        assert_eq!(descriptor(0x2100, 16, 1024, 2, 1).along_k(1, 0), 0x2100 + 128 + 16);
    }
}
