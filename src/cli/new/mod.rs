//! `igpt-engine new`: a configuration to begin with, for a folder of images.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

use super::common::device::{DeviceArgs, on_device};
use super::common::output::{print_json, say};
use crate::data::DataSpec;
use crate::device::Device;
use crate::device::select::{Chosen, DeviceJob};
use crate::fs::path_text;
use crate::named::Named;
use crate::plan::Suggestion;

/// Write a configuration for your own folder of images, with sizes that fit this machine
///
/// Looks through the folder, measures this machine or takes the card's data sheet, and writes the largest of the paper's models
/// whose memory fits and that is done within --hours, with a comment on every setting. Nothing is trained, and nothing that
/// is there is overwritten.
///
///   igpt-engine new photos                      writes photos.toml
///   igpt-engine train --config photos.toml
///
/// The folder holds train/CLASS/*.jpg (or .png, .webp, ...), or pictures without classes; see `igpt-engine data info images:DIR`.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct NewCommand {
    /// The folder of images
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The file to write [default: the folder's name with .toml, here]
    #[arg(long, value_name = "FILE.toml")]
    out: Option<PathBuf>,
    /// Longest time that the run may take, by the estimate of `plan`
    #[arg(long, value_name = "HOURS", default_value_t = 24.0)]
    hours: f64,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl NewCommand {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        if !(self.hours > 0.0 && self.hours.is_finite()) {
            bail!("--hours must be above 0; 24 is a day");
        }
        if !self.folder.is_dir() {
            bail!("there is no folder {}; give the one that holds your images", self.folder.display());
        }
        if self.folder.to_str().is_none() {
            bail!("{}: the path must be UTF-8, for the file keeps it; rename the folder", self.folder.display());
        }
        let out = self.out()?;
        if out.symlink_metadata().is_ok() {
            bail!("{} is there already and stays as it is; name another file with --out", out.display());
        }
        on_device((&self.device).into(), Job { command: self, out })
    }

    /// The file to write.
    fn out(&self) -> Result<PathBuf> {
        if let Some(out) = &self.out {
            return Ok(out.clone());
        }
        // Of `.` too the name that the folder has.
        let whole = self.folder.canonicalize().with_context(|| format!("cannot read {}", self.folder.display()))?;
        let name = whole.file_name().context("the root folder has no name; name the file with --out")?;
        let mut name = name.to_owned();
        name.push(".toml");
        Ok(name.into())
    }
}

struct Job {
    command: NewCommand,
    out: PathBuf,
}

impl DeviceJob for Job {
    type Output = Result<()>;

    fn run<D: Device>(self, device: D, chosen: &Chosen) -> Result<()> {
        let Self { command: NewCommand { folder, hours, json, .. }, out } = self;
        let found = Suggestion::of(&device, chosen.precision, &DataSpec::Images(folder), hours)?;
        write_new(&out, &found.config(&out.display().to_string()))?;

        if json {
            return print_json(&json!({
                "config": path_text(&out),
                "images": found.images,
                "classes": found.classes,
                "model": found.model.name(),
                "batch": found.batch,
                "accumulate": found.accumulate,
                "steps": found.steps,
                "memory": found.memory,
                "available": found.available,
                "hours": found.hours,
                "device": found.device,
            }));
        }
        let time = found.hours.map_or(String::new(), |hours| format!(", about {hours:.1} hours"));
        say(format_args!(
            "{}: the {} model on {} images, {} updates of {}{time}, on the device {}{}",
            out.display(),
            found.model.name(),
            found.images,
            found.steps,
            found.batch * found.accumulate,
            found.device,
            chosen.why
        ))?;
        say(format_args!("look it through, then   igpt-engine train --config {}", out.display()))
    }
}

/// Writes a file that is not there yet.
fn write_new(path: &Path, text: &str) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).with_context(failed),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} is there already and stays as it is; name another file with --out", path.display())
        }
        Err(error) => Err(error).with_context(failed),
    }
}
