//! Learning-rate schedules: pure functions of the step, so that resuming needs no state.

use serde::{Deserialize, Serialize};

use crate::named::named;

named! {
    /// What follows the warm-up.
    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum ScheduleKind {
        /// Half a cosine, down to zero at the last step: the paper's.
        #[default]
        Cosine = "cosine",
        /// The peak rate to the end: the paper's fine-tuning.
        Constant = "constant",
    }
}

/// Linear warm-up from zero, then [`ScheduleKind`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// What follows the warm-up.
    pub kind: ScheduleKind,
    /// The highest learning rate.
    pub peak: f64,
    /// Steps of warm-up.
    pub warmup: u64,
    /// Steps in all.
    pub steps: u64,
}

impl Schedule {
    /// The rate of update `step`, counted from 0. The last update of the warm-up is at the peak, as in llm.c, and the
    /// cosine reaches zero where update `steps` would be, so that the last update still moves.
    pub fn learning_rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        match self.kind {
            ScheduleKind::Constant => self.peak,
            ScheduleKind::Cosine => {
                let span = self.steps.saturating_sub(self.warmup).max(1) as f64;
                let done = ((step - self.warmup) as f64 / span).min(1.0);
                self.peak * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(kind: ScheduleKind, warmup: u64, steps: u64) -> Vec<f64> {
        let schedule = Schedule { kind, peak: 8.0, warmup, steps };
        (0..steps).map(|step| schedule.learning_rate(step)).collect()
    }

    #[test]
    fn warms_up_in_equal_steps() {
        assert_eq!(rates(ScheduleKind::Constant, 4, 6), [2.0, 4.0, 6.0, 8.0, 8.0, 8.0]);
    }

    #[test]
    fn without_warmup_starts_at_the_peak() {
        assert_eq!(rates(ScheduleKind::Constant, 0, 2), [8.0, 8.0]);
    }

    #[test]
    fn cosine_falls_from_the_peak_towards_zero() {
        let rates = rates(ScheduleKind::Cosine, 0, 4);
        let expected =
            [8.0, 4.0 + 4.0 * std::f64::consts::FRAC_PI_4.cos(), 4.0, 4.0 - 4.0 * std::f64::consts::FRAC_PI_4.cos()];
        for (rate, expected) in rates.iter().zip(expected) {
            assert!((rate - expected).abs() < 1e-12, "{rates:?}");
        }
        let schedule = Schedule { kind: ScheduleKind::Cosine, peak: 8.0, warmup: 0, steps: 4 };
        assert!(schedule.learning_rate(4).abs() < 1e-12 && schedule.learning_rate(1000).abs() < 1e-12);
    }
}
