//! Choosing the next token (`sample.cu`).

use super::CudaDevice;
use super::kernel::{Grid, Kernel, kernel};
use super::pointer::Pointer;
use super::tensor::{CudaTensor, int};
use super::tokens::{CudaTokens, Known};
use crate::device::ops::sample::{SampleOps, check};
use crate::device::{Precision, Result, SampleOptions};

type Sample = Kernel<(Pointer, Pointer, Pointer, i32, f32, i32)>;
const F32: Sample = kernel!(SAMPLE_F32);
const BF16: Sample = kernel!(SAMPLE_BF16);

impl SampleOps for CudaDevice {
    fn sample(&self, logits: &CudaTensor, options: SampleOptions, uniforms: &[f32]) -> Result<CudaTokens> {
        let dims = check(logits.dimensions(), options, uniforms)?;
        let mut on_device = self.scratch(dims.rows)?;
        on_device.upload(uniforms)?;
        let ids = self.memory.take(dims.rows * size_of::<u16>())?;

        // A block per row of logits.
        let kernel = match logits.precision {
            Precision::F32 => &F32,
            Precision::Bf16 => &BF16,
        };
        let top_k = options.top_k.unwrap_or(dims.vocabulary).min(dims.vocabulary);
        let arguments = (
            logits.pointer(),
            on_device.pointer(),
            ids.pointer(),
            int(dims.vocabulary)?,
            options.temperature,
            int(top_k)?,
        );
        // SAFETY: `check` has checked the shapes.
        unsafe { self.driver.launch(kernel, Grid::line(dims.rows, 128), arguments)? };
        Ok(CudaTokens { shape: [dims.rows, 1], ids, known: Known::Below(dims.vocabulary) })
    }
}
