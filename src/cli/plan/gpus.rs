//! `plan --gpus`: how a step is divided over several cards.

use anyhow::{Result, bail};
use serde_json::json;

use super::args::PlanCommand;
use crate::cli::common::output::{print_json, say};
use crate::named::Named;
use crate::plan::limits::model_name;
use crate::plan::{
    DeviceModel, GAP, Load, PER_MACHINE, Question, Reason, Shares, Speed, Split, Splits, USABLE, device_model,
    duration as time, gib as bytes,
};
use crate::recipe::{Command, Recipe};
use crate::report::html::grouped;
use crate::tape::Recompute;

/// Bus bandwidth where nobody says otherwise, GB/s: within a machine, and between machines.
const BANDWIDTH: [f64; 2] = [350.0, 45.0];

/// A question and its answer.
struct Answer<'a> {
    question: Question<'a>,
    /// GB/s.
    bandwidth: f64,
    splits: Splits,
}

impl PlanCommand {
    /// Runs the command with `--gpus`.
    pub(super) fn over_gpus(&self, recipe: &Recipe) -> Result<()> {
        if recipe.command == Command::Probe {
            bail!("{} is a probe, which is not divided over several cards; leave --gpus out", recipe.path);
        }
        let Some(device) = device_model(&self.card) else {
            bail!("unknown --card '{}'; choose one of the names that --device-model lists", self.card);
        };
        if let Some(wrong) = self.bandwidth.iter().find(|rate| !(**rate > 0.0 && rate.is_finite())) {
            bail!("--bandwidth {wrong} must be above 0, in GB/s");
        }

        // Every number of cards with every bandwidth.
        let config = recipe.model()?;
        let number = |key, default| Ok::<_, anyhow::Error>(recipe.number(key)?.unwrap_or(default).max(1) as usize);
        let in_recipe = number("batch", 16)?.saturating_mul(number("accumulate", 1)?);
        let (global_batch, micro_batch) =
            (self.global_batch.unwrap_or(in_recipe), self.batch.map(|images| images.max(1) as usize));
        if let Some(images) = micro_batch.filter(|images| !global_batch.is_multiple_of(*images)) {
            bail!(
                "--batch {images} does not divide the {global_batch} images of a step; change --global-batch or --batch"
            );
        }
        let eval_images = recipe.number("eval-batch")?.map(|images| images as usize);
        let (precision, peak) = device.peak(self.precision);
        let mut answers = Vec::new();
        for gpus in &self.gpus {
            let usual = [BANDWIDTH[usize::from(*gpus > PER_MACHINE)]];
            let rates = if self.bandwidth.is_empty() { &usual[..] } else { &self.bandwidth };
            for bandwidth in rates {
                let wire = bandwidth * 1e9;
                let (flops, bus) = (peak * self.utilisation, device.to_host((*gpus).min(PER_MACHINE)));
                let question = Question {
                    config: &config,
                    global_batch,
                    micro_batch,
                    gpus: *gpus,
                    zero: if *gpus > 1 { &[0, 1, 2] } else { &[0] },
                    precision,
                    reduction: self.reduction,
                    ema: recipe.settings.contains_key("ema"),
                    offload: self.offload_optimizer.then_some(true),
                    eval_images,
                    speed: Speed { flops, memory: device.bandwidth, gap: GAP, wire, bus },
                    room: USABLE * device.memory,
                    host_room: f64::INFINITY,
                };
                let memory = |load: Load<'_>| load.on_gpu().unwrap_or_else(|_| load.by_formula());
                answers.push(Answer { splits: question.splits(&memory), bandwidth: *bandwidth, question });
            }
        }

        if self.json {
            return print_json(&json!({
                "recipe": recipe.path, "card": device, "precision": precision, "utilisation": self.utilisation,
                "global_batch": global_batch, "prediction": true,
                "answers": answers.iter().map(Answer::json).collect::<Vec<_>>(),
            }));
        }
        self.say(&answers, device)
    }

    fn say(&self, answers: &[Answer<'_>], device: &DeviceModel) -> Result<()> {
        let Some(first) = answers.first() else { return Ok(()) };
        let Question { config, global_batch, precision, .. } = first.question;
        say(format_args!(
            "{}, {} parameters, {} tokens per image, {global_batch} images per step, in {precision}, on {}",
            model_name(config),
            grouped(config.parameter_count() as u64),
            config.positions,
            device.name,
        ))?;
        say(format_args!(
            "All times are predictions: FLOPs at {:.0} % of the published peak, gradients on their way while the backward pass runs.",
            100.0 * self.utilisation
        ))?;
        say(format_args!(""))?;
        match answers {
            [only] => say_one(only),
            several => say_several(several),
        }
    }
}

impl Answer<'_> {
    fn json(&self) -> serde_json::Value {
        let why: Vec<String> = self.splits.reasons(&self.question).iter().map(Reason::to_string).collect();
        json!({"gpus": self.question.gpus, "bandwidth": self.bandwidth, "splits": self.splits, "why": why})
    }

