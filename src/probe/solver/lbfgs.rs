//! L-BFGS: quasi-Newton steps from the last few changes of the gradient.
//!
//! Nocedal & Wright, "Numerical Optimization" (2nd ed.), algorithm 7.4, with the strong-Wolfe [`line_search`](super::line_search)
//! and, where the function knows one, a preconditioner in place of the first Hessian's multiple of the identity. Everything
//! here is f64.

use std::collections::VecDeque;

use super::line_search::{RayPoint, Wolfe, search};
use super::smooth::{Iteration, Limits, Minimum, Smooth, Termination, axpy, dot};

/// One remembered step.
struct Pair {
    /// Change of the point.
    s: Vec<f64>,
    /// Change of the gradient.
    y: Vec<f64>,
    /// `1 / s·y`.
    rho: f64,
}

/// The solver and its memory.
pub struct Lbfgs {
    capacity: usize,
    pairs: VecDeque<Pair>,
}

/// Changes of the gradient that are remembered: scikit-learn's and SciPy's choice too.
pub const MEMORY: usize = 10;

/// Slopes below this part of the value are so small that products in f32, of 7 digits, would spoil them.
const TILTED: f64 = 1e-6;

impl Default for Lbfgs {
    fn default() -> Self {
        Self::new(MEMORY)
    }
}

impl Lbfgs {
    /// A solver that remembers `capacity` steps.
    pub fn new(capacity: usize) -> Self {
        Lbfgs { capacity, pairs: VecDeque::with_capacity(capacity) }
    }

    /// Goes on from the function's point until a limit is met. The memory stays for a next call, on the same function or one
    /// close to it. `watch` sees every iteration and returns whether to go on.
    ///
    /// # Errors
    /// Those of the function.
    pub fn minimise<F: Smooth>(
        &mut self,
        function: &mut F,
        limits: Limits,
        mut watch: impl FnMut(&Iteration) -> bool,
    ) -> Result<Minimum, F::Error> {
        let dimension = function.dimension();
        let (mut gradient, mut next) = (vec![0.0; dimension], vec![0.0; dimension]);
        let mut value = function.gradient(&mut gradient)?;
        let mut norm = function.norm(&gradient);
        let mut iterations = 0;

        let ending = loop {
            if norm <= limits.gradient_norm || norm * norm <= limits.relative * value.abs() {
                break Termination::Converged;
            }
            if iterations >= limits.iterations {
                break Termination::IterationLimit;
            }

            // Direction: −H · gradient, which must point down.
            let Some((direction, slope)) = self.descent(function, &gradient) else { break Termination::NoProgress };

            // Line search along it.
            // A quasi-Newton step has the right length; the very first has only the right direction.
            let first = if self.pairs.is_empty() { (1.0 / dot(&direction, &direction).sqrt()).min(1.0) } else { 1.0 };
            function.aim(&direction)?;
            let rules = Wolfe { rounding: function.rounding(value), ..Wolfe::default() };
            let start = RayPoint { step: 0.0, value, slope };
            // Logits along the ray are products in f32. Where little is left to gain, what these are off by is more than the slope: there the
            // function is tilted, so that its slope at the start is the gradient's.
            let tilt = if -slope < TILTED * value.abs() { function.along(0.0)?.1 - slope } else { 0.0 };
            let found = search(&rules, start, first, |step| {
                function.along(step).map(|(value, slope)| (value - tilt * step, slope - tilt))
            })?;

            if found.point.step == 0.0 {
                if self.pairs.is_empty() {
                    break Termination::NoProgress;
                }
                self.pairs.clear();
                continue;
            }

            // Step, and remember what it taught.
            function.advance(found.point.step)?;
            value = function.gradient(&mut next)?;
            self.remember(&direction, found.point.step, &gradient, &next);
            std::mem::swap(&mut gradient, &mut next);
            norm = function.norm(&gradient);
            iterations += 1;
            if !watch(&Iteration { number: iterations, value, gradient_norm: norm }) {
                break Termination::Interrupted;
            }
        };
        Ok(Minimum { value, gradient_norm: norm, iterations, ending })
    }

    /// A direction that points down, and the slope along it; `None` where there is none.
    fn descent<F: Smooth>(&mut self, function: &F, gradient: &[f64]) -> Option<(Vec<f64>, f64)> {
        let down = |slope: f64| slope < 0.0 && slope.is_finite();
        let direction = self.direction(function, gradient);
        let slope = dot(&direction, gradient);
        if down(slope) {
            return Some((direction, slope));
        }

        // Rounding has spoilt the memory: start it anew.
        self.pairs.clear();
        let direction = self.direction(function, gradient);
        let slope = dot(&direction, gradient);
        down(slope).then_some((direction, slope))
    }

