//! What many times of the same say.

use serde::{Deserialize, Serialize};

/// A sample's middle and spread, in the sample's unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    /// A tenth of the sample is below.
    pub p10: f64,
    /// A tenth of the sample is above.
    pub p90: f64,
    /// Standard deviation over mean.
    pub cv: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len().max(1) as f64;
        let mean = sorted.iter().sum::<f64>() / count;
        let variance = sorted.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
        let cv = if mean == 0.0 { 0.0 } else { variance.sqrt() / mean.abs() };
        let at = |quantile: f64| quantile_of(&sorted, quantile);
        Self { median: at(0.5), least: at(0.0), p10: at(0.1), p90: at(0.9), cv }
    }

    /// The spread of `f` of each value, where larger values give smaller ones (times to rates).
    pub fn inverse(&self, of_one: f64) -> Self {
        let Self { median, least: _, p10, p90, cv } = *self;
        Self { median: of_one / median, least: of_one / p90, p10: of_one / p90, p90: of_one / p10, cv }
    }
}

/// Between the two nearest values.
fn quantile_of(sorted: &[f64], quantile: f64) -> f64 {
    let at = quantile * sorted.len().saturating_sub(1) as f64;
    let (below, part) = (at.floor() as usize, at.fract());
    let value = |index: usize| sorted.get(index).or(sorted.last()).copied().unwrap_or(f64::NAN);
    value(below) + part * (value(below + 1) - value(below))
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn quantiles_lie_between_the_nearest_values_and_the_spread_is_the_samples() {
        let spread = Spread::of(&[5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!((spread.median, spread.least), (3.0, 1.0));
        assert!((spread.p10 - 1.4).abs() < 1e-12 && (spread.p90 - 4.6).abs() < 1e-12);
        // Of 1 to 5: variance 10 / 4, mean 3.
        assert!((spread.cv - 2.5f64.sqrt() / 3.0).abs() < 1e-12);
        assert_eq!(Spread::of(&[7.0]).cv, 0.0);
    }

    #[test]
    fn a_rate_is_high_where_the_time_is_low() {
        let rate = Spread::of(&[1.0, 2.0, 4.0]).inverse(8.0);
        assert_eq!(rate.median, 4.0);
        assert!(rate.p10 < rate.median && rate.median < rate.p90);
    }
}
