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
mod design;
mod error;
mod exact;
mod extract;
mod file;
pub mod lbfgs;
pub mod line_search;
mod logistic;
mod preconditioner;
mod protocol;
pub mod report;
mod rows;
mod sgd;

pub use classifier::{Classifier, share_right};
pub use design::Design;
pub use error::{ProbeError, Result};
pub use exact::Exact;
pub use extract::{Shown, pooled_features, window, write_features};
pub use file::{FeatureFile, FeatureView, FeatureWriter, Header};
pub use logistic::{Fit, FitLimits, FitSummary, Regression, TOLERANCE, check_labels};
pub use preconditioner::{Preconditioner, WIDEST};
pub use protocol::{
    Choice, Labelled, Protocol, Solver, Step, Sweep, Tried, Watch, draw_per_class, mean_and_deviation, split,
};
pub use rows::{Matrix, Picked, Rows, first_not_finite, pick_labels};
pub use sgd::{SgdOptions, Shuffled, sgd};
