//! The solvers on arrays that somebody else made: features and labels in `.npy` files.

use std::path::PathBuf;
use std::str::FromStr;

use super::error::{ProbeError, Result};
use super::events::Events;
use super::features::matrix::{Matrix, Rows, first_not_finite};
use super::protocol::{Labelled, Protocol, Tried, check_classes, split};
use super::session::max_resident;
use super::solver::fit::FitSummary;
use super::solver_choice::{Choice, Solver};
use crate::data::labels::{describe_unused, read_labels, unused_classes};
use crate::data::npy::{Npy, split_pair};
use crate::device::Device;

/// Two arrays that belong together, `X.npy,Y.npy`; either may be `FILE.npz[:NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrayPair {
    /// Features, numbers `[N, features]`.
    pub features: PathBuf,
    /// Labels, integers `[N]` or one-hot `[N, classes]`.
    pub labels: PathBuf,
}

impl FromStr for ArrayPair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match split_pair(text) {
            Some((features, labels)) if !features.starts_with(".np") && !labels.is_empty() => {
                Ok(ArrayPair { features: features.into(), labels: labels.into() })
            }
            _ => Err("give the features and their labels as X.npy,Y.npy".into()),
        }
    }
}

/// What is fitted and tested, and how.
#[derive(Clone, Debug)]
pub struct ArraySettings {
    /// What is fitted.
    pub train: ArrayPair,
    /// What is tested.
    pub test: ArrayPair,
    /// How classifiers are fitted.
    pub solver: Solver,
    /// Fraction of the training rows held out where there is something to choose.
    pub holdout: f64,
    /// Seed of the held-out rows.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct ArrayOutcome {
    /// How the last fit went.
    pub fit: FitSummary,
    /// The number that was chosen.
    pub choice: Choice,
    /// What was tried on held-out rows; nothing where there was no choice.
    pub tried: Vec<Tried>,
    /// Accuracy on the test rows.
    pub test_accuracy: f64,
    /// Accuracy on the rows that were fitted.
    pub train_accuracy: f64,
    /// Classes of the labels.
    pub classes: usize,
    /// Features per row.
    pub features: usize,
    /// A sentence about classes that no training row is of.
    pub note: Option<String>,
}

/// Fits a classifier to arrays and tests it. `None` if it was interrupted.
///
/// # Errors
/// [`ProbeError::Data`] and [`ProbeError::Unfit`] for arrays that cannot be read or do not go together; those of the fits.
pub fn probe_arrays<D: Device>(
    device: &D,
    settings: &ArraySettings,
    events: &mut dyn Events,
) -> Result<Option<ArrayOutcome>> {
    // Read both parts.
    let (train, train_labels) = load(&settings.train)?;
    let (test, test_labels) = load(&settings.test)?;
    if train.width() != test.width() {
        return Err(ProbeError::Unfit(format!(
            "{} has {} features and {} has {}; they must be of the same kind",
            settings.train.features.display(),
            train.width(),
            settings.test.features.display(),
            test.width()
        )));
    }
    check_classes(train_labels.iter().copied(), &format!("rows of {}", settings.train.labels.display()))?;
    let classes = 1 + train_labels.iter().chain(&test_labels).copied().max().map_or(0, usize::from);

    // Choose on held-out rows, if there is a choice.
    let protocol = Protocol { device, classes, max_resident: max_resident(), solver: settings.solver.clone() };
    let all = Labelled { rows: &train, labels: &train_labels };
    events.fit_started(&format!("{} rows of {}", train.len(), train.width()));
    let mut watch = |step: &_| events.fit_advanced(step);
    let mut tried = Vec::new();
    let (choice, start) = match protocol.choices()[..] {
        [only] => (only, None),
        _ => {
            let (fitted, held) = split(train.len(), settings.holdout, settings.seed)?;
            let Some(sweep) = protocol.sweep(all, (&fitted, &held), &mut watch)? else { return Ok(None) };
            tried = sweep.tried;
            (sweep.best.choice, Some(sweep.classifier))
        }
    };

    // Fit on all rows, and test.
    let Some(fit) = protocol.fit(all, choice, start.as_ref(), &mut watch)? else { return Ok(None) };
    events.fit_ended(None);
    Ok(Some(ArrayOutcome {
        fit: fit.summary,
        choice,
        tried,
        test_accuracy: fit.classifier.accuracy(&test, &test_labels)?,
        train_accuracy: fit.classifier.accuracy(&train, &train_labels)?,
        classes,
        features: train.width(),
        note: describe_unused(&unused_classes(train_labels.iter().copied(), classes), &[]),
    }))
}

/// Reads features `[N, F]` and labels `[N]`.
fn load(pair: &ArrayPair) -> Result<(Matrix, Vec<u16>)> {
    let array = Npy::open(&pair.features)?;
    let &[rows, width] = array.shape() else {
        return Err(ProbeError::Unfit(format!(
            "{} has shape {:?}; features are [N, features]",
            pair.features.display(),
            array.shape()
        )));
    };
    if rows == 0 || width == 0 || u32::try_from(rows).is_err() {
        return Err(ProbeError::Unfit(format!(
            "{} has shape [{rows}, {width}]; needed are 1 to 2^32 - 1 rows",
            pair.features.display()
        )));
    }

    let matrix = Matrix::new(width, array.to_f32()?)?;
    if let Some((row, column, value)) = first_not_finite(&matrix)? {
        return Err(ProbeError::Unfit(format!(
            "{}: row {row} column {column} (counted from 0) is {value}",
            pair.features.display()
        )));
    }

    let (labels, _) = read_labels(&pair.labels, MAX_CLASSES)?;
    if labels.len() != rows {
        return Err(ProbeError::Unfit(format!(
            "{} has {} labels for the {rows} rows of {}",
            pair.labels.display(),
            labels.len(),
            pair.features.display()
        )));
    }
    Ok((matrix, labels))
}

/// Most classes of a probe.
const MAX_CLASSES: usize = 1 << 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_arrays_may_have_commas_in_their_names() {
        let pair: ArrayPair = "a,b/x.npy,y.npy".parse().unwrap();
        assert_eq!((pair.features, pair.labels), ("a,b/x.npy".into(), "y.npy".into()));
        for bad in ["x.npy", "x.npy,", ".npy,y.npy", ""] {
            assert!(bad.parse::<ArrayPair>().is_err(), "{bad}");
        }
    }
}
