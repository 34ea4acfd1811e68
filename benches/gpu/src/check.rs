//! Whether a result is right: some of its elements beside f64.

use serde::{Deserialize, Serialize};

/// Relative precision of bf16: half the distance of two neighbours.
pub const ROUNDING: f64 = 1.0 / 256.0;

/// The largest error that was found, and the largest that is allowed, both as parts of the largest value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    pub error: f64,
    pub tolerance: f64,
}

impl Checked {
    /// Compares pairs of what the device gave and what f64 gives. The tolerance is in roundings to bf16 of the largest value.
    pub fn of(pairs: impl IntoIterator<Item = (f32, f64)>, roundings: f64) -> Self {
        let (mut error, mut largest, mut wrong) = (0.0_f64, 0.0_f64, false);
        for (got, want) in pairs {
            wrong |= !got.is_finite();
            error = error.max((f64::from(got) - want).abs());
            largest = largest.max(want.abs());
        }
        // Nothing but zeros, or nothing at all, is no check.
        let error = if wrong || largest == 0.0 { f64::MAX } else { error / largest };
        Self { error, tolerance: roundings * ROUNDING }
    }

    /// The worse of two.
    pub fn and(self, other: Self) -> Self {
        if other.error / other.tolerance > self.error / self.tolerance { other } else { self }
    }

    pub fn holds(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// `count` indices below `size` that are spread over it, the ends among them.
pub fn spread_over(size: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = count.min(size);
    (0..count).map(move |i| if count == 1 { size - 1 } else { i * (size - 1) / (count - 1) })
}

#[cfg(test)]
mod tests {
    use super::{Checked, spread_over};

    #[test]
    fn an_error_is_measured_against_the_largest_value() {
        let checked = Checked::of([(4.0, 4.0), (0.5, 0.48)], 1.0);
        assert!((checked.error - 0.005).abs() < 1e-9 && !checked.holds());
        assert!(Checked::of([(4.0, 4.0), (0.5, 0.49)], 1.0).holds());
    }

    #[test]
    fn what_is_not_finite_or_all_zero_never_holds() {
        assert!(!Checked::of([(f32::NAN, 1.0)], 1.0).holds());
        assert!(!Checked::of([(0.0, 0.0)], 1.0).holds());
        assert!(!Checked::of([], 1.0).holds());
    }

    #[test]
    fn indices_reach_both_ends() {
        assert_eq!(spread_over(10, 4).collect::<Vec<_>>(), [0, 3, 6, 9]);
        assert_eq!(spread_over(2, 4).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(spread_over(3, 1).collect::<Vec<_>>(), [2]);
    }
}
