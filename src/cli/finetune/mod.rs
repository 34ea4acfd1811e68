//! `igpt-engine finetune`: a class head, and the whole model with it, on images with labels.

mod args;

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Args;

use self::args::FinetuneArgs;
use super::common::device::on_device;
use super::common::output::say;
use super::common::ranks::{RankArgs, Ranks, STEPS_ARE_LOST};
use super::train::layers::{Layer, LayerArgs, device_request, earlier};
use super::train::train;
use crate::device::Device;
use crate::device::select::{Chosen, DeviceJob};
use crate::run::folder::RunFolder;
use crate::train::{DECIDED, FineTuning, Outcome, Settings, StopReason};

/// Teach a pre-trained model to tell classes apart: all its weights, and a class head that starts at zero
///
/// The head reads the mean over all positions of the final features. What is minimised is the
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
    #[command(flatten)]
    layers: LayerArgs,
    #[command(flatten)]
    ranks: RankArgs,
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
        "steps" => "Updates to make at most [default: 5000; 400 for the built-in sample]",
        "lr" => "Learning rate; a tenth of that of pre-training does well [default: 0.0003]",
        "warmup" => "Steps over which the rate rises from zero [default: 0]",
        "mask-rate" => "BERT models: fraction of the pixels that are masked [default: 0.15]",
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
        let (settings, earlier) = self.layers.settings(&self.args)?;
        let ranks = self.ranks.launch(STEPS_ARE_LOST)?;
        if ranks.are_several() && settings.fine_tuning.is_some_and(|tuning| tuning.fold_validation) {
            bail!(
                "--fold-validation is for one process; leave it out with several ranks, and fold in a run of its own"
            );
        }
        let request = device_request(&settings, earlier.as_ref(), &ranks.launch);
        let LayerArgs { resume, json, .. } = self.layers;
        on_device(request, FinetuneJob { settings, earlier, ranks, resume: resume.is_some(), json })
    }
}

struct FinetuneJob {
    settings: Settings,
    /// Settings of the run that is resumed.
    earlier: Option<Settings>,
    ranks: Ranks,
    resume: bool,
    json: bool,
}

impl DeviceJob for FinetuneJob {
    type Output = Result<()>;

    fn run<D: Device>(self, device: D, chosen: &Chosen) -> Result<()> {
        let Self { settings, earlier: before, ranks, resume, json } = self;
        let outcome = train(&device, chosen, settings.clone(), before.as_ref(), &ranks, json)?;
        let Some(Outcome { stop_reason, best, folder, .. }) = outcome else { return Ok(()) };
        let fold = settings.fine_tuning.is_some_and(|tuning| tuning.fold_validation);
        if stop_reason == StopReason::Interrupted || !fold {
            return Ok(());
        }

        // A second run, on the validation images too.
        let best = best.context("no accuracy was measured, so the number of steps for --fold-validation is unknown")?;
        let folded = folded(settings, folder.root(), best.step);
        let before = if resume { earlier::<FinetuneArgs>(folded.out.clone())? } else { None };
        let before = before.map(FinetuneArgs::resolve).transpose()?;
        if !json {
            say(format_args!("\nonce more from the start, on the validation images too, for {} steps", best.step))?;
        }
        train(&device, chosen, folded, before.as_ref(), &ranks, json).map(drop)
    }
}

/// The second run of --fold-validation: nothing held out, for as many steps as were best.
fn folded(settings: Settings, run: &Path, steps: u64) -> Settings {
    let fine_tuning = settings.fine_tuning.map(|tuning| FineTuning { fold_validation: false, ..tuning });
    let out = run.join(RunFolder::FOLDED);
    Settings { fine_tuning, holdout: Some(0.0), steps, out, numbered: None, ..settings }
}
