//! How far predictions are from what is published.

use serde::Serialize;

use crate::published::{Figure, Unit};

/// What is asked of the predictions: median and worst error, and the difference from which on two kernels must come out in their order.
pub const MEDIAN: f64 = 0.15;
/// See [`MEDIAN`].
pub const WORST: f64 = 0.30;
/// See [`MEDIAN`].
pub const APART: f64 = 0.15;

/// The sum of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Median of the errors without their sign, as parts of the published time.
    pub median: f64,
    /// The largest.
    pub worst: f64,
    /// Pairs of one card and unit whose published speeds differ by [`APART`] or more.
    pub pairs: usize,
    /// How many of them come out in their order.
    pub in_order: usize,
    /// The others: the one that is published as faster, then the other.
    pub out_of_order: Vec<(String, String)>,
}

/// The error of a prediction as a part of what is published; less than nothing where it is too fast.
pub fn error(figure: &Figure, seconds: f64) -> f64 {
    seconds / figure.seconds() - 1.0
}

impl Verdict {
    /// Of figures and the seconds that are predicted of each.
    pub fn of(rows: &[(&Figure, f64)]) -> Self {
        let mut errors: Vec<f64> = rows.iter().map(|(figure, seconds)| error(figure, *seconds).abs()).collect();
        errors.sort_by(f64::total_cmp);
        let mut verdict = Self {
            median: median(&errors),
            worst: errors.last().copied().unwrap_or(0.0),
            pairs: 0,
            in_order: 0,
            out_of_order: Vec::new(),
        };
        for (place, one) in rows.iter().enumerate() {
            rows[place + 1..].iter().for_each(|other| verdict.compare(*one, *other));
        }
        verdict
    }

    fn compare(&mut self, one: (&Figure, f64), other: (&Figure, f64)) {
        let kind = |(figure, _): (&Figure, f64)| (figure.card.clone(), figure.unit == Unit::TeraFlops);
        let published = |(figure, _): (&Figure, f64)| figure.rate(figure.seconds());
        let (fast, slow) = if published(one) >= published(other) { (one, other) } else { (other, one) };
        if kind(one) != kind(other) || published(fast) < published(slow) * (1.0 + APART) {
            return;
        }
        self.pairs += 1;
        if fast.0.rate(fast.1) > slow.0.rate(slow.1) {
            self.in_order += 1;
        } else {
            self.out_of_order.push((fast.0.case.clone(), slow.0.case.clone()));
        }
    }
}

/// Of numbers in their order.
fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(case: &str, card: &str, published: f64) -> Figure {
        let unit = Unit::TeraFlops;
        Figure {
            case: case.to_owned(),
            card: card.to_owned(),
            published,
            unit,
            work: 1e12,
            source: String::new(),
            note: String::new(),
        }
    }

    #[test]
    fn errors_are_parts_of_the_published_time_and_order_counts_from_a_difference_on() {
        // 10, 5 and 4.5 ms on one card, 20 ms on another.
        let figures =
            [figure("a", "x", 100.0), figure("b", "x", 200.0), figure("c", "x", 222.0), figure("d", "y", 50.0)];
        let verdict =
            Verdict::of(&[(&figures[0], 0.011), (&figures[1], 0.012), (&figures[2], 0.0045), (&figures[3], 0.02)]);
        assert!((verdict.median - 0.05).abs() < 1e-3 && (verdict.worst - 1.4).abs() < 1e-9, "{verdict:?}");
        // Of a with b and a with c; b and c differ by 11 %.
        assert_eq!((verdict.pairs, verdict.in_order), (2, 1));
        assert_eq!(verdict.out_of_order, [("b".to_owned(), "a".to_owned())]);
        assert!((error(&figures[0], 0.008) + 0.2).abs() < 1e-9);
    }

    #[test]
    fn a_median_of_even_numbers_is_between_the_two_in_the_middle() {
        assert_eq!([median(&[]), median(&[3.0]), median(&[1.0, 3.0]), median(&[1.0, 2.0, 9.0])], [0.0, 3.0, 2.0, 2.0]);
    }
}
