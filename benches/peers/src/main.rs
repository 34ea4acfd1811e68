//! What `profile` predicts of kernels of others, beside what is published of their speed on real cards.
//!
//! ```text
//! published   the figures, each with its source
//! launches    what `python/record.py` wrote down: how the kernels of a case are launched, with their code
//! case        a case in the simulator and in the model
//! verdict     errors of the predictions, and the order of kernels
//! ours        the engine's own kernels beside them, by what they do for a product
//! ops         the ops of the paper's models, beside the best that is published of the like
//! table       all of it as text
//! ```

mod case;
mod launches;
mod ops;
mod ours;
mod published;
mod table;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use rayon::prelude::*;
use serde::Serialize;

use case::Predicted;
use ours::SideBySide;
use published::Figure;
use verdict::Verdict;

/// Predicts kernels of others, and prints that beside what is published of them.
#[derive(Parser)]
struct Options {
    /// The folder of the launches that were written down
    #[arg(long, required_unless_present = "ops")]
    launches: Option<PathBuf>,
    /// Instead only predict the ops of S, M and L on this card, as Markdown
    #[arg(long, value_name = "CARD", conflicts_with_all = ["launches", "json", "case", "filter"])]
    ops: Option<String>,
    /// Write figures, predictions and verdict to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only predict this case, published or not, on --card, and print that as JSON
    #[arg(long, requires = "card", conflicts_with = "filter")]
    case: Option<String>,
    /// See --case
    #[arg(long, requires = "case")]
    card: Option<String>,
    /// Parts of names of cases: without any, the engine's own kernels are counted beside others too
    filter: Vec<String>,
}

/// A figure and what is predicted of it.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    figure: Figure,
    predicted: Predicted,
}

#[derive(Serialize)]
struct Report {
    rows: Vec<Row>,
    verdict: Verdict,
    counts: Vec<SideBySide>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if let Some(card) = &options.ops {
        print!("{}", ops::text(card)?);
        return Ok(());
    }
    let launches = options.launches.as_deref().context("--launches is missing")?;
    if let (Some(case), Some(card)) = (&options.case, &options.card) {
        println!("{}", serde_json::to_string_pretty(&case::predicted(launches, case, card)?)?);
        return Ok(());
    }

    let wanted = |figure: &Figure| {
        options.filter.is_empty() || options.filter.iter().any(|part| figure.case.contains(part.as_str()))
    };
    let figures: Vec<Figure> = published::figures()?.into_iter().filter(wanted).collect();
    let row = |figure: Figure| {
        let predicted = case::predicted(launches, &figure.case, &figure.card);
        let predicted = predicted.with_context(|| format!("{} on {}", figure.case, figure.card))?;
        Ok(Row { figure, predicted })
    };
    let rows = figures.into_par_iter().map(row).collect::<Result<Vec<Row>>>()?;

    let pairs: Vec<_> = rows.iter().map(|row| (&row.figure, row.predicted.seconds)).collect();
    let verdict = Verdict::of(&pairs);
    let counts = if options.filter.is_empty() { ours::all(launches)? } else { Vec::new() };
    let report = Report { rows, verdict, counts };
    print!("{}", table::text(&report));
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
