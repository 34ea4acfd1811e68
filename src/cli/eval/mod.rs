//! `igpt-engine eval`: nats per token of a model on a data set and, of a fine-tuned one, its accuracy.

mod args;
mod output;

use anyhow::{Result, bail};

pub use self::args::EvalCommand;
use super::common::counter::Counter;
use super::common::device::on_device;
use super::common::output::{note_all, print_json, tell};
use crate::data::npy;
use crate::data::progress::Meter;
use crate::device::Device;
use crate::device::select::{Chosen, DeviceJob};
use crate::eval::{Session, Settings};
use crate::fs::Output;
use crate::plan::{Load, Work, limits};

impl EvalCommand {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        if self.batch == 0 || self.images == Some(0) {
            bail!("--batch and --images must be at least 1");
        }
        self.data.check()?;
        let settings = self.settings()?;
        on_device((&self.device).into(), EvalJob { command: self, settings })
    }
}

/// The command with what its flags say.
struct EvalJob {
    command: EvalCommand,
    settings: Settings,
}

impl DeviceJob for EvalJob {
    type Output = Result<()>;

    fn run<D: Device>(self, device: D, chosen: &Chosen) -> Result<()> {
        let Self { command, settings } = self;
        if !command.json {
            tell(format_args!("on the device {}{}", device.describe(), chosen.why));
        }

        // Open and check everything, what is written first.
        let out = command.out.as_deref().map(Output::open).transpose()?;
        let per_token_out = match &out {
            Some(out) => out.and(command.per_token.as_deref())?,
            None => command.per_token.as_deref().map(Output::open).transpose()?,
        };
        let session = Session::open(&device, settings)?;
        note_all(session.notes());
        if session.is_other_objective() && !command.json {
            tell(format_args!(
                "note: the model was trained to predict the next pixel; masks are new to it, so expect a poor score"
            ));
        }
        let (images, length) = (session.images(), session.sequence_length());
        let at_once = command.batch.min(images);
        let (config, precision) = (session.model(), chosen.precision);
        let load = Load::new(config, Work::Forward, at_once, length, precision);
        limits::check_device(
            &device,
            &format!("scoring {at_once} images at a time with {}", limits::model_name(session.model())),
            &limits::memory_on(&device, load),
            "try a smaller --batch",
        )?;

        // Score.
        let bar = Counter::images("images scored", images as u64, command.json);
        let mut per_token = Vec::new();
        let outcome = session.run(|scores| {
            if per_token_out.is_some() {
                per_token.extend_from_slice(scores.nats);
            }
            bar.inc((scores.nats.len() / length) as u64);
        })?;
        bar.finish();

        // Report.
        if let Some(file) = per_token_out {
            npy::write_to(file, &[images, length], &per_token)?;
        }
        if let Some(file) = out {
            file.write_whole(format!("{}\n", outcome.json()).as_bytes())?;
        }
        if command.json { print_json(&outcome.json()) } else { output::print(&outcome) }
    }
}
