//! Softmax cross-entropy with its gradient (`cross_entropy.cu`).

use super::CudaDevice;
use super::kernel::{Grid, Kernel, kernel};
use super::pointer::Pointer;
use super::tensor::{CudaTensor, int};
use super::tokens::CudaTokens;
use crate::device::ops::cross_entropy::{CrossEntropyOps, check};
use crate::device::{CrossEntropy, Precision, Result};

type Rows = Kernel<(Pointer, Pointer, Pointer, Pointer, i32, i32)>;
const F32_512: Rows = kernel!(CROSS_ENTROPY_F32_512);
const F32_ANY: Rows = kernel!(CROSS_ENTROPY_F32_ANY);
const BF16_512: Rows = kernel!(CROSS_ENTROPY_BF16_512);
const BF16_ANY: Rows = kernel!(CROSS_ENTROPY_BF16_ANY);

const WEIGHTED_SUM: Kernel<(Pointer, Pointer, Pointer, i32)> = kernel!(WEIGHTED_SUM);

/// Rows per block: a warp each.
const ROWS: usize = 8;

impl CrossEntropyOps for CudaDevice {
    fn cross_entropy(
        &self,
        logits: CudaTensor,
        targets: &CudaTokens,
        weights: &CudaTensor,
    ) -> Result<CrossEntropy<CudaTensor>> {
        const OP: &str = "cross_entropy";
        let dims = check(logits.dimensions(), targets.shape, weights.dimensions())?;
        targets.check_targets(dims.vocabulary, || self.values(weights))?;
        let (loss, nll) = (self.floats_of(OP, &[1])?, self.floats_of(OP, &[dims.rows])?);

        // The kernel: rows of up to 512 logits stay in registers.
        let mut logits = self.in_precision(logits)?;
        let weights = self.floats(weights)?;
        let in_registers = dims.vocabulary <= 512 && dims.vocabulary.is_multiple_of(8);
        let kernel = match (self.precision, in_registers) {
            (Precision::F32, true) => &F32_512,
            (Precision::F32, false) => &F32_ANY,
            (Precision::Bf16, true) => &BF16_512,
            (Precision::Bf16, false) => &BF16_ANY,
        };

        // nll and gradient row by row, the gradient over the logits; then loss = Σ weight · nll.
        let rows = int(dims.rows)?;
        let (gradient, targets, weights) = (logits.pointer_mut(), targets.ids.pointer(), weights.pointer());
        let arguments = (gradient, targets, weights, nll.pointer(), rows, int(dims.vocabulary)?);
        // SAFETY: `check` has checked the shapes.
        unsafe {
            self.driver.launch(kernel, Grid::line(dims.rows.div_ceil(ROWS), 32 * ROWS as u32), arguments)?;
            let arguments = (nll.pointer(), weights, loss.pointer(), rows);
            self.driver.launch(&WEIGHTED_SUM, Grid::line(1, 1024), arguments)?;
        }
        Ok(CrossEntropy { loss, nll, d_logits: logits })
    }
}
