//! `probe --features X.npy,Y.npy`: the solvers on arrays that somebody else made.

use std::path::Path;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::ProbeCommand;
use super::args::ArrayPair;
use super::output::{FitBar, most_resident};
use crate::cli::common::interrupt::stop_flag;
use crate::cli::common::output::{print_json, say};
use crate::data::npy::Npy;
use crate::device::Device;
use crate::device::select::{Chosen, DeviceJob};
use crate::probe::{Labelled, Matrix, Protocol, Rows, first_not_finite, split};
use crate::report::html::percent;

/// The job.
pub struct ReadyJob {
    /// What is fitted.
    pub train: ArrayPair,
    /// What is tested.
    pub test: ArrayPair,
    /// All flags.
    pub command: ProbeCommand,
}

impl DeviceJob for ReadyJob {
    type Output = Result<()>;

    fn run<D: Device>(self, device: D, _chosen: &Chosen) -> Result<()> {
        let ProbeCommand { solver, holdout, seed, json, .. } = self.command;
        let (train, train_labels) = load(&self.train)?;
        let (test, test_labels) = load(&self.test)?;
        if train.width() != test.width() {
            bail!(
                "{} has {} features and {} has {}; they must be of the same kind",
                self.train.features.display(),
                train.width(),
                self.test.features.display(),
                test.width()
            );
        }
        let classes = 1 + train_labels.iter().chain(&test_labels).copied().max().map_or(0, usize::from);
        let stop = stop_flag()?;
        let solver = if solver.c.is_empty() && solver.solver == super::args::SolverKind::Lbfgs {
            super::args::SolverArgs { c: vec![1.0], ..solver }.solver(seed)
        } else {
            solver.solver(seed)
        };
        let protocol = Protocol { device: &device, classes, most_resident: most_resident(), solver };
        let all = Labelled { rows: &train, labels: &train_labels };
        let mut bar = FitBar::new(format!("{} rows of {}", train.len(), train.width()), json, stop);
        let mut watch = |step: &_| bar.step(step);
        let mut tried = Vec::new();
        let (choice, start) = match protocol.choices()[..] {
            [only] => (only, None),
            _ => {
                let (fitted, held) = split(train.len(), holdout.unwrap_or(0.1), seed)?;
                let Some(sweep) = protocol.sweep(all, (&fitted, &held), &mut watch)? else { bail!(STOPPED) };
                tried = sweep.tried;
                (sweep.best.choice, Some(sweep.classifier))
            }
        };
        let Some(fit) = protocol.fit(all, choice, start.as_ref(), &mut watch)? else { bail!(STOPPED) };
        drop(bar);
        let accuracy = fit.classifier.accuracy(&test, &test_labels);
        let train_accuracy = fit.classifier.accuracy(&train, &train_labels);
        let summary = fit.summary;
        if json {
            let mut value = serde_json::to_value(summary)?;
            if let Value::Object(fields) = &mut value {
                fields.insert("test_accuracy".into(), json!(accuracy));
                fields.insert("train_accuracy".into(), json!(train_accuracy));
                fields.insert("classes".into(), json!(classes));
                fields.insert("features".into(), json!(train.width()));
                fields.insert("chosen".into(), json!(choice));
                fields.insert("tried".into(), json!(tried));
            }
            return print_json(&value);
        }
        for tried in &tried {
            say(format_args!("{}: {} of the held-out rows", tried.choice, percent(Some(tried.validation_accuracy))))?;
        }
        let converged = if summary.converged { "converged" } else { "not converged" };
        say(format_args!(
            "{choice}: objective {:.9e}, gradient norm {:.2e}, {} iterations, {converged}",
            summary.objective, summary.gradient_norm, summary.iterations
        ))?;
        say(format_args!(
            "{} of the test rows, {} of those fitted",
            percent(Some(accuracy)),
            percent(Some(train_accuracy))
        ))
    }
}

/// What Ctrl-C leaves of a single fit.
const STOPPED: &str = "stopped before the fit was done; nothing was written";

/// Reads features `[N, F]` and labels `[N]`.
fn load(pair: &ArrayPair) -> Result<(Matrix, Vec<u16>)> {
    let array = Npy::open(&pair.features)?;
    let &[rows, width] = array.shape() else {
        bail!("{} has shape {:?}; features are [N, features]", pair.features.display(), array.shape());
    };
    if rows == 0 || width == 0 || u32::try_from(rows).is_err() {
        bail!("{} has shape [{rows}, {width}]; needed are 1 to 2^32 - 1 rows", pair.features.display());
    }
    let matrix = Matrix::new(width, array.to_f32()?)?;
    if let Some((row, column, value)) = first_not_finite(&matrix) {
        bail!("{}: row {row} column {column} (counted from 0) is {value}", pair.features.display());
    }
    let labels = read_labels(&pair.labels)?;
    if labels.len() != rows {
        bail!(
            "{} has {} labels for the {rows} rows of {}",
            pair.labels.display(),
            labels.len(),
            pair.features.display()
        );
    }
    Ok((matrix, labels))
}

/// Most classes of a probe.
const MOST_CLASSES: i64 = 1 << 15;

fn read_labels(path: &Path) -> Result<Vec<u16>> {
    let array = Npy::open(path)?;
    if array.shape().len() != 1 {
        bail!("{} has shape {:?}; labels are [N], a class a row counted from 0", path.display(), array.shape());
    }
    let mut labels = Vec::with_capacity(array.len());
    for (row, label) in array.integers(0..array.len())?.enumerate() {
        match u16::try_from(label) {
            Ok(small) if label < MOST_CLASSES => labels.push(small),
            _ => bail!(
                "{}: row {row} has label {label}; classes are counted from 0 to {}",
                path.display(),
                MOST_CLASSES - 1
            ),
        }
    }
    Ok(labels)
}
