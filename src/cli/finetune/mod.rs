//! `igpt-engine finetune`: a class head, and the whole model with it, on images with labels.

pub mod args;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

use self::args::{DECIDED, FinetuneArgs, FinetuneSettings};
use super::common::device::on_device;
use super::common::output::say;
use super::train::{Outcome, TrainJob, request};
use crate::device::Device;
use crate::device::select::{Chosen, DeviceJob};
use crate::train::Ending;

/// Teach a pre-trained model to tell classes apart: all its weights, and a class head that starts at zero
///
/// The head reads the mean over all positions of the final features. What is made smaller is the
/// generative loss plus the head's cross-entropy, at a constant learning rate, until the accuracy on
/// held-out images stops rising (the paper, sections 2.3 and 3.4). Autoregressive and BERT models alike.
///
///   igpt-engine finetune --checkpoint runs/tiny-001 --data cifar10:data
///   igpt-engine finetune --checkpoint runs/tiny-001 --data cifar10:data --fold-validation
///   igpt-engine finetune --out runs/finetune-001 --resume
///   igpt-engine eval --checkpoint runs/finetune-001 --data cifar10:data
///
/// The run folder is that of `train`; best/ holds the weights that were best on the held-out images,
/// and is what --checkpoint of other commands takes of the run. With --fold-validation, folded/ is a
/// second run, on the held-out images too.
#[derive(Args)]
#[command(verbatim_doc_comment, mut_args(of_finetuning))]
pub struct FinetuneCommand {
    #[command(flatten)]
    args: FinetuneArgs,
    /// Settings from a file: the flags' names as keys, e.g. `batch = 32`; flags on the command line win
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Divide batch and steps in --config by N, to try a recipe on a smaller machine. Flags are not divided
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true)]
    scale_down: u64,
    /// Go on with the run in --out (or start it, if it has not been)
    #[arg(long)]
    resume: bool,
    /// Print JSON lines, one a step, and nothing else on standard output
    #[arg(long)]
    json: bool,
}

/// The flags of `train` as `finetune` has them.
fn of_finetuning(flag: clap::Arg) -> clap::Arg {
    let id = flag.get_id().as_str().replace('_', "-");
    if DECIDED.contains(&id.as_str()) {
        return flag.hide(true);
    }
    let help = match id.as_str() {
        "init" => {
            return flag
                .long("checkpoint")
                .alias("init")
                .help("Model to start from: a checkpoint, a run, or a Hugging Face ImageGPT folder")
                .help_heading("Fine-tuning");
        }
        "steps" => "Most updates to make [default: 5000; 400 for the built-in sample]",
        "lr" => "Learning rate; a tenth of that of pre-training does well [default: 0.0003]",
        "warmup" => "Steps over which the rate rises from zero [default: 0]",
        "mask-rate" => "BERT models: share of the pixels that are masked [default: 0.15]",
        "out" => "Run folder [default: runs/finetune-NUMBER, the next free number]",
        "eval-every" => "Steps between validations [default: a twentieth of the steps]",
        "eval-images" => "Validation images scored each time; 0 for all [default: 0]",
        _ => return flag,
    };
    flag.help(help)
}

impl FinetuneCommand {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let (settings, earlier) = self.settings()?;
        let request = request(&settings.train, earlier.as_ref().map(|earlier| &earlier.train));
        on_device(request, FinetuneJob { settings, earlier, resume: self.resume, json: self.json })
    }

    /// Merges flags, file and, when resuming, the run's own settings; those are returned too, to compare with.
    fn settings(&self) -> Result<(FinetuneSettings, Option<FinetuneSettings>)> {
        if self.scale_down != 1 && self.config.is_none() {
            bail!("--scale-down divides what --config says; give a recipe, or smaller numbers");
        }
        let mut args = self.args.clone();
        if let Some(file) = &self.config {
            args = args.over(FinetuneArgs::from_file(file, self.scale_down)?)?;
        }
        if !self.resume {
            return Ok((args.resolve()?, None));
        }
        let Some(out) = args.train.out.clone() else {
            bail!("--resume needs --out DIR, the run to go on with");
        };
        match earlier_settings(out)? {
            None => Ok((args.resolve()?, None)),
            Some(earlier) => Ok((args.over(earlier.clone())?.resolve()?, Some(earlier.resolve()?))),
        }
    }
}

/// The settings of the run in a folder, if there is one. The folder may have been moved since.
fn earlier_settings(out: PathBuf) -> Result<Option<FinetuneArgs>> {
    let config = out.join("config.toml");
    if !config.exists() {
        return Ok(None);
    }
    let mut earlier = FinetuneArgs::from_file(&config, 1)?;
    earlier.train.out = Some(out);
    Ok(Some(earlier))
}

struct FinetuneJob {
    settings: FinetuneSettings,
    /// Settings of the run that is resumed.
    earlier: Option<FinetuneSettings>,
    resume: bool,
    json: bool,
}

impl DeviceJob for FinetuneJob {
    type Output = Result<()>;

    fn run<D: Device>(self, device: D, chosen: &Chosen) -> Result<()> {
        let Self { settings, earlier, resume, json } = self;
        if let Some(earlier) = &earlier {
            refuse_other_weights(&settings, earlier)?;
        }
        let Outcome { ending, best } = start(&device, chosen, settings.clone(), earlier, json)?;
        if ending == Ending::Interrupted || !settings.tuning.fold_validation {
            return Ok(());
        }
        let best = best.context("no accuracy was measured, so the number of steps for --fold-validation is unknown")?;
        let mut folded = settings;
        folded.tuning.fold_validation = false;
        folded.train.holdout = Some(0.0);
        folded.train.steps = best.step;
        folded.train.out = folded.train.out.join("folded");
        let earlier = if resume { earlier_settings(folded.train.out.clone())? } else { None };
        let earlier = earlier.map(FinetuneArgs::resolve).transpose()?;
        if !json {
            say(format_args!("\nonce more from the start, on the validation images too, for {} steps", best.step))?;
        }
        start(&device, chosen, folded, earlier, json).map(drop)
    }
}

fn start<D: Device>(
    device: &D,
    chosen: &Chosen,
    settings: FinetuneSettings,
    earlier: Option<FinetuneSettings>,
    json: bool,
) -> Result<Outcome> {
    let table = settings.table()?;
    let FinetuneSettings { train, tuning } = settings;
    let earlier = earlier.map(|earlier| earlier.train);
    TrainJob { settings: train, earlier, tuning: Some((tuning, table)), json }.train(device, chosen)
}

/// The factors of the losses decide the numbers; patience only when to stop.
fn refuse_other_weights(now: &FinetuneSettings, before: &FinetuneSettings) -> Result<()> {
    let (now, before) = (&now.tuning, &before.tuning);
    for (flag, now, before) in [
        ("generative-weight", now.generative_weight, before.generative_weight),
        ("classification-weight", now.classification_weight, before.classification_weight),
    ] {
        if now != before {
            bail!(
                "the run was started with {flag} = {before}, and now it is {now}; leave --{flag} out, or give a new --out"
            );
        }
    }
    Ok(())
}
