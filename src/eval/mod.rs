//! Nats per token of a model over a data set and, with a class head, how many of its images are classified correctly.

mod error;
mod evaluate;
mod masks;
mod per_class;
mod session;
mod tally;

pub use error::{EvalError, SessionError};
pub use evaluate::{BatchScores, EvaluationPlan, Masks, evaluate, evaluate_part, evaluate_with, score};
pub use masks::MaskSettings;
pub use per_class::ClassCount;
pub use session::{Outcome, Session, Settings};
pub use tally::{Classification, Evaluation, Part, Scores};
