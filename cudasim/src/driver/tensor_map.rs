//! Tensor maps, which describe tensors for bulk copies: the exported functions of [`crate::tensor_map`].

use std::ffi::c_uint;

use super::call::refuse;
use super::error::{CudaError, Result};
use super::exports;
use super::ffi::{DevicePointer, In, Out};
use crate::tensor_map::{Arguments, BYTES, Im2colArguments, MAX_RANK, TensorMap};

/// The numbers that both functions take.
struct Common {
    element: c_uint,
    rank: c_uint,
    address: DevicePointer,
    dims: In<u64>,
    strides: In<u64>,
    element_strides: In<u32>,
    interleave: c_uint,
    swizzle: c_uint,
    promotion: c_uint,
    fill: c_uint,
}

impl Common {
    /// Elements of an array that is as long as the rank, or `less` shorter; no more are read than a rank may have.
    fn of_rank<T: Copy>(&self, array: In<T>, less: usize) -> Result<Vec<T>> {
        array.list((self.rank as usize).min(MAX_RANK).saturating_sub(less))
    }

    /// Encodes what `make` makes of the arguments.
    fn encode(
        &self,
        map: Out<[u8; BYTES]>,
        make: impl FnOnce(&Arguments<'_>) -> std::result::Result<TensorMap, String>,
    ) -> Result<()> {
        if !map.address().is_multiple_of(64) {
            return Err(refuse(CudaError::InvalidValue, "the tensor map is not aligned to 64 bytes"));
        }

        let dims = self.of_rank(self.dims, 0)?;
        let strides = self.of_rank(self.strides, 1)?;
        let element_strides = self.of_rank(self.element_strides, 0)?;
        let arguments = Arguments {
            element: self.element,
            rank: self.rank,
            address: self.address,
            dims: &dims,
            strides: &strides,
            element_strides: &element_strides,
            interleave: self.interleave,
            swizzle: self.swizzle,
            l2_promotion: self.promotion,
            fill: self.fill,
        };

        let made = make(&arguments).map_err(|why| refuse(CudaError::InvalidValue, why))?;
        map.put(made.encode())
    }
}

exports! {
    fn cuTensorMapEncodeTiled(
        map: Out<[u8; BYTES]>, element: c_uint, rank: c_uint, address: DevicePointer, dims: In<u64>, strides: In<u64>,
        extent: In<u32>, element_strides: In<u32>, interleave: c_uint, swizzle: c_uint, promotion: c_uint, fill: c_uint,
    ) {
        let common = Common { element, rank, address, dims, strides, element_strides, interleave, swizzle, promotion, fill };
        let extent = common.of_rank(extent, 0)?;
        common.encode(map, |arguments| TensorMap::tiled(arguments, &extent))
    }

    fn cuTensorMapEncodeIm2col(
        map: Out<[u8; BYTES]>, element: c_uint, rank: c_uint, address: DevicePointer, dims: In<u64>, strides: In<u64>,
        lower: In<i32>, upper: In<i32>, channels: c_uint, pixels: c_uint, element_strides: In<u32>, interleave: c_uint,
        swizzle: c_uint, promotion: c_uint, fill: c_uint,
    ) {
        let common = Common { element, rank, address, dims, strides, element_strides, interleave, swizzle, promotion, fill };
        let (lower, upper) = (common.of_rank(lower, 2)?, common.of_rank(upper, 2)?);
        let im2col = Im2colArguments { lower: &lower, upper: &upper, channels, pixels };
        common.encode(map, |arguments| TensorMap::im2col(arguments, &im2col))
    }

    fn cuTensorMapReplaceAddress(map: Out<[u8; BYTES]>, address: DevicePointer) {
        let invalid = |why| refuse(CudaError::InvalidValue, why);
        let new = TensorMap { address, ..TensorMap::decode(&map.get()?).map_err(invalid)? };
        new.check().map_err(invalid)?;
        map.put(new.encode())
    }
}
