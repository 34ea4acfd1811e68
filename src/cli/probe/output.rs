//! Progress, the table and the figures on the terminal.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::common::counter::Counter;
use crate::cli::common::output::{print_json, say, tell};
use crate::data::progress::Meter;
use crate::probe::{ArrayOutcome, Choice, Events, FittedClassifier, Outcome, Step};
use crate::report::html::percent;
use crate::report::probe::{FewLabels, describe_depths};

/// Bars, and a line per classifier, on standard error; nothing there for scripts.
pub struct Terminal {
    quiet: bool,
    stop: &'static AtomicBool,
    bar: Counter,
    /// What is being fitted.
    label: String,
}

impl Terminal {
    /// Shows a probe until `stop` is set; `quiet` shows nothing.
    pub fn new(quiet: bool, stop: &'static AtomicBool) -> Self {
        Self { quiet, stop, bar: Counter::hidden(), label: String::new() }
    }

    fn go_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

impl Events for Terminal {
    fn note(&mut self, text: &str) {
        tell(format_args!("note: {text}"));
    }

    fn pass_started(&mut self, images: usize) {
        self.bar = Counter::images("images read by the model", images as u64, self.quiet);
    }

    fn pass_advanced(&mut self, done: usize) -> bool {
        self.bar.set_position(done as u64);
        self.go_on()
    }

    fn pass_ended(&mut self, file: &Path, complete: bool) {
        self.bar.finish();
        if !complete && !self.quiet {
            tell(format_args!("{}: the same command continues from what is there", file.display()));
        }
    }

    fn fit_started(&mut self, name: &str) {
        self.bar = Counter::new(name, 0, "{bar:14.cyan/blue} {pos}/{len} {elapsed}  {wide_msg}", self.quiet);
        self.label = name.to_owned();
    }

    fn fit_advanced(&mut self, step: &Step) -> bool {
        let measure = match step.choice {
            Choice::C(_) => "gradient norm",
            Choice::LearningRate(_) => "loss",
        };
        self.bar.set_length(step.limit as u64);
        self.bar.set_position(step.number as u64);
        self.bar.set_message(format!("{}, {}: {measure} {:.3e}", self.label, step.choice, step.measure));
        self.go_on()
    }

    fn fit_ended(&mut self, fitted: Option<&FittedClassifier>) {
        self.bar.finish();
        if let Some(fitted) = fitted.filter(|_| !self.quiet) {
            tell(format_args!("{}", line(fitted)));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.bar.finish();
    }
}

/// What a probe of images found.
pub fn images(outcome: &Outcome, json: bool) -> Result<()> {
    if json {
        return print_json(&outcome.json());
    }
    table(&outcome.fitted, outcome.best())?;
    few_labels(&outcome.few_labels)?;
    if !outcome.finished {
        say(format_args!("stopped early: the same command continues with the features that are there"))?;
    }
    say(format_args!("report   {}", outcome.report_path().display()))?;
    say(format_args!("numbers  {}", outcome.json_path().display()))
}

/// What a probe of arrays found.
pub fn arrays(outcome: &ArrayOutcome, json: bool) -> Result<()> {
    let ArrayOutcome { fit, choice, tried, test_accuracy, train_accuracy, classes, features, note: _ } = outcome;
    if json {
        let mut value = serde_json::to_value(fit)?;
        if let Value::Object(fields) = &mut value {
            fields.insert("test_accuracy".into(), json!(test_accuracy));
            fields.insert("train_accuracy".into(), json!(train_accuracy));
            fields.insert("classes".into(), json!(classes));
            fields.insert("features".into(), json!(features));
            fields.insert("chosen".into(), json!(choice));
            fields.insert("tried".into(), json!(tried));
        }
        return print_json(&value);
    }

    for tried in tried {
        say(format_args!("{}: {} of the held-out rows", tried.choice, percent(Some(tried.validation_accuracy))))?;
    }
    let converged = if fit.converged { "converged" } else { "not converged" };
    say(format_args!(
        "{choice}: objective {:.9e}, gradient norm {:.2e}, {} iterations, {converged}",
        fit.objective, fit.gradient_norm, fit.iterations
    ))?;
    say(format_args!(
        "{} of the test rows, {} of those fitted",
        percent(Some(*test_accuracy)),
        percent(Some(*train_accuracy))
    ))
}

/// One line for a finished classifier.
fn line(row: &FittedClassifier) -> String {
    let depth = if row.depths.is_empty() { String::new() } else { format!(" depth {}", describe_depths(&row.depths)) };
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
fn table(rows: &[FittedClassifier], best: Option<&FittedClassifier>) -> Result<()> {
    let head = ["features of", "depth", "features", "chosen", "held out", "test", "iterations", ""];

    // A line per classifier.
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
            describe_depths(&row.depths),
            row.features.to_string(),
            row.choice.to_string(),
            percent(Some(row.validation_accuracy)),
            percent(row.test_accuracy),
            row.fit.iterations.to_string(),
            remarks.join("; "),
        ]);
    }

    // Columns as wide as their widest cell; words to the left, numbers to the right.
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
fn few_labels(results: &[FewLabels]) -> Result<()> {
    for few in results {
        say(format_args!(
            "{} labels per class: {:.2} ± {:.2} % of the test images ({} trials, {} converged)",
            few.labels_per_class,
            100.0 * few.mean,
            100.0 * few.deviation,
            few.accuracies.len(),
            few.converged
        ))?;
    }
    Ok(())
}
