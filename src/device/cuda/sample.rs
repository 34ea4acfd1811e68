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
type TopP = Kernel<(Pointer, Pointer, Pointer, i32, f32, i32, f32)>;
const TOP_P_F32: TopP = kernel!(SAMPLE_TOP_P_F32);
const TOP_P_BF16: TopP = kernel!(SAMPLE_TOP_P_BF16);

impl SampleOps for CudaDevice {
    fn sample(&self, logits: &CudaTensor, options: SampleOptions, uniforms: &[f32]) -> Result<CudaTokens> {
        let dims = check(logits.dimensions(), options, uniforms)?;
        let mut on_device = self.scratch(dims.rows)?;
        on_device.upload(uniforms)?;
        let ids = self.memory.take(dims.rows * size_of::<u16>())?;

        // A block per row of logits. What has no nucleus is spared the search for it.
        let (plain, top_p) = match logits.precision {
            Precision::F32 => (&F32, &TOP_P_F32),
            Precision::Bf16 => (&BF16, &TOP_P_BF16),
        };
        let top_k = options.top_k.unwrap_or(dims.vocabulary).min(dims.vocabulary);
        let (read, drawn, uniform) = (logits.pointer(), ids.pointer(), on_device.pointer());
        let (vocabulary, top_k, grid) = (int(dims.vocabulary)?, int(top_k)?, Grid::line(dims.rows, 128));
        let temperature = options.temperature;
        // SAFETY: `check` has checked the shapes.
        unsafe {
            match options.top_p.filter(|share| *share < 1.0 && temperature > 0.0) {
                None => self.driver.launch(plain, grid, (read, uniform, drawn, vocabulary, temperature, top_k))?,
                Some(share) => {
                    let arguments = (read, uniform, drawn, vocabulary, temperature, top_k, share);
                    self.driver.launch(top_p, grid, arguments)?;
                }
            }
        }
        Ok(CudaTokens { shape: [dims.rows, 1], ids, known: Known::Below(dims.vocabulary) })
    }
}
