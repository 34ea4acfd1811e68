//! `igpt-engine results`: our runs beside the paper's figures.

use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use clap::Args;

use super::common::output::{print_json, say};
use crate::fs::Output;
use crate::results::{Results, accuracy_by_parameters, markdown, text};

/// Show what runs have reached beside what the paper reports
///
/// Looks through folders for runs of train, finetune and probe, and puts each where it belongs in the paper's tables: same
/// data set, model, resolution, objective and protocol. What differs otherwise is remarked on. Rows without a run are shown as
/// missing; runs that fit no row are listed at the end. Beside them stand the methods that the paper compares itself with, with what it
/// prints of them: what they learned from, input, parameters, features, accuracy. A dash is what it does not print.
///
/// Training measures on validation images. To count with test images, put an evaluation into the run's folder:
///   igpt-engine eval --checkpoint runs/s-001 --data imagenet-tar:imagenet --json > runs/s-001/test.json
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = "Example:\n  igpt-engine results runs")]
pub struct ResultsCommand {
    /// Folders of runs, or that hold such folders
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,
    /// Draw accuracy against parameters too: linear probes on ImageNet, others, Image GPT as published, and ours
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Print Markdown
    #[arg(long)]
    markdown: bool,
    /// Print one JSON object
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
}

impl ResultsCommand {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        for folder in &self.folders {
            if !folder.is_dir() {
                bail!("there is no folder {}; give the folder of runs, such as runs", folder.display());
            }
        }
        let plot = self.plot.as_deref().map(Output::open).transpose()?;
        let results = Results::of(&self.folders)?;
        if let Some(file) = plot {
            let svg = accuracy_by_parameters(&results).map_err(|problem| anyhow!("cannot draw the plot: {problem}"))?;
            file.write_whole(svg.as_bytes())?;
        }
        if self.json {
            return print_json(&results);
        }
        say(format_args!("{}", if self.markdown { markdown(&results) } else { text(&results) }))
    }
}
