//! A step along a ray that satisfies the strong Wolfe conditions.
//!
//! Nocedal & Wright, "Numerical Optimization" (2nd ed.), algorithms 3.5 and 3.6: first bracket such a step, then zoom in on
//! it by cubic interpolation, with bisection where that dawdles. Near a minimum the decrease drowns in the rounding of the
//! values; there the slopes decide instead (the approximate Wolfe conditions of Hager & Zhang, SIAM J. Optim. 16, 2005).

/// A function of the step, at one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RayPoint {
    /// How far along the ray.
    pub step: f64,
    /// The function there.
    pub value: f64,
    /// Its derivative with respect to the step.
    pub slope: f64,
}

/// What a step must satisfy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wolfe {
    /// The value falls at least by this fraction of what the first slope promises, `c₁`.
    pub decrease: f64,
    /// The slope's magnitude falls to this fraction of the first, `c₂ > c₁`.
    pub curvature: f64,
    /// Maximum evaluations of the function.
    pub evaluations: usize,
    /// How far values may be off by rounding; 0 for the plain strong Wolfe conditions.
    pub rounding: f64,
}

impl Default for Wolfe {
    fn default() -> Self {
        Wolfe { decrease: 1e-4, curvature: 0.9, evaluations: 40, rounding: 0.0 }
    }
}

impl Wolfe {
    /// The first condition: the function has fallen enough, or as far as rounding lets us see and the slope confirms it.
    fn falls(&self, start: &RayPoint, at: &RayPoint) -> bool {
        let visibly = at.value <= start.value + self.decrease * at.step * start.slope;
        let by_slope = self.rounding > 0.0
            && at.value <= start.value + self.rounding
            && at.slope <= (2.0 * self.decrease - 1.0) * start.slope;
        visibly || by_slope
    }

    /// The second condition: the slope has become flat.
    fn flat(&self, start: &RayPoint, at: &RayPoint) -> bool {
        at.slope.abs() <= self.curvature * start.slope.abs()
    }

    /// Whether `at` satisfies both conditions.
    pub fn holds(&self, start: &RayPoint, at: &RayPoint) -> bool {
        self.falls(start, at) && self.flat(start, at)
    }
}

/// Result of [`search`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Search {
    /// The step taken; at 0 none was found that is better than staying.
    pub point: RayPoint,
    /// Whether it satisfies the conditions, or is only better than the start.
    pub wolfe: bool,
    /// Evaluations of the function.
    pub evaluations: usize,
}

/// Finds a step from `start` (whose step is 0 and whose slope is negative), trying `first` first. `evaluate` gives value
/// and slope at a step; values that are not finite count as too high.
///
/// # Errors
/// Those of `evaluate`.
pub fn search<E>(
    rules: &Wolfe,
    start: RayPoint,
    first: f64,
    mut evaluate: impl FnMut(f64) -> Result<(f64, f64), E>,
) -> Result<Search, E> {
    let mut evaluations = 0;
    let mut at = |step: f64, evaluations: &mut usize| {
        *evaluations += 1;
        let (value, slope) = evaluate(step)?;
        let value = if value.is_finite() && slope.is_finite() { value } else { f64::INFINITY };
        Ok(RayPoint { step, value, slope })
    };

    let mut low = start;
    let mut step = first;
    // Bracketing: `low` has fallen enough and still goes down.
    let high = loop {
        if evaluations >= rules.evaluations {
            return Ok(Search { point: low, wolfe: false, evaluations });
        }
        let point = at(step, &mut evaluations)?;
        if rules.holds(&start, &point) {
            return Ok(Search { point, wolfe: true, evaluations });
        }
        if !rules.falls(&start, &point) || (low.step > 0.0 && point.value >= low.value) {
            break point;
        }
        if point.slope >= 0.0 {
            break std::mem::replace(&mut low, point);
        }
        // Still steep: further, by interpolation between 2 and 8 times as far.
        let beyond = cubic_minimum(&low, &point).filter(|beyond| *beyond > point.step).unwrap_or(f64::INFINITY);
        low = point;
        step = beyond.clamp(2.0 * point.step, 8.0 * point.step);
    };
    zoom(rules, &start, [low, high], evaluations, at)
}

