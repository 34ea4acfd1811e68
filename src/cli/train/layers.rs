//! Settings in layers, as `train` and `finetune` have them: defaults, `--config`, the resumed run's own, flags.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;

use crate::cli::common::named::named;
use crate::cli::common::output::tell;
use crate::comm::Launch;
use crate::device::select::Request;
use crate::named::named;
use crate::run::checkpoints;
use crate::run::folder::RunFolder;
use crate::train::Settings;

/// One layer of settings, everything optional.
pub trait Layer: Clone + Sized {
    /// Reads a layer from a file: the `config.toml` of a run, or a recipe, divided by `scale_down`.
    fn from_file(path: &Path, scale_down: u64) -> Result<Self>;
    /// This layer where it says something, `below` where it does not.
    fn over(self, below: Self) -> Result<Self>;
    /// Refuses flags that do nothing with the settings that they became part of.
    fn check_used(&self, settings: &Settings) -> Result<()>;
    /// Fills what no layer said with defaults and checks the numbers.
    fn resolve(self) -> Result<Settings>;
    /// The run folder that it names.
    fn out(&mut self) -> &mut Option<PathBuf>;
}

named! {
    /// Which checkpoint a run goes on from.
    pub enum Resume {
        /// The latest; a damaged one is refused
        Latest = "latest",
        /// The newest that is whole; damaged ones are set aside
        Auto = "auto",
    }
}

/// Sets damaged checkpoints of the run in `out` aside, and says so.
fn set_damaged_aside(out: &Path) -> Result<()> {
    for problem in checkpoints::set_damaged_aside(out)? {
        tell(format_args!(
            "note: {problem}. It is set aside, with .damaged behind its name, and the run goes on from the one before"
        ));
    }
    Ok(())
}

/// The flags that say where settings come from and where output goes.
#[derive(Args, Clone)]
pub struct LayerArgs {
    /// Settings from a file: the flags' names as keys, e.g. `batch = 32`; flags on the command line win
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Divide the sizes in --config by N, to try a recipe on a smaller machine: layers, width, batch and steps by N,
    /// the resolution by √N. Flags are not divided
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true)]
    scale_down: u64,
    /// Go on with the run in --out (or start it, if it has not been started): from its latest checkpoint, which is refused if it is
    /// damaged, or with `auto` from its newest whole one
    #[arg(long, num_args = 0..=1, default_missing_value = "latest", value_parser = named::<Resume>(), value_name = "FROM")]
    pub resume: Option<Resume>,
    /// Choose --batch, --accumulate and --recompute for the memory of this device: the fastest that fits, by the model of `plan --gpus`. A
    /// step keeps its images, --global-batch or --batch × --accumulate. The run's config.toml keeps what was chosen; with --resume
    /// --batch stays, and --recompute alone is chosen anew
    #[arg(long, conflicts_with = "recompute")]
    fit: bool,
    /// Print JSON lines, one per step, and nothing else on standard output
    #[arg(long)]
    pub json: bool,
}

impl LayerArgs {
    /// Merges flags, file and, when resuming, the run's own settings; those are returned too, to compare with.
    pub fn settings<L: Layer>(&self, flags: &L) -> Result<(Settings, Option<Settings>)> {
        if self.scale_down != 1 && self.config.is_none() {
            bail!("--scale-down divides what --config says; give a recipe, or smaller numbers");
        }

        // The file below the flags.
        let mut layer = flags.clone();
        if let Some(file) = &self.config {
            layer = layer.over(L::from_file(file, self.scale_down)?)?;
        }
        if self.resume.is_none() {
            let settings = Settings { fit: self.fit, ..layer.resolve()? };
            flags.check_used(&settings)?;
            return Ok((settings, None));
        }

        // The resumed run's own settings below both.
        let Some(out) = layer.out().clone() else {
            bail!("--resume needs --out DIR, the run to go on with");
        };
        let leads = Launch::from_environment().is_ok_and(|launch| launch.rank == 0);
        if leads && self.resume == Some(Resume::Auto) {
            set_damaged_aside(&out)?;
        }
        match earlier::<L>(out)? {
            None => {
                let settings = Settings { fit: self.fit, ..layer.resolve()? };
                if leads {
                    tell(format_args!(
                        "note: there is no run in {} to go on with; starting a new one",
                        settings.out.display()
                    ));
                }
                Ok((settings, None))
            }
            Some(earlier) => {
                let settings = layer.over(earlier.clone())?.resolve()?;
                Ok((Settings { fit: self.fit, ..settings }, Some(earlier.resolve()?)))
            }
        }
    }
}

/// The settings of the run in the folder `out`, if there is one. The folder may have been moved since.
pub fn earlier<L: Layer>(out: PathBuf) -> Result<Option<L>> {
    let config = out.join(RunFolder::CONFIG);
    if !config.exists() {
        return Ok(None);
    }
    let mut earlier = L::from_file(&config, 1)?;
    *earlier.out() = Some(out);
    Ok(Some(earlier))
}

/// The device that a run asks for. A run that is resumed keeps its precision where the device has it, so only another
/// one counts as asked for.
pub fn device_request(settings: &Settings, earlier: Option<&Settings>, launch: &Launch) -> Request {
    let kept = earlier.and_then(|earlier| earlier.precision);
    let precision = settings.precision.filter(|precision| Some(*precision) != kept);
    let local_rank = (launch.size > 1).then_some(launch.local_rank);
    Request { kind: settings.device, precision, kept, threads: settings.threads, draws: false, local_rank }
}
