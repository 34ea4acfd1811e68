//! `doctor --ranks`: what several ranks exchange gradients by, tried before a run has to.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::DoctorCommand;
use crate::cli::common::device::on_device;
use crate::cli::common::output::{print_json, say};
use crate::cli::common::ranks::Ranks;
use crate::comm::Reduction;
use crate::comm::fabric::{Trial, try_all};
use crate::device::Device;
use crate::device::select::{Chosen, DeviceJob, Request};
use crate::model::{ModelConfig, Preset};
use crate::train::Together;

/// Runs it as one of the ranks.
pub fn run(command: &DoctorCommand) -> Result<()> {
    let ranks = command.limits.launch("")?;
    if !ranks.are_several() {
        bail!(
            "--ranks tries several ranks, and this is one process; start it as a run would be: torchrun --no-python \
             --nproc-per-node 8 igpt-engine doctor --ranks, or by srun or mpirun"
        );
    }
    let kind = command.device.unwrap_or_default();
    let local_rank = Some(ranks.launch.local_rank);
    let request = Request { kind, precision: None, kept: None, threads: None, draws: false, local_rank };
    on_device(request, RanksJob { ranks, largest: command.largest as usize, json: command.json })
}

struct RanksJob {
    ranks: Ranks,
    /// MiB of the largest tensor.
    largest: usize,
    json: bool,
}

impl DeviceJob for RanksJob {
    type Output = Result<()>;

    fn run<D: Device>(self, device: D, _chosen: &Chosen) -> Result<()> {
        // As `fast` sums are made: by whatever way NCCL takes.
        let together = self.ranks.meet(&device, Reduction::Fast)?;
        let others = together.clone();
        let outcome = self.tried(&device, &together);
        if let Err(error) = &outcome {
            others.give_up(&error.to_string());
        }
        outcome
    }
}

impl RanksJob {
    fn tried<D: Device>(&self, device: &D, together: &Together<D>) -> Result<()> {
        let (leads, comm) = (together.leads(), together.comm());
        let (carrier, launcher) = (comm.describe(), self.ranks.launch.launcher);
        if leads && !self.json {
            say(format_args!("{} ranks by {carrier} ({launcher}); rank 0 is {}", comm.size(), device.describe()))?;
            say(format_args!("\n  {:<16} {:>10} {:>12} {:>12}", "collective", "tensor", "time", "link"))?;
        }

        // A step's sums travel by the bucket, others by the number: from kilobytes to the largest.
        let most = self.largest << 20;
        let bytes = [most >> 12, most >> 6, most];
        let mut trials: Vec<Trial> = Vec::new();
        let watched = together.waits("the trial of all collectives", true);
        let begin = |what: &str, bytes: usize| together.note(&format!("the {what} of {bytes} bytes"));
        try_all(device, comm, &bytes, begin, |trial| {
            if leads && !self.json {
                say(format_args!("{}", line(trial))).map_err(|error| crate::device::Error::Peer(error.to_string()))?;
            }
            trials.push(trial.clone());
            Ok(())
        })?;
        drop(watched);

        if !leads {
            return Ok(());
        }
        let exchange = exchanges(&trials, comm.size());
        if self.json {
            return print_json(&json!({
                "ranks": comm.size(), "by": carrier, "launcher": launcher.to_string(), "device": device.describe(),
                "collectives": trials, "gradients": exchange.iter().map(json_of).collect::<Vec<_>>(),
            }));
        }
        say(format_args!("\nall numbers are right on all ranks"))?;
        for (model, bytes, seconds) in exchange {
            let (gigabytes, milliseconds) = (bytes / 1e9, seconds * 1e3);
            say(format_args!(
                "  a step of iGPT-{model} adds up {gigabytes:.1} GB of gradients: {milliseconds:.0} ms at the largest tensor's rate"
            ))?;
        }
        Ok(())
    }
}

/// A row of the table: decimal units, as links have them.
fn line(Trial { collective, bytes, seconds, bus_bytes_per_second }: &Trial) -> String {
    let size = match bytes {
        0..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    };
    let (time, rate) = (seconds * 1e3, bus_bytes_per_second / 1e9);
    format!("  {collective:<16} {size:>10} {time:>9.3} ms {rate:>7.2} GB/s")
}

/// What the gradients of the paper's models would take, as one all-reduce of f32 after the other: model, bytes, seconds.
fn exchanges(trials: &[Trial], ranks: usize) -> Vec<(&'static str, f64, f64)> {
    let sums = trials.iter().filter(|trial| trial.collective == "all-reduce");
    let Some(largest) = sums.max_by_key(|trial| trial.bytes) else { return Vec::new() };
    let share = 2.0 * (ranks - 1) as f64 / ranks as f64;
    [("S", Preset::S), ("M", Preset::M), ("L", Preset::L)]
        .map(|(name, preset)| {
            let bytes = 4.0 * ModelConfig::preset(preset, 32).parameter_count() as f64;
            (name, bytes, share * bytes / largest.bus_bytes_per_second)
        })
        .to_vec()
}

fn json_of((model, bytes, seconds): &(&'static str, f64, f64)) -> Value {
    json!({"model": model, "bytes": bytes, "seconds": seconds})
}