/// Zooms in on a step that satisfies the conditions; it lies between `low`, the best so far, and `high`. `at` evaluates the
/// function and counts.
fn zoom<E>(
    rules: &Wolfe,
    start: &RayPoint,
    [mut low, mut high]: [RayPoint; 2],
    mut evaluations: usize,
    mut at: impl FnMut(f64, &mut usize) -> Result<RayPoint, E>,
) -> Result<Search, E> {
    let mut shrink = 1.0_f64;
    while evaluations < rules.evaluations {
        let width = high.step - low.step;
        if width.abs() <= f64::EPSILON * low.step.abs().max(high.step.abs()) {
            break;
        }

        // Where to look: the minimum of a cubic, or the middle.
        let middle = low.step + 0.5 * width;
        let inside = |step: &f64| (step - low.step) / width > 0.0 && (step - low.step) / width < 1.0;
        let trial = match cubic_minimum(&low, &high).filter(inside) {
            // Two steps that together did not take a third off: cubics do not describe this function.
            Some(trial) if shrink < 0.66 => {
                let fraction = ((trial - low.step) / width).clamp(0.05, 0.95);
                low.step + fraction * width
            }
            _ => middle,
        };

        let point = at(trial, &mut evaluations)?;
        if rules.holds(start, &point) {
            return Ok(Search { point, wolfe: true, evaluations });
        }
        if !rules.falls(start, &point) || point.value >= low.value {
            high = point;
        } else {
            if point.slope * (high.step - low.step) >= 0.0 {
                high = low;
            }
            low = point;
        }
        // The first zoom step may interpolate; later ones must have earned it.
        shrink = if evaluations <= 2 { 0.5 } else { ((high.step - low.step) / width).abs() };
    }
    Ok(Search { point: low, wolfe: false, evaluations })
}

