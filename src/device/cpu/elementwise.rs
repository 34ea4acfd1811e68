//! Passes over every element: `zero` and `add_assign`.

use super::CpuDevice;
use super::parallel::blocked;
use super::tensor::CpuTensor;
use crate::device::Result;
use crate::device::ops::elementwise::{ElementwiseOps, check};

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
        let (len, other) = (into.values.len(), other.values());
        self.for_each_block(len.div_ceil(BLOCK), len, [blocked(&mut into.values, BLOCK)], |index, [into]| {
            into.iter_mut().zip(&other[index * BLOCK..]).for_each(|(into, other)| *into += other);
        });
        Ok(())
    }
}
