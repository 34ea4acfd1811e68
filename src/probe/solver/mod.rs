//! Multinomial logistic regression: its objective, and the methods that minimise it.

mod cholesky;
pub(crate) mod fit;
pub mod lbfgs;
pub mod line_search;
pub(crate) mod logistic;
pub(crate) mod objective_f64;
pub(crate) mod preconditioner;
pub(crate) mod sgd;
pub mod smooth;
