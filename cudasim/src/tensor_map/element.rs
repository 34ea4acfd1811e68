//! What a tensor consists of: types of elements, and how channels are grouped.

/// Types of elements, in the order of `CUtensorMapDataType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Element {
    /// Unsigned, 1 byte.
    U8,
    /// Unsigned, 2 bytes.
    U16,
    /// Unsigned, 4 bytes.
    U32,
    /// Signed, 4 bytes.
    S32,
    /// Unsigned, 8 bytes.
    U64,
    /// Signed, 8 bytes.
    S64,
    /// f16
    F16,
    /// f32
    F32,
    /// f64
    F64,
    /// bf16
    Bf16,
    /// f32, of which copies flush denormals
    F32Ftz,
    /// f32 for tensor cores, which ignore its low bits
    Tf32,
    /// the same, of which copies flush denormals
    Tf32Ftz,
}

impl Element {
    pub(super) const ALL: [Self; 13] = {
        use Element::*;
        [U8, U16, U32, S32, U64, S64, F16, F32, F64, Bf16, F32Ftz, Tf32, Tf32Ftz]
    };

    /// Size in bytes.
    pub fn bytes(self) -> u64 {
        use Element::*;
        match self {
            U8 => 1,
            U16 | F16 | Bf16 => 2,
            U32 | S32 | F32 | F32Ftz | Tf32 | Tf32Ftz => 4,
            U64 | S64 | F64 => 8,
        }
    }

    /// Whether it is a floating-point type.
    pub fn is_float(self) -> bool {
        use Element::*;
        matches!(self, F16 | F32 | F64 | Bf16 | F32Ftz | Tf32 | Tf32Ftz)
    }
}

/// How channels are grouped in memory, in the order of `CUtensorMapInterleave`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interleave {
    /// The innermost dimension is contiguous.
    None,
    /// Slices of 16 bytes: NC/8HWC8.
    B16,
    /// Slices of 32 bytes: NC/16HWC16.
    B32,
}
