//! Token arrays: `.npy` `[N, n]` of integers, with labels one-hot `[N, classes]` or integer `[N]`.
//!
//! The form of the official data (`imagenet_trX.npy` and so on; openai/image-gpt, src/run.py).

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::data::augment_key::AugmentKey;
use crate::data::dataset::Examples;
use crate::data::error::{DataError, Result};
use crate::data::npy::Npy;

/// Maximum number of classes of a label file.
const MAX_CLASSES: i64 = 1 << 16;

/// Sequences of a token array, memory-mapped, every token and label checked on opening.
pub struct TokenArray {
    path: PathBuf,
    array: Npy,
    length: usize,
    vocabulary: usize,
    labels: Option<Vec<u16>>,
    classes: usize,
}

impl TokenArray {
    /// Opens a token array for a palette of `vocabulary` colours, with its labels.
    ///
    /// # Errors
    /// [`DataError::Read`], [`DataError::Npy`] for other arrays; [`DataError::Token`] for the first token that the
    /// palette does not have; [`DataError::Count`] and [`DataError::Label`] for labels that do not fit.
    pub fn open(path: &Path, labels: Option<&Path>, vocabulary: usize) -> Result<Self> {
        let array = Npy::open(path)?;
        let &[rows, length] = array.shape() else {
            let problem = format!("has shape {:?}, needed are tokens [N, n]", array.shape());
            return Err(DataError::Npy { path: path.to_owned(), problem });
        };
        if rows == 0 || length == 0 || u32::try_from(rows).is_err() {
            let problem = format!("has shape [{rows}, {length}]; needed are 1 to 2^32 - 1 rows of at least one token");
            return Err(DataError::Npy { path: path.to_owned(), problem });
        }

        // Every token is checked once, here: reading them later cannot fail.
        drop(array.integers(0..0)?);
        let fault = (0..rows).into_par_iter().find_map_first(|row| {
            let mut tokens = array.integers(row * length..(row + 1) * length).ok()?;
            let column = tokens.position(|token| !usize::try_from(token).is_ok_and(|token| token < vocabulary))?;
            let at = row * length + column;
            let token = array.integers(at..at + 1).ok()?.next()?;
            Some(DataError::Token { path: path.to_owned(), row, column, token, vocabulary })
        });
        if let Some(fault) = fault {
            return Err(fault);
        }

        let (labels, classes) = match labels {
            Some(label_path) => {
                let (labels, classes) = read_labels(label_path)?;
                if labels.len() != rows {
                    let (path, label_path) = (path.to_owned(), label_path.to_owned());
                    return Err(DataError::Count { path, examples: rows, label_path, labels: labels.len() });
                }
                (Some(labels), classes)
            }
            None => (None, 0),
        };
        Ok(TokenArray { path: path.to_owned(), array, length, vocabulary, labels, classes })
    }
}

/// Labels and the number of classes. Integer labels have one class more than the highest.
fn read_labels(path: &Path) -> Result<(Vec<u16>, usize)> {
    let array = Npy::open(path)?;
    match *array.shape() {
        [_] => {
            let mut labels = Vec::with_capacity(array.len());
            for (record, label) in array.integers(0..array.len())?.enumerate() {
                let small = u16::try_from(label).map_err(|_| DataError::Label {
                    path: path.to_owned(),
                    record,
                    label,
                    first: 0,
                    last: MAX_CLASSES - 1,
                })?;
                labels.push(small);
            }
            let classes = labels.iter().max().map_or(0, |&highest| usize::from(highest) + 1);
            Ok((labels, classes))
        }

        [rows, classes] if classes > 0 && classes as i64 <= MAX_CLASSES => {
            let mut labels = Vec::new();
            for row in 0..rows {
                let values: Vec<f64> = array.f64s(row * classes..(row + 1) * classes).collect();
                let ones = values.iter().filter(|&&value| value == 1.0).count();
                let zeros = values.iter().filter(|&&value| value == 0.0).count();
                let hot = values.iter().position(|&value| value == 1.0).and_then(|hot| u16::try_from(hot).ok());
                match hot {
                    Some(hot) if ones == 1 && zeros == classes - 1 => labels.push(hot),
                    _ => {
                        let problem = format!("row {row} is not one-hot: it has {ones} ones and {zeros} zeros");
                        return Err(DataError::Npy { path: path.to_owned(), problem });
                    }
                }
            }
            Ok((labels, classes))
        }

        ref shape => {
            let problem = format!("has shape {shape:?}, needed are labels [N], or one-hot [N, classes]");
            Err(DataError::Npy { path: path.to_owned(), problem })
        }
    }
}

impl Examples for TokenArray {
    fn len(&self) -> usize {
        self.array.len() / self.length
    }

    fn sequence_length(&self) -> usize {
        self.length
    }

    fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn tokens(&self, index: usize, _augment: Option<AugmentKey>, out: &mut [u16]) -> Result<()> {
        if index >= self.len() {
            return Err(DataError::index(index, self.len()));
        }
        if out.len() != self.length {
            let limit = format!("the sequences have {} tokens", self.length);
            return Err(DataError::Bounds { what: "the length of the token buffer", got: out.len(), limit });
        }
        let tokens = self.array.integers(index * self.length..(index + 1) * self.length)?;
        for (out, token) in out.iter_mut().zip(tokens) {
            // Checked on opening.
            *out = token as u16;
        }
        Ok(())
    }

    fn label(&self, index: usize) -> Option<u16> {
        self.labels.as_ref()?.get(index).copied()
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn describe(&self) -> String {
        let labels = if self.classes > 0 { format!("{} classes", self.classes) } else { "no labels".into() };
        format!("tokens in {}: {} sequences of {}, {labels}", self.path.display(), self.len(), self.length)
    }
}
