//! The median of any number of values in a bounded number of them.

/// Values kept at most.
const MAX_VALUES: usize = 4096;

/// A median that takes its values one by one: exact for the first thousands, then that of an even share of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Median {
    /// The values, each with its place in the share.
    values: Vec<(u64, f64)>,
    /// Values taken in all.
    count: u64,
    /// How often the share was halved.
    halvings: u32,
}

impl Median {
    /// Takes a value.
    pub(super) fn push(&mut self, value: f64) {
        // Multiples of the golden ratio spread evenly whatever the values repeat by: every second or thousandth step may be
        // a slow one.
        let place = self.count.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.count += 1;
        if self.keeps(place) {
            self.values.push((place, value));
        }
        while self.values.len() > MAX_VALUES && self.halvings < 63 {
            self.halvings += 1;
            let limit = u64::MAX >> self.halvings;
            self.values.retain(|(place, _)| *place <= limit);
        }
    }

    fn keeps(&self, place: u64) -> bool {
        place <= u64::MAX >> self.halvings
    }

    /// The median of what was taken, the upper of two; 0 of nothing.
    pub(super) fn value(&self) -> f64 {
        let mut values: Vec<f64> = self.values.iter().map(|(_, value)| *value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn median(values: impl IntoIterator<Item = f64>) -> Median {
        let mut median = Median::default();
        values.into_iter().for_each(|value| median.push(value));
        median
    }

    #[test]
    fn it_is_exact_for_thousands_and_close_for_more() {
        assert_eq!(median([]).value(), 0.0);
        assert_eq!(median([3.0, 1.0, 2.0, 9.0]).value(), 3.0);
        assert_eq!(median((0..MAX_VALUES).map(|i| i as f64)).value(), (MAX_VALUES / 2) as f64);
        for length in [5_000, 100_000, 777_777] {
            let found = median((0..length).map(f64::from));
            assert!(found.values.len() <= MAX_VALUES && found.values.len() > MAX_VALUES / 3, "{}", found.values.len());
            assert!((found.value() / f64::from(length) - 0.5).abs() < 0.01, "{length}: {}", found.value());
        }
    }

    #[test]
    fn steps_that_are_slow_at_every_so_many_do_not_pass_for_the_rule() {
        for period in [4, 256, 1000, 1024] {
            let found = median((0..200_000).map(|i| if i % period == 0 { 1.0 } else { 100.0 }));
            assert_eq!(found.value(), 100.0, "every {period}");
            let slow = found.values.iter().filter(|(_, value)| *value == 1.0).count();
            assert!(slow <= 2 * found.values.len() / period as usize + 2, "every {period}: {slow}");
        }
    }
}
