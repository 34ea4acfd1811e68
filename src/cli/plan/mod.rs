//! `igpt-engine plan`: what a recipe costs before it is run.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;

use super::common::output::{print_json, say};
use crate::device::Precision;
use crate::plan::{Cost, DEVICES, DeviceModel, Memory, OnDevice, USABLE, device_model};
use crate::recipe::{Command, Recipe};
use crate::report::training::grouped;

/// Say what a run would cost: parameters, FLOPs, memory, time and energy, and whether it fits
///
/// Nothing is trained. FLOPs are the useful ones: 6 a weight and token, and for causal attention only the half that is needed.
/// Memory is given by class, in float32 and in bfloat16 beside float32 master weights. Time is FLOPs over the device's
/// published peak times --utilisation, which is an assumption: `igpt-engine doctor` and the benchmarks measure. Energy is that
/// time at the card's TDP, without host and cooling.
#[derive(Args)]
#[command(after_help = "Examples:\n  igpt-engine plan --config recipes/pretrain-s-ar-32.toml\n  \
                  igpt-engine plan --config recipes/pretrain-l-ar-32.toml --device-model h100 --batch 16 --accumulate 8")]
pub struct PlanCommand {
    /// A recipe, or the config.toml of a run
    #[arg(long, value_name = "FILE.toml")]
    config: PathBuf,
    /// Devices: all, or some of v100, rtx3090, rtx4090, l40s, a100-40, a100, h100-pcie, h100, h200
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "all")]
    device_model: Vec<String>,
    /// What is computed in; a device without bfloat16 takes float32
    #[arg(long, value_enum, default_value_t)]
    precision: Precision,
    /// Share of the peak that is reached, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.4)]
    utilisation: f64,
    /// Images a micro-batch, in place of the recipe's
    #[arg(long, value_name = "N")]
    batch: Option<u32>,
    /// Micro-batches a step, in place of the recipe's
    #[arg(long, value_name = "N")]
    accumulate: Option<u32>,
    /// Divide the recipe's sizes by N, as `train --scale-down N` does
    #[arg(long, value_name = "N", default_value_t = 1)]
    scale_down: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl PlanCommand {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        if !(self.utilisation > 0.0 && self.utilisation <= 1.0) {
            bail!("--utilisation {} must be above 0 and at most 1; 0.3 to 0.5 is usual", self.utilisation);
        }
        let mut recipe = Recipe::read(&self.config)?.scaled_down(self.scale_down)?;
        for (key, value) in [("batch", self.batch), ("accumulate", self.accumulate)] {
            if let Some(value) = value {
                recipe.settings.insert(key.to_owned(), i64::from(value.max(1)).into());
            }
        }
        let cost = Cost::of(&recipe)?;
        let devices = devices(&self.device_model)?;
        let runs: Vec<OnDevice> =
            devices.into_iter().map(|device| cost.on(device, self.precision, self.utilisation)).collect();
        if self.json {
            return print_json(&json!({"cost": cost, "utilisation": self.utilisation, "devices": runs}));
        }
        self.print(&cost, &runs)
    }

    fn print(&self, cost: &Cost, runs: &[OnDevice]) -> Result<()> {
        let [layers, width, heads] = cost.shape;
        let row = cost.paper.as_ref().map_or(String::new(), |paper| format!(": {}", paper.row));
        say(format_args!("{}{row}", cost.recipe))?;
        say(format_args!(""))?;
        say(format_args!(
            "  model        {} parameters ({layers} layers × {width}, {heads} heads), {} tokens an image, {}",
            grouped(cost.parameters as u64),
            cost.tokens_per_image,
            if cost.causal { "causal" } else { "every token sees all others" }
        ))?;
        let most = if cost.command == Command::Finetune { "at most " } else { "" };
        match cost.features {
            Some(features) => say(format_args!(
                "  run          features of {} images, {} numbers each ({} on disk); the solver's time is not counted",
                grouped(features.images),
                features.width,
                bytes(features.bytes)
            ))?,
            None => say(format_args!(
                "  run          {most}{} steps of {} images ({} a micro-batch), {:.3e} tokens",
                grouped(cost.steps),
                cost.images_per_step,
                cost.micro_batch,
                cost.tokens
            ))?,
        }
        say(format_args!(
            "  FLOPs        {:.3e} a token, {:.3e} a step, {most}{:.3e} in all",
            cost.flops_per_token, cost.flops_per_step, cost.flops
        ))?;
        say(format_args!(""))?;
        say(format_args!("  memory       {:>10} {:>10}", "f32", "bf16"))?;
        let (f32, bf16) = (&cost.memory_f32, &cost.memory_bf16);
        let class = |name: &str, of: fn(&Memory) -> f64| {
            say(format_args!("  {name:12} {:>10} {:>10}", bytes(of(f32)), bytes(of(bf16))))
        };
        class("weights", |memory| memory.weights)?;
        class("gradients", |memory| memory.gradients)?;
        class("moments", |memory| memory.moments)?;
        class("activations", |memory| memory.activations)?;
        class("workspace", |memory| memory.workspace)?;
        class("in all", Memory::total)?;
        say(format_args!(""))?;
        say(format_args!(
            "  at {:.0} % of the published peak, in {:.0} % of the memory:",
            100.0 * self.utilisation,
            100.0 * USABLE
        ))?;
        say(format_args!("  {:18} {:>5} {:>9} {:>11} {:>10}  fits", "device", "", "TFLOP/s", "time", "energy"))?;
        for run in runs {
            say(format_args!(
                "  {:18} {:>5} {:>9.1} {:>11} {:>10}  {}",
                run.device.name,
                if run.precision == Precision::F32 { "f32" } else { "bf16" },
                run.peak / 1e12,
                time(run.seconds),
                energy(run.kilowatt_hours),
                fit(run, cost)
            ))?;
        }
        if let Some(paper) = &cost.paper {
            say(format_args!(""))?;
            let deviation = paper.deviation.map_or(String::new(), |deviation| format!(" ± {deviation}"));
            match paper.expected {
                Some(value) => say(format_args!("  published    {value}{deviation} {}", paper.table.unit()))?,
                None => say(format_args!("  published    no figure"))?,
            }
            say(format_args!("  source       {}", paper.source))?;
            if let Some(open) = &paper.open {
                say(format_args!("  open         {open}"))?;
            }
        }
        Ok(())
    }
}

