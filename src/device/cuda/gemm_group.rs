//! GEMMs of weights' gradients that one launch computes (`gemm/group.cuh`).

use super::kernel::{Argument, Kind};
use super::pointer::{NULL, Pointer};
use super::splits::{GROUP, Sizes};
use super::tensor::int;
use crate::device::{Beta, Result};

/// `total` `[m, n] = or += aᵀ · b` in f32, for `a` `[k, m]` and `b` `[k, n]`.
#[derive(Clone, Copy)]
pub(super) struct WeightGemm {
    pub operands: [Pointer; 2],
    pub sizes: Sizes,
    pub total: Pointer,
    pub beta: Beta,
}

/// `Gemms` of `gemm/group.cuh`; `T` is a pointer or a tensor map.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Gemms<T> {
    a: [T; GROUP],
    b: [T; GROUP],
    totals: [Pointer; GROUP],
    m: [i32; GROUP],
    n: [i32; GROUP],
}

impl<T: Copy> Argument for Gemms<T> {
    const KIND: Kind = Kind::structure::<Self>();
}

impl<T: Copy> Gemms<T> {
    /// `gemms`, at most [`GROUP`] of them, with operands as `operands` says, and `none` for those of none.
    pub(super) fn of(gemms: &[WeightGemm], none: T, operands: impl Fn(&WeightGemm) -> Result<[T; 2]>) -> Result<Self> {
        let mut all = Self { a: [none; GROUP], b: [none; GROUP], totals: [NULL; GROUP], m: [0; GROUP], n: [0; GROUP] };
        for (index, gemm) in gemms.iter().enumerate() {
            [all.a[index], all.b[index]] = operands(gemm)?;
            all.totals[index] = gemm.total;
            (all.m[index], all.n[index]) = (int(gemm.sizes.m)?, int(gemm.sizes.n)?);
        }
        Ok(all)
    }
}
