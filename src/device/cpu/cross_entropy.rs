//! Softmax cross-entropy and its gradient, in the logits' memory.

use multiversion::{multiversion, target::target_cfg_f};

use super::CpuDevice;
use super::math::{exp_in_place, maximum};
use super::parallel::{ROW_BLOCK, blocked};
use crate::device::contract::LogitsDims;

/// Turns `logits` `[rows, vocabulary]` into their gradient, sets `nll` `[rows]` and returns the loss.
///
/// A row without weight may have a target that is no class: its nll is 0.
pub(super) fn cross_entropy(
    device: &CpuDevice,
    dims: LogitsDims,
    logits: &mut [f32],
    targets: &[u16],
    weights: &[f32],
    nll: &mut [f32],
) -> f32 {
    let LogitsDims { rows, vocabulary } = dims;
    let outputs = [blocked(logits, ROW_BLOCK * vocabulary), blocked(nll, ROW_BLOCK)];
    device.for_each_block(rows.div_ceil(ROW_BLOCK), rows * vocabulary, outputs, |index, [logits, nll]| {
        for (row, (logits, nll)) in logits.chunks_exact_mut(vocabulary).zip(nll).enumerate() {
            let row = index * ROW_BLOCK + row;
            *nll = softmax_gradient(logits, usize::from(targets[row]), weights[row]);
        }
    });
    let loss: f64 = nll.iter().zip(weights).map(|(&nll, &weight)| f64::from(nll) * f64::from(weight)).sum();
    loss as f32
}

/// `logits = weight · (softmax(logits) − onehot(target))`; returns the nll.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
fn softmax_gradient(logits: &mut [f32], target: usize, weight: f32) -> f32 {
    const FMA: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    let max = maximum(logits);
    let target_logit = logits.get(target).copied();
    let sum = exp_in_place::<FMA>(logits, 1.0, max);
    // The difference first: both are far larger than the nll when the model is sure.
    let nll = target_logit.map_or(0.0, |logit| f64::from(sum).ln() - (f64::from(logit) - f64::from(max)));
    if weight == 0.0 {
        logits.fill(0.0);
    } else {
        let scale = weight / sum;
        logits.iter_mut().for_each(|value| *value *= scale);
        logits[target] -= weight;
    }
    nll as f32
}
