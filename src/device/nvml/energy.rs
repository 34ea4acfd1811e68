//! Energy, summed up from what a card counts or draws.

use std::time::Instant;

/// Joules used so far.
#[derive(Debug, Default)]
pub(super) struct Energy {
    joules: f64,
    /// Whether any of it was measured.
    measured: bool,
    last: Option<Point>,
}

/// A look at the card.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub at: Instant,
    /// What the card's own counter says, millijoules, if it has one.
    pub counter: Option<u64>,
    pub watts: Option<f64>,
}

impl Energy {
    /// On top of what earlier sessions used.
    pub fn after(joules: f64) -> Self {
        Self { joules, measured: joules > 0.0, last: None }
    }

    /// Adds what was used since the point before: by the card's counter, which misses nothing, or else the mean of both powers
    /// times the time between. A counter that has gone back, as after a reset of the card, adds nothing.
    pub fn take(&mut self, point: Point) {
        if let Some(last) = self.last.replace(point) {
            let counted = last.counter.zip(point.counter).map(|(before, now)| now.saturating_sub(before) as f64 / 1e3);
            let drawn = last
                .watts
                .zip(point.watts)
                .map(|(before, now)| 0.5 * (before + now) * point.at.saturating_duration_since(last.at).as_secs_f64());
            if let Some(joules) = counted.or(drawn) {
                self.joules += joules;
                self.measured = true;
            }
        }
    }

    /// The sensors do not answer: what is used until they do again is known to a counter alone.
    pub fn lose(&mut self) {
        if let Some(last) = &mut self.last {
            last.watts = None;
        }
    }

    /// The sum; `None` where the card tells neither energy nor power.
    pub fn joules(&self) -> Option<f64> {
        let tells = self.last.is_some_and(|last| last.counter.is_some() || last.watts.is_some());
        (self.measured || tells).then_some(self.joules)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn energy_is_counted_or_integrated_and_a_gap_is_not_guessed() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let point = |seconds, counter, watts| Point { at: at(seconds), counter, watts };

        // By the counter, on top of an earlier session; what goes back counts nothing.
        let mut counted = Energy::after(10.0);
        for (seconds, counter) in [(0, 5_000), (1, 5_300), (2, 5_900), (3, 100), (4, 200)] {
            counted.take(point(seconds, Some(counter), Some(1e6)));
        }
        assert_eq!(counted.joules(), Some(10.0 + 0.3 + 0.6 + 0.1));

        // By power: 100 W to 300 W over two seconds, a gap, then one second of 300 W.
        let mut drawn = Energy::default();
        assert_eq!(drawn.joules(), None);
        drawn.take(point(0, None, Some(100.0)));
        assert_eq!(drawn.joules(), Some(0.0));
        drawn.take(point(2, None, Some(300.0)));
        drawn.lose();
        drawn.take(point(9, None, Some(300.0)));
        drawn.take(point(10, None, Some(300.0)));
        assert_eq!(drawn.joules(), Some(400.0 + 300.0));

        let mut silent = Energy::default();
        silent.take(point(0, None, None));
        silent.take(point(1, None, None));
        assert_eq!(silent.joules(), None);
    }
}