/// Where the cubic through two points with their slopes has its minimum; none where it has no minimum, or the values are
/// not finite.
fn cubic_minimum(a: &RayPoint, b: &RayPoint) -> Option<f64> {
    let width = b.step - a.step;
    let theta = 3.0 * (a.value - b.value) / width + a.slope + b.slope;
    // θ² − a'b' with the largest factored out, so that nothing overflows.
    let scale = theta.abs().max(a.slope.abs()).max(b.slope.abs());
    let square = (theta / scale).powi(2) - (a.slope / scale) * (b.slope / scale);
    if square.is_nan() || square < 0.0 {
        return None;
    }
    let root = scale * square.sqrt() * width.signum();
    let minimum = b.step - width * (b.slope + root - theta) / (b.slope - a.slope + 2.0 * root);
    minimum.is_finite().then_some(minimum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(rules: &Wolfe, first: f64, f: impl Fn(f64) -> (f64, f64)) -> Search {
        let (value, slope) = f(0.0);
        let search: Result<_, ()> = search(rules, RayPoint { step: 0.0, value, slope }, first, |step| Ok(f(step)));
        search.unwrap()
    }

    /// The strong Wolfe conditions, written out.
    fn satisfies(rules: &Wolfe, f: impl Fn(f64) -> (f64, f64), step: f64) -> bool {
        let ((start, slope), (value, end)) = (f(0.0), f(step));
        step > 0.0 && value <= start + rules.decrease * step * slope && end.abs() <= rules.curvature * slope.abs()
    }

    #[test]
    fn a_cubic_is_interpolated_exactly() {
        let f = |t: f64| RayPoint { step: t, value: t * t * t - 3.0 * t, slope: 3.0 * t * t - 3.0 };
        for (a, b) in [(0.0, 2.0), (2.0, 0.0), (0.5, 1.7), (-0.5, 3.0)] {
            assert!((cubic_minimum(&f(a), &f(b)).unwrap() - 1.0).abs() < 1e-12, "{a} {b}");
        }
    }

    #[test]
    fn a_good_first_step_is_taken_as_it_is() {
        let found = run(&Wolfe::default(), 1.0, |t| ((t - 1.0).powi(2), 2.0 * (t - 1.0)));
        assert_eq!((found.point.step, found.wolfe, found.evaluations), (1.0, true, 1));
    }

    /// The functions of Moré & Thuente's tests 1 to 3 (ACM TOMS 20, 1994), from first steps far too short and too long.
    #[test]
    fn functions_made_to_be_hard() {
        let one = |a: f64| (-a / (a * a + 2.0), (a * a - 2.0) / (a * a + 2.0).powi(2));
        let two = |a: f64| {
            let x = a + 0.004;
            (x.powi(5) - 2.0 * x.powi(4), 5.0 * x.powi(4) - 8.0 * x.powi(3))
        };
        let three = |a: f64| {
            let (l, beta) = (39.0_f64, 0.01_f64);
            let ripple = 2.0 * (1.0 - beta) / (l * std::f64::consts::PI) * (l * std::f64::consts::FRAC_PI_2 * a).sin();
            let slope = (1.0 - beta) * (l * std::f64::consts::FRAC_PI_2 * a).cos();
            if a <= 1.0 - beta {
                (1.0 - a + ripple, slope - 1.0)
            } else if a >= 1.0 + beta {
                (a - 1.0 + ripple, slope + 1.0)
            } else {
                ((a - 1.0).powi(2) / (2.0 * beta) + beta / 2.0 + ripple, slope + (a - 1.0) / beta)
            }
        };

        type Function<'a> = &'a dyn Fn(f64) -> (f64, f64);
        let functions: [(Function<'_>, f64, f64); 3] = [(&one, 1e-3, 0.1), (&two, 0.1, 0.1), (&three, 0.1, 0.1)];
        for (number, (f, decrease, curvature)) in functions.into_iter().enumerate() {
            for first in [1e-3, 1e-1, 1e1, 1e3] {
                let rules = Wolfe { decrease, curvature, ..Wolfe::default() };
                let found = run(&rules, first, f);
                assert!(found.wolfe && satisfies(&rules, f, found.point.step), "{number} {first}: {found:?}");
            }
        }
    }

    #[test]
    fn steps_to_nowhere_are_shortened_and_endless_descents_given_up() {
        // Not finite past 0.5.
        let found =
            run(
                &Wolfe::default(),
                64.0,
                |t| if t < 0.5 { (-(1.0 + t).ln(), -1.0 / (1.0 + t)) } else { (f64::NAN, 0.0) },
            );
        assert!(found.point.step > 0.0 && found.point.step < 0.5, "{found:?}");
        // Falls for ever, ever as steeply.
        let found = run(&Wolfe::default(), 1.0, |t| (-t, -1.0));
        assert!(!found.wolfe && found.point.step > 1.0 && found.evaluations == 40, "{found:?}");
        // The slope lies: it promises a fall that does not come.
        let found = run(&Wolfe::default(), 1.0, |t| (t, -1.0));
        assert!(!found.wolfe && found.point.step == 0.0, "{found:?}");
    }

    #[test]
    fn rounding_of_the_values_does_not_hide_a_minimum() {
        // The decrease is 1e-14 of the value: in f64 the values are all the same or off by a unit in the last place.
        let f = |t: f64| (1e6 + 1e-9 * ((t - 1.0).powi(2) - 1.0) + if t > 0.3 { 1e-10 } else { 0.0 }, 2e-9 * (t - 1.0));
        assert!(run(&Wolfe { rounding: 1e-9, curvature: 0.1, ..Wolfe::default() }, 3.7, f).wolfe);
    }

    proptest! {
        /// A sum of a parabola and three waves: many minima, slopes of every size.
        #[test]
        fn random_functions(
            waves in prop::collection::vec((0.0..1.0_f64, 0.1..20.0_f64, -3.2..3.2_f64), 3),
            pull in 0.01..10.0_f64,
            tilt in 1.0..40.0_f64,
            exponent in -4.0..4.0_f64,
            curvature in 0.05..0.9_f64,
        ) {
            let f = |t: f64| {
                let waves = waves.iter().fold((0.0, 0.0), |(value, slope), (size, pace, phase)| {
                    (value + size * (pace * t + phase).sin(), slope + size * pace * (pace * t + phase).cos())
                });
                (pull * t * t - tilt * t + waves.0, 2.0 * pull * t - tilt + waves.1)
            };
            prop_assume!(f(0.0).1 < -1e-3);
            let rules = Wolfe { curvature, evaluations: 200, ..Wolfe::default() };
            let found = run(&rules, 10_f64.powf(exponent), f);
            prop_assert!(found.wolfe && satisfies(&rules, f, found.point.step), "{found:?}");
        }
    }
}
