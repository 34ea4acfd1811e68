//! The end of a run: its report, and what is said about it.

use anyhow::{Context, Result};
use serde_json::json;

use crate::checkpoint::BestAccuracy;
use crate::cli::common::output::{print_json, say};
use crate::model::ModelConfig;
use crate::report::training::{Report, SampleGrid, describe_model};
use crate::run::folder::RunFolder;
use crate::run::metrics;
use crate::train::Ending;

/// What a run makes, as far as what to do with it goes.
#[derive(Clone, Copy, PartialEq)]
pub enum Made {
    /// An autoregressive model.
    Painter,
    /// A BERT model, which draws nothing.
    Guesser,
    /// A fine-tuned model.
    Classifier,
}

/// What report.html shows.
pub fn report(
    folder: &RunFolder,
    config: &ModelConfig,
    planned_steps: u64,
    data: String,
    device: String,
    settings: String,
) -> Result<Report> {
    let mut samples = Vec::new();
    for (step, path) in folder.sample_grids()? {
        let png = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let shown = config.order.describe_prompt();
        let caption = format!("validation images, {shown}, which the model sees, and its completions");
        samples.push(SampleGrid { step, caption, png });
    }
    let report = Report {
        title: format!("igpt-engine: {}", folder.root().display()),
        model: describe_model(config),
        parameters: config.parameter_count(),
        vocabulary: config.vocabulary,
        data,
        device,
        planned_steps,
        training: Vec::new(),
        validation: Vec::new(),
        samples,
        config: settings,
    };
    Ok(report.with_records(&metrics::read(&folder.metrics())?))
}

/// Says how the run ended and where its traces are.
pub fn announce(
    folder: &RunFolder,
    ending: &Ending,
    report: &Report,
    json: bool,
    step: u64,
    best: Option<BestAccuracy>,
    made: Made,
) -> Result<()> {
    let validation = report.validation.last();
    if json {
        let ending = match ending {
            Ending::Finished => "finished",
            Ending::StoppedEarly => "stopped early",
            Ending::Interrupted => "interrupted",
        };
        let mut end = json!({
            "event": "end",
            "ending": ending,
            "at_step": step,
            "val_loss": validation.map(|record| record.val_loss),
            "unigram_entropy": report.unigram_entropy(),
            "run": folder.root(),
            "checkpoint": folder.checkpoint(step),
            "report": folder.report(),
        });
        if let Some(best) = best {
            end["best_accuracy"] = best.accuracy.into();
            end["best_step"] = best.step.into();
            end["best"] = json!(folder.best());
        }
        return print_json(&end);
    }
    let root = folder.root().display();
    match ending {
        Ending::Interrupted => {
            say(format_args!("stopped and saved after step {step}; go on with --out {root} --resume"))?
        }
        Ending::Finished => say(format_args!("done: {step} steps"))?,
        Ending::StoppedEarly => say(format_args!("done: {step} steps; the accuracy has stopped rising"))?,
    }
    if made == Made::Classifier {
        return announce_tuned(folder, step, best);
    }
    if let Some(validation) = validation {
        say(format_args!(
            "validation   {:.4} nats per token; knowing only how frequent each colour is gives {:.4}, nothing {:.4}",
            validation.val_loss,
            validation.unigram_entropy,
            (report.vocabulary as f64).ln()
        ))?;
    }
    say(format_args!("checkpoint   {}", folder.checkpoint(step).display()))?;
    if let Some(grid) = report.samples.last() {
        say(format_args!("samples      {}", folder.sample_grid(grid.step).display()))?;
    }
    say(format_args!("report       {}", folder.report().display()))?;
    let root = folder.root().display();
    match made {
        Made::Painter => say(format_args!("draw more    igpt-engine sample --checkpoint {root}")),
        Made::Guesser | Made::Classifier => say(format_args!("score it     igpt-engine eval --checkpoint {root}")),
    }
}

/// What fine-tuning left.
fn announce_tuned(folder: &RunFolder, step: u64, best: Option<BestAccuracy>) -> Result<()> {
    let checkpoint = match best {
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
