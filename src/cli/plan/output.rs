//! What `plan` prints.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::common::output::say;
use crate::device::Precision;
use crate::plan::machine::HostMemory;
use crate::plan::{Cost, Memory, OnDevice, USABLE, duration, gib as bytes};
use crate::recipe::{Command, Paper};
use crate::report::html::grouped;

/// The plan for people: model, run, memory, devices, and what the paper says.
pub fn say_plan(cost: &Cost, utilisation: f64, runs: &[OnDevice], here: &HostMemory) -> Result<()> {
    let row = cost.paper.as_ref().map_or(String::new(), |paper| format!(": {}", paper.row));
    say(format_args!("{}{row}", cost.recipe))?;
    say(format_args!(""))?;
    say_run(cost)?;
    say(format_args!(""))?;
    say_memory(cost)?;
    say(format_args!(""))?;
    say_devices(cost, utilisation, runs)?;
    say_here(cost, here)?;
    match &cost.paper {
        Some(paper) => say_paper(paper),
        None => Ok(()),
    }
}

/// The model, how long it runs, and how many FLOPs that takes.
fn say_run(cost: &Cost) -> Result<()> {
    let [layers, width, heads] = cost.shape;
    say(format_args!(
        "  model        {} parameters ({layers} layers × {width}, {heads} heads), {} tokens per image, {}",
        grouped(cost.parameters as u64),
        cost.tokens_per_image,
        if cost.causal { "causal" } else { "every token sees all others" }
    ))?;

    // Fine-tuning stops early.
    let at_most = if cost.command == Command::Finetune { "at most " } else { "" };
    match cost.features {
        Some(features) => say(format_args!(
            "  run          features of {} images, {} numbers each ({} on disk); the solver's time is not counted",
            grouped(features.images),
            features.width,
            bytes(features.bytes)
        ))?,
        None => say(format_args!(
            "  run          {at_most}{} steps of {} images ({} per micro-batch), {:.3e} tokens",
            grouped(cost.steps),
            cost.images_per_step,
            cost.micro_batch,
            cost.tokens
        ))?,
    }
    say(format_args!(
        "  FLOPs        {:.3e} per token, {:.3e} per step, {at_most}{:.3e} in all",
        cost.flops_per_token, cost.flops_per_step, cost.flops
    ))
}

/// Bytes by class in both precisions.
fn say_memory(cost: &Cost) -> Result<()> {
    say(format_args!("  memory       {:>10} {:>10} {:>10}", "GPU f32", "GPU bf16", "CPU"))?;
    let (f32, bf16, cpu) = (&cost.memory_f32, &cost.memory_bf16, &cost.memory_cpu);
    let class = |name: &str, of: fn(&Memory) -> f64| {
        say(format_args!("  {name:12} {:>10} {:>10} {:>10}", bytes(of(f32)), bytes(of(bf16)), bytes(of(cpu))))
    };
    class("weights", |memory| memory.weights)?;
    class("gradients", |memory| memory.gradients)?;
    class("moments", |memory| memory.moments)?;
    if cost.ema {
        class("average", |memory| memory.average)?;
    }
    class("activations", |memory| memory.activations)?;
    class("workspace", |memory| memory.workspace)?;
    class("evaluation", |memory| memory.evaluation)?;
    class("in all", Memory::total)?;
    if cost.offload {
        class("on the host", |memory| memory.host)?;
    }
    match cost.snapshot {
        0.0 => Ok(()),
        copy => say(format_args!(
            "  a checkpoint is copied to {} of host memory while it is written (not with --sync-checkpoints)",
            bytes(copy)
        )),
    }
}

/// Time, energy and whether it fits, a line per device.
fn say_devices(cost: &Cost, utilisation: f64, runs: &[OnDevice]) -> Result<()> {
    let (peak, usable) = (100.0 * utilisation, 100.0 * USABLE);
    say(format_args!("  at {peak:.0} % of the published peak, in {usable:.0} % of the memory:"))?;
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
    if cost.offload {
        say_bus(cost, runs)?;
    }
    Ok(())
}

/// What the optimiser on the host adds to each step, by the bus.
fn say_bus(cost: &Cost, runs: &[OnDevice]) -> Result<()> {
    say(format_args!("  of these times, what updates take longer because the optimiser is on the host:"))?;
    for run in runs {
        say(format_args!(
            "  {:18} {:>8} per step at {:.1} GB/s, {:.1} % of the time",
            run.device.name,
            duration(run.bus_seconds / cost.steps as f64),
            run.device.to_host(1) / 1e9,
            100.0 * run.bus_seconds / run.seconds
        ))?;
    }
    Ok(())
}

/// Whether the run fits into the memory that there is here, on the CPU, and who limits it.
fn say_here(cost: &Cost, here: &HostMemory) -> Result<()> {
    let (needed, reachable) = (cost.memory_cpu.total(), here.reachable());
    let fits = if needed <= reachable { "yes" } else { "no" };
    let has = if reachable.is_finite() { bytes(reachable) } else { "an unknown amount".to_owned() };
    let owner = here.owner();
    say(format_args!("  here, on the CPU: {fits} ({} are needed in f32, and {owner} has {has})", bytes(needed)))
}

/// The same for scripts.
pub fn here_json(cost: &Cost, here: &HostMemory) -> Value {
    let reachable = Some(here.reachable()).filter(|bytes| bytes.is_finite());
    json!({
        "memory": reachable,
        "limit": here.limit,
        "fits": reachable.is_none_or(|bytes| cost.memory_cpu.total() <= bytes),
    })
}

/// The published figure, where it comes from, and what is open about it.
fn say_paper(paper: &Paper) -> Result<()> {
    say(format_args!(""))?;
    let deviation = paper.deviation.map_or(String::new(), |deviation| format!(" ± {deviation}"));
    match paper.expected {
        Some(value) => say(format_args!("  published    {value}{deviation} {}", paper.table.unit()))?,
        None => say(format_args!("  published    no figure"))?,
    }
    say(format_args!("  source       {}", paper.source))?;
    match &paper.open {
        Some(open) => say(format_args!("  open         {open}")),
        None => Ok(()),
    }
}

/// Whether a run fits, and if not, which micro-batch would.
fn fit(run: &OnDevice, cost: &Cost) -> String {
    let needed = bytes(run.bytes);
    match (run.fits, run.largest_micro_batch) {
        (true, Some(largest)) => format!("yes ({needed} of it used, --batch up to {largest})"),
        (true, None) => "yes".to_owned(),
        (false, None) => format!("no: {needed} are needed, and one image takes more than there is"),
        (false, Some(largest)) if cost.command == Command::Probe => {
            format!("no: {needed} are needed; --batch {largest} fits")
        }
        (false, Some(largest)) => {
            // The largest micro-batch that fits and divides the step's images.
            let images = cost.images_per_step;
            let batch = (1..=largest.min(images)).rev().find(|batch| images.is_multiple_of(*batch)).unwrap_or(1);
            format!("no: {needed} are needed; --batch {batch} --accumulate {} fits", images / batch)
        }
    }
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
