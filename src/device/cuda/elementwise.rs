//! `zero` and `add_assign`.

use super::CudaDevice;
use super::kernel::{Kernel, kernel};
use super::pointer::Pointer;
use super::tensor::CudaTensor;
use crate::device::ops::elementwise::{ElementwiseOps, check, check_row};
use crate::device::{Precision, Result};

type AddAssign = Kernel<(Pointer, Pointer, u64)>;
const F32: AddAssign = kernel!(ADD_ASSIGN_F32);
const BF16: AddAssign = kernel!(ADD_ASSIGN_BF16);

impl ElementwiseOps for CudaDevice {
    fn zero(&self, tensor: &mut CudaTensor) -> Result<()> {
        tensor.buffer_mut().fill(0)
    }

    fn add_assign(&self, into: &mut CudaTensor, other: &CudaTensor) -> Result<()> {
        check(into.dimensions(), other.dimensions())?;
        let count = into.shape.volume();
        let floats;
        let (kernel, other) = match into.precision {
            Precision::F32 => {
                floats = self.floats(other)?;
                (&F32, floats.pointer())
            }
            // A tensor of bf16 is one of a bf16 self.
            Precision::Bf16 => (&BF16, self.operand(other)?),
        };
        let grid = self.strided(count, into.precision.vector());
        // SAFETY: both hold `count` elements of the kernel's type, as `check` and the conversions make sure.
        unsafe { self.driver.launch(kernel, grid, (into.pointer_mut(), other, count as u64)) }
    }

    fn add_row(&self, into: &mut CudaTensor, rows: &CudaTensor, row: usize) -> Result<()> {
        let columns = check_row(into.dimensions(), rows.dimensions(), row)?;
        rows.check_floats("add_row", "rows")?;
        let (to, row) = (into.floats_mut("add_row", "into")?, rows.pointer().offset(row * columns * size_of::<f32>()));
        let grid = self.strided(columns, Precision::F32.vector());
        // SAFETY: `into` and the row hold `columns` floats, as `check_row` makes sure; rows start aligned, since buffers do
        // and a row is a multiple of 64 floats.
        unsafe { self.driver.launch(&F32, grid, (to, row, columns as u64)) }
    }
}
