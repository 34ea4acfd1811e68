//! Softmax cross-entropy and its gradient, in the logits' memory.

use multiversion::{multiversion, target::target_cfg_f};

use super::CpuDevice;
use super::math::{exp_in_place, maximum};
use super::parallel::{ROW_BLOCK, blocked};
use super::tensor::{CpuTensor, CpuTokens};
use crate::device::ops::cross_entropy::{CrossEntropy, CrossEntropyOps, LogitsDims, check};
use crate::device::{Result, tokens};

impl CrossEntropyOps for CpuDevice {
    fn cross_entropy(
        &self,
        mut logits: CpuTensor,
        targets: &CpuTokens,
        weights: &CpuTensor,
    ) -> Result<CrossEntropy<CpuTensor>> {
        const OP: &str = "cross_entropy";
        let LogitsDims { rows, vocabulary } = check(logits.dimensions(), targets.shape, weights.dimensions())?;
        let _timed = self.time(OP, 0.0, 2 * rows * vocabulary);
        tokens::check_targets(&targets.ids, &weights.values, vocabulary)?;
        let (mut loss, mut nll) = (self.shaped(OP, &[1])?, self.shaped(OP, &[rows])?);

        // The logits become their gradient, row by row.
        let (targets, weights) = (&targets.ids, weights.values());
        let outputs = [blocked(&mut logits.values, ROW_BLOCK * vocabulary), blocked(&mut nll.values, ROW_BLOCK)];
        self.for_each_block(rows.div_ceil(ROW_BLOCK), rows * vocabulary, outputs, |index, [logits, nll]| {
            for (row, (logits, nll)) in logits.chunks_exact_mut(vocabulary).zip(nll).enumerate() {
                let row = index * ROW_BLOCK + row;
                *nll = softmax_gradient(logits, usize::from(targets[row]), weights[row]);
            }
        });

        // A weight of 0 leaves out even a NaN.
        let counted = nll.values.iter().zip(weights).filter(|(_, weight)| **weight != 0.0);
        let weighted = counted.map(|(&nll, &weight)| f64::from(nll) * f64::from(weight));
        loss.values[0] = weighted.sum::<f64>() as f32;
        Ok(CrossEntropy { loss, nll, d_logits: logits })
    }
}

/// `logits = weight · (softmax(logits) − onehot(target))`; returns the nll.
///
/// A row of weight 0 may have a target outside the classes: its nll is 0. Where the weighted nll is not finite, the gradient is
/// NaN: by itself it can be finite (the target's logit far below the others), and no update may be made from such a loss.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
fn softmax_gradient(logits: &mut [f32], target: usize, weight: f32) -> f32 {
    const FMA: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    let max = maximum(logits);
    let target_logit = logits.get(target).copied();
    let sum = exp_in_place::<FMA>(logits, 1.0, max);
    // The difference first: both are far larger than the nll when the model is sure.
    let nll = target_logit.map_or(0.0, |logit| f64::from(sum).ln() - (f64::from(logit) - f64::from(max)));
    let nll = nll as f32;
    if weight == 0.0 {
        logits.fill(0.0);
    } else if !(weight * nll).is_finite() {
        logits.fill(f32::NAN);
    } else {
        let scale = weight / sum;
        logits.iter_mut().for_each(|value| *value *= scale);
        logits[target] -= weight;
    }
    nll
}
