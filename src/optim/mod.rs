//! Optimisation: Adam over all of a model's parameters, their moving average, and learning-rate schedules.

mod adam;
mod average;
mod schedule;

pub use adam::{Adam, AdamConfig, Skipped, Verdict};
pub use average::Average;
pub use schedule::{Schedule, ScheduleKind};
