//! Labels in arrays: integers `[N]` or `[N, 1]`, or one-hot `[N, classes]`.

use std::path::Path;

use super::error::{DataError, Result};
use super::npy::Npy;

/// Values read at a time.
const PIECE: usize = 1 << 16;

/// Reads labels of at most `most` classes, and their number: one class more than the highest label, or as many as one-hot
/// rows have columns.
///
/// # Errors
/// [`DataError::Read`], [`DataError::Npy`] for arrays of another kind, [`DataError::Label`] for the first label that is
/// negative or too high.
pub(crate) fn read_labels(path: &Path, most: usize) -> Result<(Vec<u16>, usize)> {
    let array = Npy::open(path)?;
    match *array.shape() {
        [_] => integers(path, &array, most),

        // What pandas and Keras write. Were it one-hot, it would be of one class, and all ones.
        [rows, 1] => {
            let (labels, classes) = integers(path, &array, most)?;
            if rows > 0 && labels.iter().all(|label| *label == 1) {
                let problem = "has shape [N, 1] and holds nothing but ones: labels, or one-hot rows of one class? Save labels \
                               as [N] with array.squeeze(1)";
                return Err(wrong(path, problem.into()));
            }
            Ok((labels, classes))
        }

        [rows, classes] if classes > 1 && classes <= most => {
            let mut labels = Vec::with_capacity(rows);
            let together = (PIECE / classes).max(1);
            for first in (0..rows).step_by(together) {
                let values: Vec<f64> = array.f64s(first * classes..(first + together) * classes)?.collect();
                for row in values.chunks_exact(classes) {
                    labels.push(hot(row).map_err(|problem| wrong(path, format!("row {} {problem}", labels.len())))?);
                }
            }
            Ok((labels, classes))
        }

        ref shape => {
            let problem = format!(
                "has shape {shape:?}, needed are labels [N], or one-hot [N, classes] of at most {most} classes"
            );
            Err(wrong(path, problem))
        }
    }
}

fn wrong(path: &Path, problem: String) -> DataError {
    DataError::Npy { path: path.to_owned(), problem }
}

/// Every value as a label. Floats will do where they are whole numbers.
fn integers(path: &Path, array: &Npy, most: usize) -> Result<(Vec<u16>, usize)> {
    let outside =
        |record, label| Err(DataError::Label { path: path.to_owned(), record, label, first: 0, last: most as i64 - 1 });
    let mut labels = Vec::with_capacity(array.len());
    for first in (0..array.len()).step_by(PIECE) {
        let range = first..first + PIECE;

        // Whole numbers as they are.
        if array.dtype().is_integer() {
            for label in array.integers(range)? {
                match u16::try_from(label) {
                    Ok(small) if usize::from(small) < most => labels.push(small),
                    _ => return outside(labels.len(), label),
                }
            }
            continue;
        }

        // Floats, each looked at before it is rounded.
        for value in array.f64s(range)? {
            if value.fract() != 0.0 || !value.is_finite() {
                let problem = format!("row {} is {value}; labels are whole numbers, counted from 0", labels.len());
                return Err(wrong(path, problem));
            }
            match value as i64 {
                label if (0..most as i64).contains(&label) => labels.push(label as u16),
                label => return outside(labels.len(), label),
            }
        }
    }

    let classes = labels.iter().max().map_or(0, |highest| usize::from(*highest) + 1);
    Ok((labels, classes))
}

/// The class of a one-hot row.
fn hot(row: &[f64]) -> Result<u16, String> {
    let (mut ones, mut zeros, mut hot) = (0, 0, 0);
    for (class, value) in row.iter().enumerate() {
        match *value {
            1.0 => (ones, hot) = (ones + 1, class),
            0.0 => zeros += 1,
            _ => {}
        }
    }
    match u16::try_from(hot) {
        Ok(hot) if ones == 1 && zeros == row.len() - 1 => Ok(hot),
        _ => Err(format!("is not one-hot: it has {ones} ones and {zeros} zeros")),
    }
}

/// The classes, as numbers, that no label names.
pub(crate) fn unused_classes(labels: impl Iterator<Item = u16>, classes: usize) -> Vec<usize> {
    let mut used = vec![false; classes];
    for label in labels {
        if let Some(used) = used.get_mut(usize::from(label)) {
            *used = true;
        }
    }
    (0..classes).filter(|class| !used[*class]).collect()
}

/// A sentence for people about classes without images; their numbers stand in for names that are missing.
pub(crate) fn describe_unused(unused: &[usize], names: &[String]) -> Option<String> {
    let name = |class: &usize| names.get(*class).cloned().unwrap_or_else(|| class.to_string());
    let mut first = unused.iter().take(5).map(name).collect::<Vec<_>>().join(", ");
    if unused.len() > 5 {
        first = format!("{first}, …");
    }
    let from_one = if unused.first() == Some(&0) && names.is_empty() {
        "; labels are counted from 0: were these counted from 1?"
    } else {
        ""
    };
    match unused.len() {
        0 => None,
        1 => Some(format!("class {first} has no images{from_one}")),
        count => Some(format!("{count} classes have no images ({first}){from_one}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_without_images_are_named() {
        let of = |labels: &[u16], classes, names: &[String]| {
            describe_unused(&unused_classes(labels.iter().copied(), classes), names)
        };
        assert_eq!(of(&[0, 1, 1], 2, &[]), None);
        assert!(of(&[1, 2], 3, &[]).unwrap().starts_with("class 0 has no images; labels are counted from 0"));
        let names = ["cat", "dog", "cow"].map(str::to_owned);
        assert_eq!(of(&[1], 3, &names).unwrap(), "2 classes have no images (cat, cow)");
        assert!(of(&[7], 8, &[]).unwrap().starts_with("7 classes have no images (0, 1, 2, 3, 4, …)"));
    }
}
