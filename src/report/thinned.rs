//! Curves of any length in a bounded number of points.

use super::charts::Point;

/// Stretches that a curve is cut into at most: some more than a chart has pixels. Even, so that they pair up.
const MAX_STRETCHES: usize = 1000;

/// A curve that takes its points one by one. A short one keeps all of them; of a long one, stretches of equally many points
/// each keep their lowest and highest, so that no spike is lost.
#[derive(Clone, Debug, Default)]
pub(super) struct Thinned {
    stretches: Vec<Stretch>,
    /// How often neighbours have been merged: a stretch holds two to the power of it.
    merges: u32,
    /// The first and the last point.
    ends: Option<(Point, Point)>,
    /// Points in all.
    count: usize,
}

/// Some points in a row.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    low: Point,
    high: Point,
    /// Where it ends.
    end: f64,
    sum: f64,
    count: usize,
}

impl Thinned {
    /// Takes the next point; one that is no number is left out.
    pub(super) fn push(&mut self, point: Point) {
        if !point.1.is_finite() {
            return;
        }
        self.count += 1;
        self.ends = Some((self.ends.map_or(point, |(first, _)| first), point));

        let next = Stretch { low: point, high: point, end: point.0, sum: point.1, count: 1 };
        let width = 1 << self.merges;
        match self.stretches.last_mut().filter(|last| last.count < width) {
            Some(last) => *last = last.with(&next),
            None => {
                if self.stretches.len() == MAX_STRETCHES {
                    self.stretches = self.stretches.chunks(2).filter_map(Stretch::merged).collect();
                    self.merges += 1;
                }
                self.stretches.push(next);
            }
        }
    }

    /// The curve: at most two points of each stretch, and the ends.
    pub(super) fn points(&self) -> Vec<Point> {
        let Some((first, last)) = self.ends else { return Vec::new() };
        let of_stretch = |stretch: &Stretch| {
            let Stretch { low, high, .. } = *stretch;
            if low.0 <= high.0 { [low, high] } else { [high, low] }
        };
        let mut points = vec![first];
        points.extend(self.stretches.iter().flat_map(of_stretch));
        points.push(last);
        points.dedup();
        points
    }

    /// Exponential moving average over `fraction` of the points, with its start-up bias removed; a point for each stretch.
    pub(super) fn smoothed(&self, fraction: f64) -> Vec<Point> {
        let keep = 1.0 - 1.0 / (fraction * self.count as f64).max(1.0);
        let (mut sum, mut weight) = (0.0, 0.0);
        let step = |stretch: &Stretch| {
            // As many points as the stretch holds, each at their mean.
            let points = stretch.count as f64;
            let kept = keep.powf(points);
            let added = (1.0 - kept) / (1.0 - keep);
            sum = kept * sum + added * (stretch.sum / points);
            weight = kept * weight + added;
            (stretch.end, sum / weight)
        };
        self.stretches.iter().map(step).collect()
    }
}

impl Stretch {
    /// This one and the one behind it.
    fn with(&self, next: &Self) -> Self {
        let (low, high) = (self.low, self.high);
        Self {
            low: if next.low.1 < low.1 { next.low } else { low },
            high: if next.high.1 > high.1 { next.high } else { high },
            end: next.end,
            sum: self.sum + next.sum,
            count: self.count + next.count,
        }
    }

    fn merged(neighbours: &[Self]) -> Option<Self> {
        neighbours.iter().copied().reduce(|one, next| one.with(&next))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn curve(points: impl IntoIterator<Item = Point>) -> Thinned {
        let mut curve = Thinned::default();
        points.into_iter().for_each(|point| curve.push(point));
        curve
    }

    #[test]
    fn a_short_curve_keeps_every_point() {
        let points: Vec<Point> = (0..MAX_STRETCHES).map(|i| (i as f64, (i as f64).sin())).collect();
        assert_eq!(curve(points.clone()).points(), points);
        assert_eq!(curve([]).points(), []);
        assert_eq!(curve([(3.0, f64::NAN), (4.0, 1.0), (5.0, f64::INFINITY)]).points(), [(4.0, 1.0)]);
    }

    proptest! {
        #[test]
        fn thinning_keeps_spikes_and_ends_in_order(
            length in 1_usize..20_000,
            noise in any::<u32>(),
            spikes in proptest::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..4),
        ) {
            let mut points: Vec<Point> =
                (0..length).map(|i| (i as f64, (i as f64 * f64::from(noise)).sin())).collect();
            for (index, is_up) in &spikes {
                let spike = &mut points[index.index(length)];
                spike.1 = if *is_up { 50.0 } else { -50.0 } - spike.0;
            }
            let thinned = curve(points.clone()).points();

            prop_assert!(thinned.len() <= 2 * MAX_STRETCHES + 2);
            prop_assert!(thinned.is_sorted_by(|a, b| a.0 < b.0));
            prop_assert!(thinned.iter().all(|point| points[point.0 as usize] == *point));
            prop_assert_eq!((thinned[0], thinned[thinned.len() - 1]), (points[0], points[length - 1]));
            // Of every piece of the run that two stretches fill, both extremes are there.
            let piece = length.div_ceil(MAX_STRETCHES / 2).next_power_of_two();
            for points in points.chunks(piece) {
                let extreme = |pick: fn(f64, f64) -> f64, of: &mut dyn Iterator<Item = &Point>| of.map(|p| p.1).reduce(pick);
                let span = points[0].0..=points[points.len() - 1].0;
                let inside = || thinned.iter().filter(|point| span.contains(&point.0));
                for pick in [f64::min as fn(f64, f64) -> f64, f64::max] {
                    prop_assert_eq!(extreme(pick, &mut points.iter()), extreme(pick, &mut inside()));
                }
            }
        }
    }

    #[test]
    fn smoothing_keeps_a_constant_and_starts_at_the_first_value() {
        let flat = curve((0..30_000).map(|i| (f64::from(i), 2.0)));
        assert!(flat.smoothed(0.02).iter().all(|(_, value)| (value - 2.0).abs() < 1e-12));
        assert_eq!(curve([(0.0, 5.0), (1.0, 3.0)]).smoothed(0.02)[0].1, 5.0);
    }

    #[test]
    fn smoothing_a_long_curve_is_smoothing_each_of_its_points() {
        let points: Vec<Point> =
            (0..30_000).map(f64::from).map(|t| (t, 6.0 * (-t / 4000.0).exp() + 0.3 * (t * 12.9).sin())).collect();
        let keep = 1.0 - 1.0 / (0.02 * points.len() as f64);
        let (mut sum, mut weight) = (0.0, 0.0);
        let each: Vec<f64> = points
            .iter()
            .map(|(_, value)| {
                sum = keep * sum + value;
                weight = keep * weight + 1.0;
                sum / weight
            })
            .collect();
        let smoothed = curve(points).smoothed(0.02);
        assert!(smoothed.len() <= MAX_STRETCHES);
        for (step, value) in smoothed {
            assert!(
                (value - each[step as usize]).abs() < 0.01,
                "step {step}: {value} instead of {}",
                each[step as usize]
            );
        }
    }
}
