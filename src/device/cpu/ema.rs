//! The exponential moving average of a parameter.

use multiversion::{multiversion, target::target_cfg_f};

use super::CpuDevice;
use super::math::mul_add;
use super::parallel::blocked;
use super::tensor::CpuTensor;
use crate::device::Result;
use crate::device::ops::ema::{EmaOps, check};

/// Elements of a task.
const BLOCK: usize = 16 * 1024;

impl EmaOps for CpuDevice {
    fn ema(&self, average: &mut CpuTensor, parameter: &CpuTensor, rate: f32, verdict: &CpuTensor) -> Result<()> {
        check(average.dimensions(), parameter.dimensions(), rate, verdict.dimensions())?;
        if !verdict.values[0].is_finite() {
            return Ok(());
        }
        let parameter = parameter.values();
        let (len, outputs) = (parameter.len(), [blocked(&mut average.values, BLOCK)]);
        self.for_each_block(len.div_ceil(BLOCK), len, outputs, |index, [average]| {
            approach(average, &parameter[index * BLOCK..][..average.len()], rate);
        });
        Ok(())
    }
}

#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
fn approach(average: &mut [f32], parameter: &[f32], rate: f32) {
    const FMA: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    for (average, parameter) in average.iter_mut().zip(parameter) {
        *average = mul_add::<FMA>(rate, parameter - *average, *average);
    }
}
