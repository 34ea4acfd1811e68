//! The norm of many tensors together (`global_norm.cu`).

use super::CudaDevice;
use super::kernel::{Grid, Kernel, kernel};
use super::pointer::{NULL, Pointer};
use super::tensor::{CudaTensor, int};
use super::tensor_list::{self, CHUNK, Entry, TensorList, chunks};
use crate::device::ops::global_norm::{GlobalNormOps, NORM_BLOCK, check_count, check_sums, check_verdict};
use crate::device::{Precision, Result};

/// A tensor whose squares are added up: `Summed` of `global_norm.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Summed {
    x: Pointer,
    count: u32,
    end: u32,
}

impl Entry for Summed {
    const NONE: Self = Self { x: NULL, count: 0, end: u32::MAX };

    fn count(&self) -> u32 {
        self.count
    }

    fn ending(self, end: u32) -> Self {
        Self { end, ..self }
    }
}

// A chunk of a list is a block of the sums.
const _: () = assert!(CHUNK == NORM_BLOCK, "sums of squares are cut as lists of tensors are");

type SquareSums = Kernel<(TensorList<Summed, 240>, Pointer)>;
const F32: SquareSums = kernel!(SQUARE_SUMS_F32);
const BF16: SquareSums = kernel!(SQUARE_SUMS_BF16);

const ROOT_OF_SUM: Kernel<(Pointer, Pointer, Pointer, i32)> = kernel!(ROOT_OF_SUM);

impl GlobalNormOps for CudaDevice {
    fn global_norm(&self, tensors: &[CudaTensor]) -> Result<CudaTensor> {
        let mut norm = self.floats_of("global_norm", &[1])?;
        self.write_norm(tensors, norm.pointer_mut(), NULL)?;
        Ok(norm)
    }

    fn judge_gradients(&self, tensors: &[CudaTensor], verdict: &mut CudaTensor) -> Result<()> {
        check_verdict(verdict.dimensions())?;
        let norm = verdict.floats_mut("judge_gradients", "verdict")?;
        self.write_norm(tensors, norm, norm.offset(size_of::<f32>()))
    }

    fn square_sums(&self, tensors: &[CudaTensor], sums: &mut CudaTensor) -> Result<()> {
        const OP: &str = "square_sums";
        check_sums(tensors.iter().map(|tensor| tensor.shape.volume()), sums.dimensions())?;
        tensors.iter().try_for_each(|tensor| tensor.check_floats(OP, "a tensor"))?;
        self.write_sums(tensors, sums.floats_mut(OP, "sums")?)
    }

    fn judge_sums(&self, sums: &CudaTensor, count: usize, verdict: &mut CudaTensor) -> Result<()> {
        const OP: &str = "judge_sums";
        check_verdict(verdict.dimensions())?;
        check_count(sums.dimensions(), count)?;
        sums.check_floats(OP, "sums")?;
        let norm = verdict.floats_mut(OP, "verdict")?;
        let arguments = (sums.pointer(), norm, norm.offset(size_of::<f32>()), int(count)?);
        // SAFETY: there are `count` sums, as was checked, each in the place of two floats; the verdict is three floats.
        unsafe { self.driver.launch(&ROOT_OF_SUM, Grid::line(1, 1024), arguments) }
    }
}

impl CudaDevice {
    /// The norm of `tensors` to `norm`, and whether it is finite into the counts `skipped` unless that is null.
    fn write_norm(&self, tensors: &[CudaTensor], norm: Pointer, skipped: Pointer) -> Result<()> {
        // One partial sum per chunk of every tensor, in f64: two floats each.
        let count: usize = tensors.iter().map(|tensor| chunks(tensor.shape.volume())).sum();
        let partials = self.scratch(2 * count.max(1))?;
        self.write_sums(tensors, partials.pointer())?;

        // Their sum, in order, and its root.
        let arguments = (partials.pointer(), norm, skipped, int(count)?);
        // SAFETY: `count` partial sums were written; the norm is one float, and the counts are two or none.
        unsafe { self.driver.launch(&ROOT_OF_SUM, Grid::line(1, 1024), arguments) }
    }

    /// Σ x² of the chunks to `next` and behind it, tensors of one precision at a time.
    fn write_sums(&self, tensors: &[CudaTensor], mut next: Pointer) -> Result<()> {
        for alike in tensors.chunk_by(|one, other| one.precision == other.precision) {
            let kernel = match alike[0].precision {
                Precision::F32 => &F32,
                Precision::Bf16 => &BF16,
            };
            let summed = |tensor: &CudaTensor| {
                Ok(Summed { x: tensor.pointer(), count: int(tensor.shape.volume())? as u32, end: 0 })
            };
            let summed = alike.iter().map(summed).collect::<Result<Vec<_>>>()?;
            tensor_list::launches(&summed, |list, blocks| {
                // SAFETY: the tensors hold as many elements, and the partial sums have room for each of the blocks.
                unsafe { self.driver.launch(kernel, Grid::line(blocks, 256), (list, next))? };
                next = next.offset(blocks * size_of::<f64>());
                Ok(())
            })?;
        }
        Ok(())
    }
}
