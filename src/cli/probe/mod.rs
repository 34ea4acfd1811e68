//! `igpt-engine probe`: what a frozen model's features say of an image's class.

mod args;
mod output;

use anyhow::{Result, bail};

pub use self::args::ProbeCommand;
use self::output::Terminal;
use super::common::device::on_device;
use super::common::first_model;
use super::common::interrupt::{Stopped, stop_flag};
use super::common::output::{note_all, tell};
use crate::device::select::{Chosen, DeviceJob, Request};
use crate::device::{Device, Precision};
use crate::probe::{Session, probe_arrays};

/// What a signal leaves of a single fit.
const STOPPED: Stopped = Stopped("stopped before the fit was done; nothing was written");

impl ProbeCommand {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        self.check()?;
        if self.checkpoint.is_none() && !self.raw_pixels && self.features.is_none() {
            let offer = first_model::offer("probe");
            bail!(
                "there is nothing to probe; --features X.npy,Y.npy and --raw-pixels need no model. For a model, {offer}"
            )
        }
        // bf16 would round the features to 8 bits in the solver's matmuls, which would then converge to another optimum than
        // the one that is checked in f64. So a GPU probes in f32 unless told otherwise.
        let request = Request { kept: Some(Precision::F32), ..(&self.device).into() };
        on_device(request, self)
    }
}

impl DeviceJob for ProbeCommand {
    type Output = Result<()>;

    fn run<D: Device>(self, device: D, chosen: &Chosen) -> Result<()> {
        let mut terminal = Terminal::new(self.json, stop_flag());
        if let Some(settings) = self.array_settings() {
            let Some(outcome) = probe_arrays(&device, &settings, &mut terminal)? else { return Err(STOPPED.into()) };
            if let Some(note) = &outcome.note {
                tell(format_args!("note: {note}"));
            }
            return output::arrays(&outcome, self.json);
        }
        let session = Session::open(&device, self.settings(chosen.precision))?;
        note_all(&session.notes());
        let outcome = session.run(&mut terminal)?;
        output::images(&outcome, self.json)
    }
}
