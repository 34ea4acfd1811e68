//! Tensor maps, which describe tensors for bulk copies.

use std::ffi::{c_int, c_uint};

use super::error::CudaError;
use super::exports;
use super::ffi::{DevicePointer, In, Out};
use super::state::refuse;

exports! {
    fn cuTensorMapEncodeTiled(
        _map: Out<[u64; 16]>, _data_type: c_int, _rank: c_uint, _address: DevicePointer, _dimensions: In<u64>,
        _strides: In<u64>, _box: In<u32>, _element_strides: In<u32>, _interleave: c_int, _swizzle: c_int,
        _promotion: c_int, _fill: c_int,
    ) {
        Err(refuse(CudaError::NotSupported, "tensor maps are not supported yet"))
    }
}
