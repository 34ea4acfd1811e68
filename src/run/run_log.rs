//! What a run writes down as it goes: its metrics, and the curves and pictures for TensorBoard beside them.

use super::event_log::EventLog;
use super::folder::{RunFolder, RunFolderError};
use super::metrics::Record;
use super::metrics_log::MetricsLog;

/// The logs of a run, open for appending.
#[derive(Debug)]
pub struct RunLog {
    metrics: MetricsLog,
    /// `None` where the run is not to have them.
    events: Option<EventLog>,
}

impl RunLog {
    /// Goes on with the logs of a run after `step` updates, and drops what they hold of later ones; `tensorboard` says whether
    /// event files are among them.
    ///
    /// # Errors
    /// Those of [`MetricsLog::resume`] and [`EventLog::start`].
    pub fn resume(folder: &RunFolder, step: u64, tensorboard: bool) -> Result<Self, RunFolderError> {
        let metrics = MetricsLog::resume(&folder.metrics(), Some(step))?;
        let events = tensorboard.then(|| EventLog::start(folder.root(), step)).transpose()?;
        Ok(Self { metrics, events })
    }

    /// Training steps that the metrics held when they were opened: all that were made, unless somebody has shortened them.
    pub fn steps(&self) -> u64 {
        self.metrics.steps()
    }

    /// Joules that the run's card had used when they were opened.
    pub fn joules(&self) -> f64 {
        self.metrics.joules()
    }

    /// Writes a record down.
    ///
    /// # Errors
    /// [`RunFolderError::Io`].
    pub fn append(&mut self, record: &Record) -> Result<(), RunFolderError> {
        self.metrics.append(record)?;
        self.events.as_mut().map_or(Ok(()), |events| events.append(record))
    }

    /// Shows a grid of samples beside the curves: a PNG file of `size`, width and height.
    ///
    /// # Errors
    /// [`RunFolderError::Io`].
    pub fn append_grid(&mut self, step: u64, png: &[u8], size: [u32; 2]) -> Result<(), RunFolderError> {
        self.events.as_mut().map_or(Ok(()), |events| events.append_grid(step, png, size))
    }

    /// Waits until all is on the disk.
    ///
    /// # Errors
    /// [`RunFolderError::Io`].
    pub fn sync(&self) -> Result<(), RunFolderError> {
        self.metrics.sync()?;
        self.events.as_ref().map_or(Ok(()), EventLog::sync)
    }

    /// Writes again, as far as they had come, those files that have been removed; returns what they are.
    pub(super) fn put_back(&mut self) -> Result<Vec<&'static str>, RunFolderError> {
        let mut lacked = Vec::new();
        if !self.metrics.is_in_place() {
            lacked.push(RunFolder::METRICS);
            self.metrics.put_back()?;
        }
        if let Some(events) = self.events.as_mut().filter(|events| !events.is_in_place()) {
            lacked.push("TensorBoard's events");
            events.put_back()?;
        }
        Ok(lacked)
    }
}
