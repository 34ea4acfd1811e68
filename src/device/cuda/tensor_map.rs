//! Matrices as the tensor memory accelerator of compute capability 9.0 sees them.

use std::ffi::c_void;

use cudarc::driver::sys;

use super::error::error;
use super::kernel::{Argument, Kind};
use super::pointer::Pointer;
use super::trace::TracedMap;
use crate::device::Result;

/// A matrix of bf16 in global memory and the tiles that a kernel copies of it; the kernel takes it by value.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct TensorMap([u64; 16]);

impl Argument for TensorMap {
    const KIND: Kind = Kind::TensorMap;
}

/// Columns of every tile: 128 bytes, as wide as the swizzle.
pub(super) const TILE_COLUMNS: u32 = 64;

const SWIZZLE: sys::CUtensorMapSwizzle = sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B;

impl TensorMap {
    /// In the place of a matrix that a kernel does without.
    pub(super) const NONE: Self = Self([0; 16]);

    /// A matrix `[rows, columns]`, row after row, in tiles of `tile_rows` (at most 256) by [`TILE_COLUMNS`], swizzled in 128 bytes.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::device::Error::Driver) unless the matrix begins at a multiple of 16 bytes and `columns` is a multiple of 8.
    pub(super) fn matrix(at: Pointer, [rows, columns]: [usize; 2], tile_rows: u32) -> Result<Self> {
        let mut map = sys::CUtensorMap { opaque: [0; 16] };
        if at.is_traced() {
            let (sizes, strides) = (vec![columns as u64, rows as u64], vec![2 * columns as u64]);
            let (tile, swizzle) = (vec![TILE_COLUMNS, tile_rows], SWIZZLE as u32);
            return Ok(Self(TracedMap { address: at.0, sizes, strides, tile, swizzle }.words()));
        }
        let sizes = [columns as u64, rows as u64];
        let strides = [2 * columns as u64];
        let (tile, steps) = ([TILE_COLUMNS, tile_rows], [1, 1]);
        // SAFETY: each array has an element for each of the two dimensions, `strides` one less; the matrix is only described.
        let result = unsafe {
            sys::cuTensorMapEncodeTiled(
                &mut map,
                sys::CUtensorMapDataType_enum::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                2,
                at.0 as *mut c_void,
                sizes.as_ptr(),
                strides.as_ptr(),
                tile.as_ptr(),
                steps.as_ptr(),
                sys::CUtensorMapInterleave_enum::CU_TENSOR_MAP_INTERLEAVE_NONE,
                SWIZZLE,
                sys::CUtensorMapL2promotion_enum::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                sys::CUtensorMapFloatOOBfill_enum::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        };
        result.result().map_err(|cause| error(format!("cuTensorMapEncodeTiled({rows} x {columns})"), cause))?;
        Ok(Self(map.opaque))
    }
}
