//! Training: a session from settings to a finished run folder, the loop in it, and the step in that.
//!
//! ```text
//! Settings -> Session -> TrainingLoop -> Trainer       what config.toml holds; a run; its loop; one optimiser step
//! ```

mod buckets;
mod collect;
mod common_start;
mod error;
mod events;
mod fine_tuning;
mod fit;
mod leading;
mod loop_schedule;
#[cfg(test)]
mod ranks_on_threads;
mod reduce;
mod saving;
mod session;
mod settings;
mod settings_check;
mod settings_error;
mod settings_layers;
mod settings_resume;
mod settling;
mod setup;
mod shared_step;
mod skipping;
mod snapshot;
mod spikes;
mod state;
mod telling;
mod together;
mod traffic;
mod trainer;
mod training_loop;
mod under_way;
mod validating;
mod writer;
mod yardstick;

pub use error::TrainError;
pub use events::{Events, Pace, Saved, Silent};
pub use fine_tuning::{DECIDED, FineTuning};
pub use session::{ModelKind, Outcome, Session};
pub use settings::Settings;
pub use settings_error::SettingsError;
pub use telling::Spent;
pub use together::Together;
pub use trainer::{PendingStep, StepOutcome, Trainer};
pub use training_loop::StopReason;
