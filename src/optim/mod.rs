//! Optimisation: Adam over all of a model's parameters, and learning-rate schedules.

mod adam;
mod schedule;

pub use adam::{Adam, AdamConfig, Skipped, Verdict};
pub use schedule::{Schedule, ScheduleKind};