    /// The flags of `train` for a split.
    fn flags(&self, split: &Split) -> String {
        let Split { zero, micro_batch, recompute, .. } = split;
        let mut flags = format!("--batch {micro_batch} --global-batch {}", self.question.global_batch);
        if *zero > 0 {
            flags.push_str(&format!(" --zero {zero}"));
        }
        if *recompute != Recompute::None {
            flags.push_str(&format!(" --recompute {}", recompute.name()));
        }
        if split.offloads() {
            flags.push_str(" --offload-optimizer");
        }
        flags
    }
}

/// One number of cards: the choice, why, and what else there is.
fn say_one(answer: &Answer<'_>) -> Result<()> {
    let Answer { question, bandwidth, splits } = answer;
    match &splits.choice {
        Some(choice) => {
            let cards = if choice.gpus == 1 { "card".to_owned() } else { format!("cards at {bandwidth} GB/s") };
            say(format_args!("  {} {cards}: {}", choice.gpus, answer.flags(choice)))?;
            say(format_args!(
                "    {} of {} per card; {} per step, {} of it exposed communication; {:.1} images/s",
                bytes(choice.bytes()),
                bytes(question.room),
                time(choice.times.step),
                time(choice.times.exposed),
                choice.images_per_second()
            ))?;
            let Split { gpus: ranks, zero, .. } = *choice;
            let shares = Shares { ranks, zero, reduction: question.reduction, offload: choice.offloads() };
            say(format_args!(
                "    for each card a checkpoint is copied to {} of host memory while it is written",
                bytes(shares.snapshot(question.config, question.ema))
            ))?;
        }
        None => say(format_args!("  no way to divide the step fits"))?,
    }
    for reason in splits.reasons(question) {
        say(format_args!("    {reason}"))?;
    }

    say(format_args!(""))?;
    say(format_args!(
        "  {:4} {:10} {:>5} {:>3}  {:>9} {:>9} {:>9} {:>9}  {:>9} {:>9} {:>9} {:>9}",
        "zero",
        "recompute",
        "batch",
        "×",
        "stays",
        "works",
        "sums",
        "in all",
        "computing",
        "sending",
        "exposed",
        "step"
    ))?;
    for split in &splits.alternatives {
        let Split { zero, recompute, micro_batch, persistent, working, reduction, times, fits, .. } = split;
        say(format_args!(
            "  {zero:4} {:10} {micro_batch:>5} {:>3}  {:>9} {:>9} {:>9} {:>9}  {:>9} {:>9} {:>9} {:>9}{}",
            recompute.name(),
            split.micro_batches(),
            bytes(*persistent),
            bytes(*working),
            bytes(*reduction),
            bytes(split.bytes()),
            time(times.compute),
            time(times.communication),
            time(times.exposed),
            time(times.step),
            match (*fits, split.offloads()) {
                (false, _) => "  does not fit".to_owned(),
                (true, true) => format!("  and {} on the host", bytes(split.host)),
                (true, false) => String::new(),
            }
        ))?;
    }
    Ok(())
}

/// Several: the choice for each.
fn say_several(answers: &[Answer<'_>]) -> Result<()> {
    // The heading.
    say(format_args!(
        "{:>5} {:>5} {:>6}  {:4} {:10} {:>5} {:>3} {:>9}  {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}",
        "cards",
        "work",
        "GB/s",
        "zero",
        "recompute",
        "batch",
        "×",
        "memory",
        "computing",
        "sending",
        "exposed",
        "step",
        "images/s",
        "efficiency"
    ))?;

    // A line for each number of cards and bandwidth.
    for Answer { question, bandwidth, splits } in answers {
        let (gpus, working) = (question.gpus, question.gpus - splits.idle);
        let Some(split) = &splits.choice else {
            say(format_args!("{gpus:>5} {working:>5} {bandwidth:>6}  nothing fits"))?;
            continue;
        };

        let Split { zero, recompute, micro_batch, times, .. } = split;
        say(format_args!(
            "{gpus:>5} {working:>5} {bandwidth:>6}  {zero:4} {:10} {micro_batch:>5} {:>3} {:>9}  {:>9} {:>9} {:>9} {:>9} {:>9.1} {:>8.0} %{}",
            recompute.name(),
            split.micro_batches(),
            bytes(split.bytes()),
            time(times.compute),
            time(times.communication),
            time(times.exposed),
            time(times.step),
            split.images_per_second(),
            100.0 * times.useful / times.step * working as f64 / gpus as f64,
            if split.offloads() { format!("  and {} on the host", bytes(split.host)) } else { String::new() },
        ))?;
    }
    Ok(())
}
