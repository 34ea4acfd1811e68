//! Learning-rate schedules: pure functions of the step, so that resuming needs no state.

use serde::{Deserialize, Serialize};

use crate::named::named;

named! {
    /// What follows the warm-up.
    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum ScheduleKind {
        /// Half a cosine, down to zero at the last step: the paper's.
        #[default]
        Cosine = "cosine",
        /// A straight line, down to zero at the last step.
        Linear = "linear",
        /// Warm-up, stable, decay: the peak rate, and at the end a cool-down along a straight line.
        Wsd = "wsd",
        /// The same with a cool-down along 1 − √x, which falls fast at first: Hägele and others, "Scaling laws and
        /// compute-optimal training beyond fixed training durations", 2024.
        WsdSqrt = "wsd-sqrt",
        /// The peak rate to the end: the paper's fine-tuning.
        Constant = "constant",
    }
}

impl ScheduleKind {
    /// Whether it ends with a cool-down whose length is a setting.
    pub fn has_cooldown(self) -> bool {
        matches!(self, Self::Wsd | Self::WsdSqrt)
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
    /// Steps of the cool-down at the end, of the kinds that have one.
    pub cooldown: u64,
}

impl Schedule {
    /// The rate of update `step`, counted from 0. The last update of the warm-up is at the peak, as in llm.c, and what
    /// falls reaches zero where update `steps` would be, so that the last update still moves.
    pub fn learning_rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        match self.kind {
            ScheduleKind::Constant => self.peak,
            ScheduleKind::Cosine => {
                self.peak * 0.5 * (1.0 + (std::f64::consts::PI * self.done(step, self.warmup)).cos())
            }
            ScheduleKind::Linear => self.peak * (1.0 - self.done(step, self.warmup)),
            ScheduleKind::Wsd => self.peak * (1.0 - self.done(step, self.stable_until())),
            ScheduleKind::WsdSqrt => self.peak * (1.0 - self.done(step, self.stable_until()).sqrt()),
        }
    }

    /// The first step of the cool-down.
    fn stable_until(&self) -> u64 {
        self.steps.saturating_sub(self.cooldown).max(self.warmup)
    }

    /// How much of the way from step `start` to the end is done, from 0 to 1.
    fn done(&self, step: u64, start: u64) -> f64 {
        let span = self.steps.saturating_sub(start).max(1) as f64;
        (step.saturating_sub(start) as f64 / span).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(kind: ScheduleKind, warmup: u64, steps: u64) -> Vec<f64> {
        let schedule = Schedule { kind, peak: 8.0, warmup, steps, cooldown: 4 };
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
        let schedule = Schedule { kind: ScheduleKind::Cosine, peak: 8.0, warmup: 0, steps: 4, cooldown: 0 };
        assert!(schedule.learning_rate(4).abs() < 1e-12 && schedule.learning_rate(1000).abs() < 1e-12);
    }

    #[test]
    fn a_line_falls_in_equal_steps() {
        assert_eq!(rates(ScheduleKind::Linear, 2, 6), [4.0, 8.0, 8.0, 6.0, 4.0, 2.0]);
    }

    #[test]
    fn wsd_stays_at_the_peak_and_cools_down_at_the_end() {
        assert_eq!(rates(ScheduleKind::Wsd, 2, 8), [4.0, 8.0, 8.0, 8.0, 8.0, 6.0, 4.0, 2.0]);
        // 1 − √x: half of the way down after a quarter of the steps.
        let (line, root) = (rates(ScheduleKind::Wsd, 2, 8), rates(ScheduleKind::WsdSqrt, 2, 8));
        assert_eq!((&root[..6], root[6]), (&[4.0, 8.0, 8.0, 8.0, 8.0, 4.0][..], 8.0 * (1.0 - 0.5_f64.sqrt())));
        assert!(root[5..].iter().zip(&line[5..]).all(|(root, line)| root < line));

        // A cool-down of no steps never begins; one that is longer than what follows the warm-up begins with it.
        let schedule = Schedule { kind: ScheduleKind::Wsd, peak: 8.0, warmup: 1, steps: 3, cooldown: 0 };
        assert_eq!([0, 1, 2].map(|step| schedule.learning_rate(step)), [8.0; 3]);
        let long = Schedule { cooldown: 9, ..schedule };
        assert_eq!([0, 1, 2, 3].map(|step| long.learning_rate(step)), [8.0, 8.0, 4.0, 0.0]);
    }
}
