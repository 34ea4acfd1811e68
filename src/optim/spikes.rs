//! Spikes: steps whose loss or gradient is far above those just before, which throw a model back for long and come from the batch
//! more often than from the model.
//!
//! The rule is OLMo's (OLMo 2, 2025, `SkipStepOptimizer`): a step is a spike if its loss or its gradient's norm is more than z standard
//! deviations above the mean of the last [`WINDOW`] steps. It is skipped like one that is not finite. Steps that were skipped are not in
//! the window, and until it is half full there is no limit.
//!
//! The limits of step s know the steps up to s − 2 and no later one: a device may begin s before the host has the results of s − 1.
//! So they are the same on every device and after a resume.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Steps that a step is compared with.
pub const WINDOW: usize = 128;

/// A step that was made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "(u64, f64, f64)", into = "(u64, f64, f64)")]
struct Made {
    step: u64,
    loss: f64,
    norm: f64,
}

impl From<(u64, f64, f64)> for Made {
    fn from((step, loss, norm): (u64, f64, f64)) -> Self {
        Self { step, loss, norm }
    }
}

impl From<Made> for (u64, f64, f64) {
    fn from(Made { step, loss, norm }: Made) -> Self {
        (step, loss, norm)
    }
}

/// The steps that were made last, which a checkpoint holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Recent(VecDeque<Made>);

impl Recent {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes in a step that was made, with its loss and the norm of its gradient.
    pub fn note(&mut self, step: u64, loss: f64, norm: f64) {
        // One more than the window: the last two may be too new to count.
        if self.0.len() == WINDOW + 2 {
            self.0.pop_front();
        }
        self.0.push_back(Made { step, loss, norm });
    }

    /// What loss and norm of step `step` may be at most, `sigmas` standard deviations above the mean; infinite while too few steps
    /// are known.
    pub fn limits(&self, step: u64, sigmas: f64) -> [f32; 2] {
        let known: Vec<&Made> = self.0.iter().filter(|made| made.step + 2 <= step).collect();
        let window = &known[known.len().saturating_sub(WINDOW)..];
        if window.len() < WINDOW / 2 {
            return [f32::INFINITY; 2];
        }
        let limit = |of: fn(&Made) -> f64| {
            let count = window.len() as f64;
            let mean = window.iter().map(|made| of(made)).sum::<f64>() / count;
            let variance = window.iter().map(|made| (of(made) - mean).powi(2)).sum::<f64>() / (count - 1.0);
            (mean + sigmas * variance.sqrt()) as f32
        };
        [limit(|made| made.loss), limit(|made| made.norm)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steady(steps: u64) -> Recent {
        let mut recent = Recent::default();
        (1..=steps).for_each(|step| recent.note(step, 2.0 + (step % 2) as f64 * 0.2, 1.0));
        recent
    }

    #[test]
    fn limits_are_z_deviations_above_the_mean_of_the_window() {
        assert_eq!(steady(65).limits(65, 6.0), [f32::INFINITY; 2]);
        // 64 values of 2.0 and 2.2 in turn: mean 2.1, deviation 0.1 · √(64/63).
        let [loss, norm] = steady(65).limits(66, 6.0);
        let expected = 2.1 + 6.0 * 0.1 * (64.0f64 / 63.0).sqrt();
        assert!((f64::from(loss) - expected).abs() < 1e-6 && norm == 1.0, "{loss} {norm}");
    }

    #[test]
    fn only_steps_before_the_last_count_however_far_the_host_is() {
        let (behind, ahead) = (steady(300), steady(301));
        assert_eq!(behind.limits(302, 3.0), ahead.limits(302, 3.0));
        let mut spiky = ahead.clone();
        spiky.note(302, 50.0, 9.0);
        assert_eq!(spiky.limits(303, 3.0), ahead.limits(303, 3.0));
        assert_ne!(spiky.limits(304, 3.0), ahead.limits(304, 3.0));
    }

    #[test]
    fn it_comes_back_from_a_checkpoint_bit_for_bit() {
        let recent = steady(200);
        let text = serde_json::to_string(&recent).unwrap();
        assert_eq!(serde_json::from_str::<Recent>(&text).unwrap(), recent);
    }
}
