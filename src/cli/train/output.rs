//! What is printed at the end of a run.

use anyhow::Result;
use serde_json::{Value, json};

use crate::checkpoint::BestAccuracy;
use crate::cli::common::output::{print_json, say};
use crate::fs::path_text;
use crate::report::card::energy;
use crate::run::folder::RunFolder;
use crate::train::{ModelKind, Outcome, StopReason};

/// Prints how the run ended and where its files are.
pub fn announce(outcome: &Outcome, json: bool) -> Result<()> {
    if json {
        return print_json(&end_line(outcome));
    }

    // Why it ended.
    let Outcome { stop_reason, step, best, kind, report, folder } = outcome;
    let root = folder.root().display();
    match stop_reason {
        StopReason::Interrupted => {
            say(format_args!("stopped and saved after step {step}; go on with --out {root} --resume"))?
        }
        StopReason::Finished => say(format_args!("done: {step} steps"))?,
        StopReason::StoppedEarly => say(format_args!("done: {step} steps; the accuracy has stopped rising"))?,
    }

    if let Some(joules) = report.history.joules() {
        say(format_args!("energy       {} by NVML, of the whole card", energy(joules)))?;
    }

    // How good the model is, and where everything lies.
    if *kind == ModelKind::Classifier {
        return announce_tuned(folder, *step, *best);
    }
    if let Some(validation) = report.history.last_validation() {
        say(format_args!(
            "validation   {:.4} nats per token; knowing only how frequent each colour is gives {:.4}, nothing {:.4}",
            validation.val_loss,
            validation.unigram_entropy,
            (report.vocabulary as f64).ln()
        ))?;
    }
    say(format_args!("checkpoint   {}", folder.checkpoint(*step).display()))?;
    if let Some(grid) = report.samples.last() {
        say(format_args!("samples      {}", folder.sample_grid(grid.step).display()))?;
    }
    say(format_args!("report       {}", folder.report().display()))?;

    // What to do next.
    match kind {
        ModelKind::Autoregressive => say(format_args!("draw more    igpt-engine sample --checkpoint {root}")),
        ModelKind::Bert | ModelKind::Classifier => {
            say(format_args!("score it     igpt-engine eval --checkpoint {root}"))
        }
    }
}

/// The same for fine-tuning: the best accuracy, its checkpoint, and how to test it.
fn announce_tuned(folder: &RunFolder, step: u64, best: Option<BestAccuracy>) -> Result<()> {
    // The best one may have been removed with the folder, while the run trained.
    let checkpoint = match best.filter(|_| folder.best().is_dir()) {
        None => folder.checkpoint(step),
        Some(BestAccuracy { step, accuracy, .. }) => {
            say(format_args!("best         {:.2} % of the validation images, at step {step}", 100.0 * accuracy))?;
            folder.best()
        }
    };
    say(format_args!("checkpoint   {}", checkpoint.display()))?;
    say(format_args!("report       {}", folder.report().display()))?;
    say(format_args!("test it      igpt-engine eval --checkpoint {} --split test", folder.root().display()))
}

/// The last JSON line.
fn end_line(outcome: &Outcome) -> Value {
    let Outcome { stop_reason, step, best, report, folder, .. } = outcome;
    let validation = report.history.last_validation();
    let ending = match stop_reason {
        StopReason::Finished => "finished",
        StopReason::StoppedEarly => "stopped early",
        StopReason::Interrupted => "interrupted",
    };

    let mut end = json!({
        "event": "end",
        "ending": ending,
        "at_step": step,
        "val_loss": validation.map(|record| record.val_loss),
        "unigram_entropy": report.history.unigram_entropy(),
        "run": path_text(folder.root()),
        "checkpoint": path_text(folder.checkpoint(*step)),
        "report": path_text(folder.report()),
    });
    if let Some(joules) = report.history.joules() {
        end["joules"] = joules.into();
    }
    if let Some(best) = best {
        end["best_accuracy"] = best.accuracy.into();
        end["best_step"] = best.step.into();
        end["best"] = path_text(folder.best()).into();
    }
    end
}
