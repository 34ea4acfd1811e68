//! Whether a step is a spike: its loss or its gradient far above those of the steps before it.
//!
//! Mean and variance of both are taken over an exponential window of [`WINDOW`] steps (rate 2 / (WINDOW + 1), as ZClip has it; of the
//! first steps all weigh alike), and of steps that were made only: Kumar et al. 2025 for the norm, OLMo 2's `SkipStepOptimizer` for both.

use super::global_norm::{VERDICT, check_verdict};
use crate::device::shape_check::{self, error, exactly};
use crate::device::{Result, Tensors};

/// Steps of the window.
pub const WINDOW: usize = 128;
/// Steps before which none is a spike.
pub const KNOWN: usize = WINDOW / 2;

/// Floats of what is known of the steps before: how many in a row were skipped; the norm of the last gradient, which the verdict has no
/// more where it is a spike's; how many steps the rest is of; mean and variance of the loss, and of the norm.
pub const RECENT: usize = 7;

/// The judge of spikes.
pub trait SpikeOps: Tensors {
    /// After a norm was judged ([`GlobalNormOps::judge_gradients`](crate::device::GlobalNormOps::judge_gradients)): a step whose loss, the
    /// sum of `losses` `[k]`, or whose norm is more than `sigmas` standard deviations above the mean of the steps in `recent`
    /// [`[RECENT]`](RECENT) is a spike. It counts as skipped in `verdict`, whose norm becomes infinite, so that no update is made;
    /// any other joins the recent ones. A norm that is not finite was judged already.
    fn judge_spike(
        &self,
        losses: &Self::Tensor,
        sigmas: f32,
        recent: &mut Self::Tensor,
        verdict: &mut Self::Tensor,
    ) -> Result<()>;
}

/// Checks the shapes of [`SpikeOps::judge_spike`], and that `sigmas` is above 0; returns the number of losses.
pub fn check(losses: &[usize], sigmas: f32, recent: &[usize], verdict: &[usize]) -> shape_check::Result<usize> {
    const OP: &str = "judge_spike";
    exactly(OP, "recent", recent, &[RECENT])?;
    check_verdict(verdict)?;
    if sigmas.is_nan() || sigmas <= 0.0 {
        return error(OP, "sigmas", "above 0", sigmas);
    }
    match losses {
        [count] => Ok(*count),
        _ => error(OP, "losses", "[k]", losses),
    }
}

/// What the op does, on numbers of the host: the CPU device's, and the reference of others.
pub fn judge(loss: f64, sigmas: f32, recent: &mut [f32; RECENT], verdict: &mut [f32; VERDICT]) {
    let norm = f64::from(verdict[0]);
    recent[1] = verdict[0];
    if norm.is_finite() {
        let is_above = |value: f64, mean: f32, variance: f32| {
            value > f64::from(mean) + f64::from(sigmas) * f64::from(variance).sqrt()
        };
        let [_, _, made, loss_mean, loss_variance, norm_mean, norm_variance] = *recent;
        let is_known = made >= KNOWN as f32;
        if is_known && (is_above(loss, loss_mean, loss_variance) || is_above(norm, norm_mean, norm_variance)) {
            *verdict = [f32::INFINITY, verdict[1] + 1.0, recent[0] + 1.0];
        } else {
            recent[2] += 1.0;
            let rate = (1.0 / f64::from(recent[2])).max(2.0 / (WINDOW + 1) as f64);
            for (value, at) in [(loss, 3), (norm, 5)] {
                let (mean, variance) = (f64::from(recent[at]), f64::from(recent[at + 1]));
                let off = value - mean;
                recent[at] = (mean + rate * off) as f32;
                recent[at + 1] = ((1.0 - rate) * (variance + rate * off * off)) as f32;
            }
        }
    }
    recent[0] = verdict[2];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_and_variance_of_the_first_steps_are_theirs() {
        let (mut recent, mut verdict) = ([0.0; RECENT], [0.0; VERDICT]);
        for step in 0..64 {
            verdict[0] = 3.0;
            judge(if step % 2 == 0 { 2.0 } else { 2.5 }, 6.0, &mut recent, &mut verdict);
        }
        let close = |value: f32, expected: f32| (value - expected).abs() < 1e-5;
        assert!(recent[2] == 64.0 && close(recent[3], 2.25) && close(recent[4], 0.0625), "{recent:?}");
        assert!(close(recent[5], 3.0) && recent[6].abs() < 1e-9, "{recent:?}");

        // 6 deviations of 0.25 above the mean, and a little more.
        let before = recent;
        for (loss, norm, is_spike) in [(3.74, 3.0, false), (3.76, 3.0, true), (2.25, 3.1, true), (2.25, 3.0, false)] {
            (recent, verdict) = (before, [norm, 0.0, 0.0]);
            judge(loss, 6.0, &mut recent, &mut verdict);
            assert_eq!(verdict[0].is_infinite(), is_spike, "{loss} {norm}");
            assert_eq!(recent[2] == 64.0, is_spike, "a spike is not among the recent steps");
            assert_eq!(recent[1], norm);
        }
    }

    #[test]
    fn skipped_steps_in_a_row_are_counted_of_both_kinds() {
        let mut recent = [0.0, 0.0, 100.0, 2.0, 0.01, 1.0, 0.01];
        let mut verdict = [f32::NAN, 1.0, 1.0];
        judge(f64::NAN, 6.0, &mut recent, &mut verdict);
        // A finite norm, after which the judge of norms has set the count to 0.
        verdict = [1.0, 1.0, 0.0];
        judge(50.0, 6.0, &mut recent, &mut verdict);
        assert_eq!(verdict, [f32::INFINITY, 2.0, 2.0]);
        verdict = [1.0, 2.0, 0.0];
        judge(2.0, 6.0, &mut recent, &mut verdict);
        assert_eq!((verdict, recent[0]), ([1.0, 2.0, 0.0], 0.0));
    }
}
