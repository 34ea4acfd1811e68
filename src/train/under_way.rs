//! The checkpoint that a thread is writing: what the loop keeps of it.

use std::path::PathBuf;
use std::time::Duration;

use super::TrainError;
use super::writer::Writer;
use crate::device::Device;

/// How long a rank that has failed waits for what it and others still write.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The checkpoint on its way, if there is one.
pub(super) struct Saving<D: Device> {
    /// Whether checkpoints are copied to the host and written by a thread.
    pub in_background: bool,
    /// Memory of earlier copies.
    pub free: Vec<D::Staging>,
    /// Of this rank's files.
    pub writer: Option<Writer<D>>,
    /// How long training stood still, and how long the files took.
    pub times: [Duration; 2],
    /// What [`Saving::times`] are, from the end of a checkpoint until a step's line has said it.
    pub told: Option<[Duration; 2]>,
    /// What went wrong since it was begun.
    pub failure: Option<TrainError>,
    /// Whether ranks have still to tell each other how it ended.
    pub unsettled: bool,
    /// Its folder, on rank 0, and the step that it is of; none of the best weights.
    pub path: Option<PathBuf>,
    pub step: Option<u64>,
}

impl<D: Device> Saving<D> {
    pub fn new(in_background: bool) -> Self {
        Self {
            in_background,
            free: Vec::new(),
            writer: None,
            times: [Duration::ZERO; 2],
            told: None,
            failure: None,
            unsettled: false,
            path: None,
            step: None,
        }
    }

    /// A checkpoint is begun, of `step` if it is no best one.
    pub fn begun(&mut self, path: Option<PathBuf>, step: Option<u64>) {
        (self.path, self.step, self.unsettled) = (path, step, self.in_background);
    }

    /// It has failed on this rank.
    pub fn failed(&mut self, error: TrainError) {
        self.failure.get_or_insert(error);
    }

    /// Whether it has.
    pub fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Milliseconds that training stood still for the last checkpoint, and that its files took; once.
    pub fn take_times(&mut self) -> Option<[f64; 2]> {
        self.told.take().map(|times| times.map(|time| 1e3 * time.as_secs_f64()))
    }

    /// Waits for a thread that is at work, no longer than patience lasts: for who asks which checkpoint is the last.
    pub fn wait(&self) {
        if let Some(writer) = &self.writer {
            writer.wait_at_most(PATIENCE);
        }
    }
}