/// What `--device-model` names.
fn devices(names: &[String]) -> Result<Vec<&'static DeviceModel>> {
    if names.iter().any(|name| name == "all") {
        return Ok(DEVICES.iter().collect());
    }
    let find = |name: &String| {
        let known: Vec<&str> = DEVICES.iter().map(|device| device.key).collect();
        device_model(name)
            .ok_or_else(|| anyhow::anyhow!("--device-model {name} is not known; choose all or of {}", known.join(", ")))
    };
    names.iter().map(find).collect()
}

/// Whether a run fits, and if not what would.
fn fit(run: &OnDevice, cost: &Cost) -> String {
    match (run.fits, run.largest_micro_batch) {
        (true, Some(largest)) => format!("yes ({} of it used, --batch up to {largest})", bytes(run.bytes)),
        (true, None) => "yes".to_owned(),
        (false, None) => format!("no: {} are needed, and one image takes more than there is", bytes(run.bytes)),
        (false, Some(largest)) => {
            // The largest share of the step's images that fits.
            let share =
                (1..=largest.min(cost.images_per_step)).rev().find(|batch| cost.images_per_step.is_multiple_of(*batch));
            let (batch, images) = (share.unwrap_or(1), cost.images_per_step);
            match cost.command {
                Command::Probe => format!("no: {} are needed; --batch {largest} fits", bytes(run.bytes)),
                _ => {
                    format!("no: {} are needed; --batch {batch} --accumulate {} fits", bytes(run.bytes), images / batch)
                }
            }
        }
    }
}

fn bytes(count: f64) -> String {
    let gib = count / (1_u64 << 30) as f64;
    if gib >= 0.1 { format!("{gib:.1} GiB") } else { format!("{:.1} MiB", gib * 1024.0) }
}

fn time(seconds: f64) -> String {
    match seconds {
        ..600.0 => format!("{seconds:.0} s"),
        ..36_000.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.1} days", seconds / 86_400.0),
    }
}

fn energy(kilowatt_hours: f64) -> String {
    match kilowatt_hours {
        ..0.1 => format!("{:.1} Wh", 1000.0 * kilowatt_hours),
        ..10_000.0 => format!("{kilowatt_hours:.1} kWh"),
        _ => format!("{:.1} MWh", kilowatt_hours / 1000.0),
    }
}