    /// `−H · gradient`: the two loops.
    fn direction<F: Smooth>(&self, function: &F, gradient: &[f64]) -> Vec<f64> {
        let mut q: Vec<f64> = gradient.iter().map(|value| -value).collect();
        let mut alphas = Vec::with_capacity(self.pairs.len());
        for pair in self.pairs.iter().rev() {
            let alpha = pair.rho * dot(&pair.s, &q);
            axpy(-alpha, &pair.y, &mut q);
            alphas.push(alpha);
        }

        // H₀: the preconditioner, scaled by the newest pair.
        function.precondition(&mut q);
        if let Some(last) = self.pairs.back() {
            let mut scaled = last.y.clone();
            function.precondition(&mut scaled);
            let scale = 1.0 / (last.rho * dot(&last.y, &scaled));
            q.iter_mut().for_each(|value| *value *= scale);
        }

        for (pair, alpha) in self.pairs.iter().zip(alphas.iter().rev()) {
            let beta = pair.rho * dot(&pair.y, &q);
            axpy(alpha - beta, &pair.s, &mut q);
        }
        q
    }

    fn remember(&mut self, direction: &[f64], step: f64, before: &[f64], after: &[f64]) {
        let s: Vec<f64> = direction.iter().map(|value| step * value).collect();
        let y: Vec<f64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
        let curvature = dot(&s, &y);
        // Positive after a strong-Wolfe step; rounding can make it useless.
        if curvature > f64::EPSILON * dot(&y, &y).sqrt() * dot(&s, &s).sqrt() {
            if self.pairs.len() == self.capacity {
                self.pairs.pop_front();
            }
            self.pairs.push_back(Pair { s, y, rho: 1.0 / curvature });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// A function given by its value and gradient.
    struct Plain<F> {
        f: F,
        point: Vec<f64>,
        direction: Vec<f64>,
        calls: usize,
    }

    impl<F: FnMut(&[f64], &mut [f64]) -> f64> Plain<F> {
        fn new(f: F, point: Vec<f64>) -> Self {
            let direction = vec![0.0; point.len()];
            Plain { f, point, direction, calls: 0 }
        }
    }

    impl<F: FnMut(&[f64], &mut [f64]) -> f64> Smooth for Plain<F> {
        type Error = Infallible;

        fn dimension(&self) -> usize {
            self.point.len()
        }

        fn gradient(&mut self, gradient: &mut [f64]) -> Result<f64, Infallible> {
            Ok((self.f)(&self.point, gradient))
        }

        fn aim(&mut self, direction: &[f64]) -> Result<(), Infallible> {
            self.direction.copy_from_slice(direction);
            Ok(())
        }

        fn along(&mut self, step: f64) -> Result<(f64, f64), Infallible> {
            self.calls += 1;
            let mut point = self.point.clone();
            axpy(step, &self.direction, &mut point);
            let mut gradient = vec![0.0; point.len()];
            let value = (self.f)(&point, &mut gradient);
            Ok((value, dot(&gradient, &self.direction)))
        }

        fn advance(&mut self, step: f64) -> Result<(), Infallible> {
            axpy(step, &self.direction, &mut self.point);
            Ok(())
        }
    }

    fn rosenbrock(x: &[f64], gradient: &mut [f64]) -> f64 {
        gradient.fill(0.0);
        let mut value = 0.0;
        for i in 0..x.len() - 1 {
            let (a, b) = (1.0 - x[i], x[i + 1] - x[i] * x[i]);
            value += a * a + 100.0 * b * b;
            gradient[i] += -2.0 * a - 400.0 * b * x[i];
            gradient[i + 1] += 200.0 * b;
        }
        value
    }

    const TIGHT: Limits = Limits { gradient_norm: 1e-9, relative: 0.0, iterations: 2000 };

    #[test]
    fn rosenbrock_in_two_and_fifty_dimensions() {
        for dimension in [2, 50] {
            let start = (0..dimension).map(|i| if i % 2 == 0 { -1.2 } else { 1.0 }).collect();
            let mut function = Plain::new(rosenbrock, start);
            let minimum = Lbfgs::default().minimise(&mut function, TIGHT, |_| true).unwrap();
            assert_eq!(minimum.ending, Termination::Converged, "{minimum:?}");
            let worst = function.point.iter().map(|x| (x - 1.0).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-8, "{dimension}: off by {worst}");
            assert!(minimum.iterations < 40 * dimension, "{minimum:?}");
        }
    }

    /// `½ (x − 3)ᵀ Q (x − 3)` with eigenvalues from 1 to `condition` and a reflection, so that no coordinate is special.
    fn quadratic(n: usize, condition: f64) -> (Vec<f64>, impl Fn(&[f64]) -> Vec<f64>) {
        let eigenvalues = (0..n).map(|i| condition.powf(i as f64 / (n - 1) as f64)).collect();
        let v: Vec<f64> = (0..n).map(|i| ((i * 7 % 11) as f64 - 4.0) / 10.0).collect();
        let length = dot(&v, &v);
        let reflect = move |x: &[f64]| {
            let scale = 2.0 * dot(&v, x) / length;
            x.iter().zip(&v).map(|(x, v)| x - scale * v).collect()
        };
        (eigenvalues, reflect)
    }

    #[test]
    fn an_ill_conditioned_quadratic() {
        let n = 30;
        let (eigenvalues, reflect) = quadratic(n, 1e4);
        let f = |x: &[f64], gradient: &mut [f64]| {
            let turned = reflect(&x.iter().map(|x| x - 3.0).collect::<Vec<_>>());
            let stretched: Vec<f64> = turned.iter().zip(&eigenvalues).map(|(x, l)| l * x).collect();
            gradient.copy_from_slice(&reflect(&stretched));
            0.5 * dot(&turned, &stretched)
        };
        let mut function = Plain::new(f, vec![0.0; n]);
        let limits = Limits { gradient_norm: 1e-6, ..TIGHT };
        let minimum = Lbfgs::default().minimise(&mut function, limits, |_| true).unwrap();
        assert_eq!(minimum.ending, Termination::Converged, "{minimum:?}");
        let worst = function.point.iter().map(|x| (x - 3.0).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-6, "off by {worst} after {minimum:?}");
        // Nearly every step is taken at the first attempt.
        assert!(function.calls < 2 * minimum.iterations, "{} calls, {minimum:?}", function.calls);
    }

    /// With eigenvalues from 1 to 1e8 ten pairs take over 50,000 steps; a preconditioner that knows each eigenvalue within a
    /// factor of 3 makes it a matter of tens.
    #[test]
    fn a_preconditioner_that_is_roughly_right() {
        struct Conditioned {
            eigenvalues: Vec<f64>,
            inverse: Vec<f64>,
            point: Vec<f64>,
            direction: Vec<f64>,
        }
        impl Conditioned {
            fn at(&self, step: f64) -> (f64, Vec<f64>) {
                let point = self.point.iter().zip(&self.direction).map(|(x, d)| x + step * d);
                let gradient: Vec<f64> = point.zip(&self.eigenvalues).map(|(x, l)| l * (x - 3.0)).collect();
                let value = gradient.iter().zip(&self.eigenvalues).map(|(g, l)| 0.5 * g * g / l).sum();
                (value, gradient)
            }
        }
        impl Smooth for Conditioned {
            type Error = Infallible;
            fn dimension(&self) -> usize {
                self.point.len()
            }
            fn gradient(&mut self, gradient: &mut [f64]) -> Result<f64, Infallible> {
                let (value, at) = self.at(0.0);
                gradient.copy_from_slice(&at);
                Ok(value)
            }
            fn aim(&mut self, direction: &[f64]) -> Result<(), Infallible> {
                self.direction.copy_from_slice(direction);
                Ok(())
            }
            fn along(&mut self, step: f64) -> Result<(f64, f64), Infallible> {
                let (value, gradient) = self.at(step);
                Ok((value, dot(&gradient, &self.direction)))
            }
            fn advance(&mut self, step: f64) -> Result<(), Infallible> {
                axpy(step, &self.direction, &mut self.point);
                Ok(())
            }
            fn precondition(&self, vector: &mut [f64]) {
                vector.iter_mut().zip(&self.inverse).for_each(|(value, inverse)| *value *= inverse);
            }
        }

        let n = 30;
        let (eigenvalues, _) = quadratic(n, 1e8);
        let inverse = eigenvalues.iter().enumerate().map(|(i, l)| [1.0, 3.0, 1.0 / 3.0][i % 3] / l).collect();
        let mut function = Conditioned { eigenvalues, inverse, point: vec![0.0; n], direction: vec![0.0; n] };

        let limits = Limits { gradient_norm: 1e-6, ..TIGHT };
        let minimum = Lbfgs::default().minimise(&mut function, limits, |_| true).unwrap();
        assert!(minimum.ending == Termination::Converged && minimum.iterations < 60, "{minimum:?}");
        assert!(function.point.iter().all(|x| (x - 3.0).abs() < 1e-6));
    }

    #[test]
    fn limits_and_watchers_end_it_and_are_named() {
        let run = |limits, go_on: fn(&Iteration) -> bool| {
            let mut function = Plain::new(rosenbrock, vec![-1.2, 1.0]);
            Lbfgs::default().minimise(&mut function, limits, go_on).unwrap()
        };
        let few = run(Limits { iterations: 3, ..TIGHT }, |_| true);
        assert_eq!((few.ending, few.iterations), (Termination::IterationLimit, 3));
        assert!(few.gradient_norm > TIGHT.gradient_norm);
        let stopped = run(TIGHT, |iteration| iteration.number < 5);
        assert_eq!((stopped.ending, stopped.iterations), (Termination::Interrupted, 5));
        // A kink at the minimum has no short gradient.
        let kink = |x: &[f64], gradient: &mut [f64]| {
            gradient[0] = if x[0] < 0.3 { -1.0 } else { 1.0 };
            (x[0] - 0.3).abs()
        };
        let minimum = Lbfgs::default().minimise(&mut Plain::new(kink, vec![5.0]), TIGHT, |_| true).unwrap();
        assert!(matches!(minimum.ending, Termination::NoProgress | Termination::IterationLimit), "{minimum:?}");
        assert_eq!(minimum.gradient_norm, 1.0);
    }
}
