//! Progress and the table on the terminal.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::common::output::say;
use crate::plan::machine::available_memory;
use crate::probe::{Choice, Step};
use crate::report::html::percent;
use crate::report::probe::{FewLabels, Row};

/// A bar over the iterations of one fit after another.
pub struct FitBar {
    bar: ProgressBar,
    stop: &'static AtomicBool,
    label: String,
}

impl FitBar {
    /// A bar that names `label`; `quiet` shows none.
    pub fn new(label: impl Into<String>, quiet: bool, stop: &'static AtomicBool) -> Self {
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
        if let Ok(style) = ProgressStyle::with_template("{bar:14.cyan/blue} {pos}/{len} {elapsed}  {wide_msg}") {
            bar.set_style(style.progress_chars("━╸─"));
        }
        FitBar { bar, stop, label: label.into() }
    }

    /// Shows an iteration; whether to go on.
    pub fn step(&mut self, step: &Step) -> bool {
        let measure = match step.choice {
            Choice::C(_) => "gradient norm",
            Choice::LearningRate(_) => "loss",
        };
        self.bar.set_length(step.most as u64);
        self.bar.set_position(step.number as u64);
        self.bar.set_message(format!("{}, {}: {measure} {:.3e}", self.label, step.choice, step.measure));
        !self.stop.load(Ordering::Relaxed)
    }
}

impl Drop for FitBar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Bytes of features that are kept on the device between products: half of what is free.
pub fn most_resident() -> usize {
    (available_memory().unwrap_or(4.0 * (1_u64 << 30) as f64) * 0.5) as usize
}

/// One line for a finished classifier.
pub fn line(row: &Row) -> String {
    let depth = if row.depths.is_empty() { String::new() } else { format!(" depth {}", row.depth()) };
    let tested = row.test_accuracy.map_or(String::new(), |test| format!(", test {}", percent(Some(test))));
    let converged = if row.fit.converged { "converged" } else { "not converged" };
    format!(
        "{}{depth}: held out {}{tested} ({}, {} iterations, {converged}, {:.1} s)",
        row.source,
        percent(Some(row.validation_accuracy)),
        row.choice,
        row.fit.iterations,
        row.seconds
    )
}

/// The table of all classifiers.
pub fn table(rows: &[Row], best: Option<&Row>) -> Result<()> {
    let head = ["features of", "depth", "features", "chosen", "held out", "test", "iterations", ""];
    let mut lines: Vec<[String; 8]> = vec![head.map(str::to_owned)];
    for row in rows {
        let mut remarks = Vec::new();
        if best == Some(row) {
            remarks.push("best on the held-out images".to_owned());
        }
        if !row.fit.converged {
            remarks.push(format!("not converged, gradient norm {:.1e}", row.fit.gradient_norm));
        }
        if let Some(ensemble) = row.ensemble_accuracy {
            remarks.push(format!("{} over several masks", percent(Some(ensemble))));
        }
        lines.push([
            row.source.to_string(),
            row.depth(),
            row.features.to_string(),
            row.choice.to_string(),
            percent(Some(row.validation_accuracy)),
            percent(row.test_accuracy),
            row.fit.iterations.to_string(),
            remarks.join("; "),
        ]);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..8).map(width).collect();
    for line in &lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| match column {
                0 | 3 | 7 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        say(format_args!("{}", cells.join("  ").trim_end()))?;
    }
    Ok(())
}

/// The lines of few-label results.
pub fn few_labels(results: &[FewLabels]) -> Result<()> {
    for few in results {
        say(format_args!(
            "{} labels a class: {:.2} ± {:.2} % of the test images ({} draws, {} converged)",
            few.labels_per_class,
            100.0 * few.mean,
            100.0 * few.deviation,
            few.accuracies.len(),
            few.converged
        ))?;
    }
    Ok(())
}
