//! The events of a run, for whatever shows them: a terminal, a script, or nothing.

use std::path::Path;
use std::time::Duration;

use crate::device::nvml::Reading;
use crate::eval::Evaluation;
use crate::report::compute::Utilisation;
use crate::train::StepOutcome;

/// Speed and time of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Tokens trained on per second, over this step.
    pub tokens_per_second: f64,
    /// Images trained on per second, over this step.
    pub images_per_second: f64,
    /// Model FLOPs utilisation over this step, where the device's peak is known.
    pub utilisation: Option<Utilisation>,
    /// What the card's sensors said last, where there is a card and NVML.
    pub gpu: Option<Reading>,
    /// Whether they were read since the step before.
    pub gpu_is_new: bool,
    /// Seconds since the run's first step, over all its sessions.
    pub elapsed: f64,
    /// Fraction of this session's time, its first batch apart, that was spent waiting for data: 0 where loading keeps
    /// ahead.
    pub data_wait: f64,
}

/// A checkpoint that is there, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved<'a> {
    /// The step that it is of. Others may have been made since.
    pub step: u64,
    /// Its folder.
    pub path: &'a Path,
    /// How long training stood still for it.
    pub stood_still: Duration,
    /// How long its files took until they were on disk under the folder's name, while training went on unless the settings say
    /// otherwise.
    pub writing: Duration,
}

/// Receives a run's events, in order.
pub trait Events {
    /// Training starts, or goes on, after `step` of `steps` steps.
    fn started(&mut self, step: u64, steps: u64);
    /// A step was taken.
    fn stepped(&mut self, outcome: &StepOutcome, pace: &Pace);
    /// The validation images were scored after `step`.
    fn evaluated(&mut self, step: u64, evaluation: &Evaluation);
    /// A checkpoint was written.
    fn saved(&mut self, saved: &Saved<'_>);
    /// A grid of samples was written.
    fn sampled(&mut self, step: u64, picture: &Path);
    /// Something that a person should know and that does not stop the run.
    fn note(&mut self, text: &str);
}

/// Ignores all events.
pub struct Silent;

impl Events for Silent {
    fn started(&mut self, _step: u64, _steps: u64) {}
    fn stepped(&mut self, _outcome: &StepOutcome, _pace: &Pace) {}
    fn evaluated(&mut self, _step: u64, _evaluation: &Evaluation) {}
    fn saved(&mut self, _saved: &Saved<'_>) {}
    fn sampled(&mut self, _step: u64, _picture: &Path) {}
    fn note(&mut self, _text: &str) {}
}
