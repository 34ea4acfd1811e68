//! A smooth function to be minimised, and how its minimisation is limited, watched and ended.

/// A differentiable function as the solver sees it: at a point, along a ray from there, moved along the ray.
///
/// Apart like this, a linear model pays for one product with its data per ray, however many steps are tried along it.
pub trait Smooth {
    /// Why it could not be evaluated.
    type Error;

    /// Number of variables.
    fn dimension(&self) -> usize;
    /// Writes the gradient at the point, `[dimension]`, and returns the value there.
    fn gradient(&mut self, gradient: &mut [f64]) -> Result<f64, Self::Error>;
    /// Chooses the ray from the point in `direction`.
    fn aim(&mut self, direction: &[f64]) -> Result<(), Self::Error>;
    /// Value and derivative with respect to the step, `step` along the ray.
    fn along(&mut self, step: f64) -> Result<(f64, f64), Self::Error>;
    /// Moves the point along the ray.
    fn advance(&mut self, step: f64) -> Result<(), Self::Error>;
    /// Multiplies by an approximate inverse of the Hessian, symmetric and positive definite.
    fn precondition(&self, _vector: &mut [f64]) {}
    /// The norm of a gradient by which convergence is judged.
    fn norm(&self, gradient: &[f64]) -> f64 {
        dot(gradient, gradient).sqrt()
    }
    /// How far values near `value` may be off by rounding.
    fn rounding(&self, value: f64) -> f64 {
        8.0 * f64::EPSILON * value.abs()
    }
}

/// When [`Lbfgs::minimise`](super::lbfgs::Lbfgs::minimise) stops.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// At a gradient no longer than this.
    pub gradient_norm: f64,
    /// At a gradient whose square is at most this fraction of the value's magnitude.
    pub relative: f64,
    /// After this many iterations.
    pub iterations: usize,
}

/// Why it stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Termination {
    /// The gradient is short enough.
    Converged,
    /// The iterations allowed are used up.
    IterationLimit,
    /// No step along the direction lowers the function: as exact as rounding allows, or not a smooth function.
    NoProgress,
    /// The watcher said so.
    Interrupted,
    /// The objective is not a number any more (gradient descent with too high a rate).
    Diverged,
}

/// Where it stopped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Minimum {
    /// The function's value.
    pub value: f64,
    /// Norm of the gradient.
    pub gradient_norm: f64,
    /// Steps taken.
    pub iterations: usize,
    /// Why.
    pub ending: Termination,
}

/// An iteration, for whoever watches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Iteration {
    /// Its number, from 1.
    pub number: usize,
    /// The function's value after it.
    pub value: f64,
    /// Norm of the gradient after it.
    pub gradient_norm: f64,
}

/// Inner product, in the order of the elements.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `y += alpha · x`.
pub(super) fn axpy(alpha: f64, x: &[f64], y: &mut [f64]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += alpha * x);
}
