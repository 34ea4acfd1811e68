//! `igpt-engine eval`: nats per token of a model on a data set and, of a fine-tuned one, its accuracy.

mod args;
mod output;

use anyhow::{Context, Result, bail};

pub use self::args::EvalCommand;
use super::common::device::on_device;
use super::common::output::{print_json, tell};
use super::common::progress::image_bar;
use crate::data::npy;
use crate::device::Device;
use crate::device::select::{Chosen, DeviceJob};
use crate::eval::Session;
use crate::fs::atomic_file;
use crate::plan::{Memory, Work, limits};

impl EvalCommand {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        if self.batch == 0 || self.images == Some(0) {
            bail!("--batch and --images must be at least 1");
        }
        on_device((&self.device).into(), self)
    }
}

impl DeviceJob for EvalCommand {
    type Output = Result<()>;

    fn run<D: Device>(self, device: D, chosen: &Chosen) -> Result<()> {
        if !self.json {
            tell(format_args!("on the device {}{}", device.describe(), chosen.why));
        }

        // Open and check everything.
        let session = Session::open(&device, self.settings())?;
        if session.is_other_objective() && !self.json {
            tell(format_args!(
                "note: the model was trained to predict the next pixel; masks are new to it, so expect a poor score"
            ));
        }
        let (images, length) = (session.images(), session.sequence_length());
        let at_once = self.batch.min(images);
        limits::check_device(
            &device,
            &format!("scoring {at_once} images at a time"),
            &Memory::of(session.model(), Work::Forward, at_once as f64 * length as f64, chosen.precision),
            "try a smaller --batch",
        )?;

        // Score.
        let bar = image_bar(images as u64, self.json);
        let mut per_token = Vec::new();
        let outcome = session.run(|scores| {
            if self.per_token.is_some() {
                per_token.extend_from_slice(scores.nats);
            }
            bar.inc((scores.nats.len() / length) as u64);
        })?;
        bar.finish_and_clear();

        // Report.
        if let Some(path) = &self.per_token {
            npy::write_f32(path, &[images, length], &per_token)
                .with_context(|| format!("cannot write the nats of each token to {}", path.display()))?;
        }
        if let Some(path) = &self.out {
            let text = format!("{}\n", outcome.json());
            atomic_file::write_file(path, |file| file.write_all(text.as_bytes()))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        if self.json { print_json(&outcome.json()) } else { output::print(&outcome) }
    }
}
