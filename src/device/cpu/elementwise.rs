//! Passes over every element: `zero` and `add_assign`.

use super::CpuDevice;
use super::parallel::blocked;
use super::tensor::CpuTensor;
use crate::device::Result;
use crate::device::ops::elementwise::{ElementwiseOps, check, check_row};

/// Elements of a task.
const BLOCK: usize = 16 * 1024;

impl ElementwiseOps for CpuDevice {
    fn zero(&self, tensor: &mut CpuTensor) -> Result<()> {
        let len = tensor.values.len();
        let outputs = [blocked(&mut tensor.values, BLOCK)];
        self.for_each_block(len.div_ceil(BLOCK), len, outputs, |_, [values]| values.fill(0.0));
        Ok(())
    }

    fn add_assign(&self, into: &mut CpuTensor, other: &CpuTensor) -> Result<()> {
        check(into.dimensions(), other.dimensions())?;
        let _timed = self.time("add_assign", 0.0, 3 * other.values.len());
        add(self, into, other.values());
        Ok(())
    }

    fn add_row(&self, into: &mut CpuTensor, rows: &CpuTensor, row: usize) -> Result<()> {
        let columns = check_row(into.dimensions(), rows.dimensions(), row)?;
        add(self, into, &rows.values()[row * columns..][..columns]);
        Ok(())
    }
}

fn add(device: &CpuDevice, into: &mut CpuTensor, other: &[f32]) {
    let len = into.values.len();
    device.for_each_block(len.div_ceil(BLOCK), len, [blocked(&mut into.values, BLOCK)], |index, [into]| {
        into.iter_mut().zip(&other[index * BLOCK..]).for_each(|(into, other)| *into += other);
    });
}
