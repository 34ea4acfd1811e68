//! Linear probes: what a frozen model's features say of an image's class.
//!
//! ```text
//! images -> features at some depths -> file -> logistic regression (L-BFGS or SGD) -> accuracy by depth
//!           extract                    file    logistic, sgd                          protocol, report
//! ```
//!
//! "Generative Pretraining from Pixels", sections 2.4, 3.4 and 4: the features at depth `l` are the mean over positions of
//! the normalised input of block `l`, or of the final norm's output for `l = L`.

mod classifier;
pub(crate) mod error;
pub(crate) mod features;
pub(crate) mod protocol;
pub(crate) mod solver;

pub use classifier::{Classifier, share_right};
pub use error::{ProbeError, Result};
pub use features::design_matrix::Design;
pub use features::extract::{Shown, pooled_features, window, write_features};
pub use features::feature_file::{FeatureFile, FeatureView, FeatureWriter, Header};
pub use features::matrix::{Matrix, Picked, Rows, first_not_finite, pick_labels};
pub use protocol::{
    Choice, Labelled, Protocol, Solver, Step, Sweep, Tried, Watch, draw_per_class, mean_and_deviation, split,
};
pub use solver::logistic::{Fit, FitLimits, FitSummary, Regression, TOLERANCE, check_labels};
pub use solver::objective_f64::Exact;
pub use solver::preconditioner::{Preconditioner, WIDEST};
pub use solver::sgd::{SgdOptions, Shuffled, sgd};
pub use solver::{lbfgs, line_search};
