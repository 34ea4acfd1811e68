//! Tensors as the tensor memory accelerator of compute capability 9.0 sees them.

use std::ffi::c_void;

use cudarc::driver::sys;

use super::error::error;
use super::kernel::{Argument, Kind};
use super::pointer::Pointer;
use super::trace::TracedMap;
use crate::device::Result;

/// A tensor in global memory and the tiles that a kernel copies of it; the kernel takes it by value.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct TensorMap([u64; 16]);

impl Argument for TensorMap {
    const KIND: Kind = Kind::structure::<Self>();
}

/// Columns of a matrix's tile: 128 bytes, as wide as the swizzle.
pub(super) const TILE_COLUMNS: u32 = 64;

impl TensorMap {
    /// In the place of a tensor that a kernel does without.
    pub(super) const NONE: Self = Self([0; 16]);

    /// A matrix `[rows, columns]`, row after row, in tiles of `tile_rows` (at most 256) by [`TILE_COLUMNS`], swizzled in 128 bytes.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::device::Error::Driver) unless the matrix begins at a multiple of 16 bytes and `columns` is a multiple of 8.
    pub(super) fn matrix(at: Pointer, [rows, columns]: [usize; 2], tile_rows: u32) -> Result<Self> {
        Self::bf16(at, [columns, rows], [2 * columns], [TILE_COLUMNS, tile_rows])
    }

    /// Heads `[images, tokens, heads, columns]`, in tiles of `tile` tokens and columns of one head (64 columns, swizzled in 128 bytes, or 32
    /// in 64).
    ///
    /// # Errors
    /// As [`matrix`](Self::matrix).
    pub(super) fn heads(at: Pointer, shape: [usize; 4], [tile_tokens, tile_columns]: [u32; 2]) -> Result<Self> {
        let [images, tokens, heads, columns] = shape;
        let token = 2 * heads * columns;
        let strides = [2 * columns, token, tokens * token];
        Self::bf16(at, [columns, heads, tokens, images], strides, [tile_columns, 1, tile_tokens, 1])
    }

    /// Numbers in f32, in tiles of `tile` (at most 256, a multiple of 4) from any of them on.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::device::Error::Driver) unless the vector begins at a multiple of 16 bytes.
    pub(super) fn vector(at: Pointer, len: usize, tile: u32) -> Result<Self> {
        Self::encode(
            at,
            sys::CUtensorMapDataType_enum::CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
            [len],
            &[],
            [tile],
            sys::CUtensorMapSwizzle_enum::CU_TENSOR_MAP_SWIZZLE_NONE,
        )
    }

    /// A tensor of bf16, innermost dimension first; its tiles are swizzled in as many bytes as they are wide. `strides` in bytes, of all
    /// dimensions but the first.
    fn bf16<const RANK: usize, const STRIDES: usize>(
        at: Pointer,
        sizes: [usize; RANK],
        strides: [usize; STRIDES],
        tile: [u32; RANK],
    ) -> Result<Self> {
        let swizzle = if tile[0] == TILE_COLUMNS {
            sys::CUtensorMapSwizzle_enum::CU_TENSOR_MAP_SWIZZLE_128B
        } else {
            sys::CUtensorMapSwizzle_enum::CU_TENSOR_MAP_SWIZZLE_64B
        };
        Self::encode(
            at,
            sys::CUtensorMapDataType_enum::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
            sizes,
            &strides,
            tile,
            swizzle,
        )
    }

    fn encode<const RANK: usize>(
        at: Pointer,
        element: sys::CUtensorMapDataType,
        sizes: [usize; RANK],
        strides: &[usize],
        tile: [u32; RANK],
        swizzle: sys::CUtensorMapSwizzle,
    ) -> Result<Self> {
        assert_eq!(strides.len() + 1, RANK, "a stride for each dimension but the first");
        let lengths = sizes.map(|size| size as u64);
        let strides: Vec<u64> = strides.iter().map(|&stride| stride as u64).collect();

        // Where no driver is, what it would be told.
        if at.is_traced() {
            let (sizes, tile) = (lengths.to_vec(), tile.to_vec());
            let (element, swizzle) = (element as u32, swizzle as u32);
            return Ok(Self(TracedMap { element, address: at.0, sizes, strides, tile, swizzle }.words()));
        }

        let mut map = sys::CUtensorMap { opaque: [0; 16] };
        let steps = [1; RANK];
        // SAFETY: each array has an element for each of the RANK dimensions, `strides` one less; the tensor is only described.
        let result = unsafe {
            sys::cuTensorMapEncodeTiled(
                &mut map,
                element,
                RANK as u32,
                at.0 as *mut c_void,
                lengths.as_ptr(),
                strides.as_ptr(),
                tile.as_ptr(),
                steps.as_ptr(),
                sys::CUtensorMapInterleave_enum::CU_TENSOR_MAP_INTERLEAVE_NONE,
                swizzle,
                sys::CUtensorMapL2promotion_enum::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                sys::CUtensorMapFloatOOBfill_enum::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        };
        result.result().map_err(|cause| error(format!("cuTensorMapEncodeTiled({sizes:?})"), cause))?;
        Ok(Self(map.opaque))
    }
}
