//! `igpt-engine train`: flags and files into settings, a session, and a line on what it left.

pub mod args;
pub mod layers;
pub mod output;

use anyhow::Result;
use clap::Args;

use self::args::TrainArgs;
use self::layers::{LayerArgs, device_request};
use super::common::device::on_device;
use super::common::interrupt::{stop_flag, stop_flag_saying};
use super::common::output::note_all;
use super::common::progress::watcher;
use super::common::ranks::{RankArgs, Ranks, STEPS_ARE_LOST};
use crate::device::Device;
use crate::device::select::{Chosen, DeviceJob};
use crate::train::{Outcome, Session, Settings, Together};

/// Train a model; without arguments, a tiny one on the built-in sample in a few minutes
///
/// Everything a run leaves is in its folder: config.toml, metrics.jsonl and the same for
/// TensorBoard, checkpoints/, samples/ and report.html. Ctrl-C, SIGTERM and SIGHUP save and end; the same command with --resume goes on, bit
/// for bit as if it had never stopped.
///
///   igpt-engine train
///   igpt-engine data fetch cifar10 --out data && igpt-engine train --data cifar10:data --steps 5000
///   igpt-engine train --data images:photos --model s --resolution 32 --batch 8 --accumulate 16
///   igpt-engine train --data images:photos --model s --global-batch 128 --fit      as many at a time as the memory holds
///   igpt-engine train --out runs/tiny-001 --resume
///
/// Several GPUs, one process each: torchrun --no-python --nproc-per-node 8 igpt-engine train ..., or srun, or mpirun.
/// Exit code 3: another rank failed or never came.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct TrainCommand {
    #[command(flatten)]
    args: TrainArgs,
    #[command(flatten)]
    layers: LayerArgs,
    #[command(flatten)]
    ranks: RankArgs,
}

impl TrainCommand {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let (settings, earlier) = self.layers.settings(&self.args)?;
        let ranks = self.ranks.launch(STEPS_ARE_LOST)?;
        let request = device_request(&settings, earlier.as_ref(), &ranks.launch);
        on_device(request, TrainJob { settings, earlier, ranks, json: self.layers.json })
    }
}

struct TrainJob {
    settings: Settings,
    /// Settings of the run that is resumed.
    earlier: Option<Settings>,
    ranks: Ranks,
    json: bool,
}

impl DeviceJob for TrainJob {
    type Output = Result<()>;

    fn run<D: Device>(self, device: D, chosen: &Chosen) -> Result<()> {
        train(&device, chosen, self.settings, self.earlier.as_ref(), &self.ranks, self.json).map(drop)
    }
}

/// Starts the run or goes on with it, to its end or a stop, and says how it ended; nothing of ranks other than 0.
pub fn train<D: Device>(
    device: &D,
    chosen: &Chosen,
    settings: Settings,
    earlier: Option<&Settings>,
    ranks: &Ranks,
    json: bool,
) -> Result<Option<Outcome>> {
    let settings = Settings { precision: Some(chosen.precision), ..settings };
    let together = ranks.meet(device, settings.reduction)?;
    let others = together.clone();
    let outcome = train_with(device, chosen, settings, earlier, together, ranks, json);
    if let Err(error) = &outcome {
        others.give_up(&error.to_string());
    }
    outcome
}

/// The same with the ranks that were met.
fn train_with<D: Device>(
    device: &D,
    chosen: &Chosen,
    settings: Settings,
    earlier: Option<&Settings>,
    together: Together<D>,
    ranks: &Ranks,
    json: bool,
) -> Result<Option<Outcome>> {
    if !together.leads() {
        let session = Session::open_with(device, together, settings, earlier, false)?;
        session.follow(stop_flag_saying(""))?;
        return Ok(None);
    }

    let mut events = watcher(json);
    let (size, by) = (together.size(), together.comm().describe());
    let session = Session::open_with(device, together, settings, earlier, !json)?;
    let shared = match size {
        1 => String::new(),
        _ => format!(", one of {size} ranks by {by} ({}); {}", ranks.launch.launcher, session.describe_sharing()),
    };
    events.note(&format!("{}{}{shared}", session.describe(), chosen.why));
    note_all(&session.notes());
    let outcome = session.run(events.as_mut(), stop_flag())?;
    drop(events);
    output::announce(&outcome, json)?;
    Ok(Some(outcome))
}
