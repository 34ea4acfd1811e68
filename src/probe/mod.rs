//! Linear probes: what a frozen model's features say of an image's class.
//!
//! ```text
//! images -> features at some depths -> file -> logistic regression (L-BFGS or SGD) -> accuracy by depth
//!           extract                    file    logistic, sgd                          protocol, report
//! ```
//!
//! "Generative Pretraining from Pixels", sections 2.4, 3.4 and 4: the features at depth `l` are the mean over positions of
//! the normalised input of block `l`, or of the final norm's output for `l = L`.

mod arrays;
mod classifier;
mod depths;
pub(crate) mod error;
mod events;
pub(crate) mod features;
mod few_labels;
mod inputs;
mod outcome;
mod passes;
mod product;
pub(crate) mod protocol;
mod session;
mod settings;
pub(crate) mod solver;
mod solver_choice;

pub use arrays::{ArrayOutcome, ArrayPair, ArraySettings, probe_arrays};
pub use classifier::{Classifier, accuracy_of};
pub use depths::DepthSpec;
pub use error::{ProbeError, Result};
pub use events::{Events, Silent};
pub use features::design_matrix::DesignMatrix;
pub use features::extract::{Shown, pooled_features, window, write_features};
pub use features::feature_file::{FeatureFile, FeatureView, FeatureWriter};
pub use features::header::Header;
pub use features::matrix::{Matrix, Picked, Rows, first_not_finite, pick_labels};
pub use few_labels::{choose_per_class, mean_and_deviation};
pub use outcome::{FittedClassifier, Outcome, Saved, best_trained};
pub use protocol::{Labelled, Protocol, Step, Sweep, Tried, Watch, split};
pub use session::Session;
pub use settings::{FOLDER, Settings};
pub use solver::fit::{Fit, FitLimits, FitSummary, TOLERANCE, check_labels};
pub use solver::logistic::Regression;
pub use solver::objective_f64::ObjectiveF64;
pub use solver::preconditioner::{MAX_FACTOR_WIDTH, Preconditioner};
pub use solver::sgd::{SgdOptions, Shuffled, sgd};
pub use solver::{lbfgs, line_search, smooth};
pub use solver_choice::{Choice, Solver};
