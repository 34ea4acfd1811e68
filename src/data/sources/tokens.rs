//! Token arrays: `.npy` (or an array of a `.npz`) `[N, n]` or `[N, side, side]` of integers, with labels one-hot
//! `[N, classes]` or integer `[N]`.
//!
//! The form of the official data (`imagenet_trX.npy` and so on; openai/image-gpt, src/run.py).

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::data::augment_key::AugmentKey;
use crate::data::dataset::Examples;
use crate::data::error::{DataError, Result};
use crate::data::labels::read_labels;
use crate::data::npy::Npy;

/// Maximum number of classes of a label file.
const MAX_CLASSES: usize = 1 << 16;
/// Tokens checked at a time.
const PIECE: usize = 1 << 16;

/// Sequences of a token array, read from the file row by row; every token and label is checked on opening.
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
        let wrong = |problem: String| DataError::Npy { path: path.to_owned(), problem };
        let (rows, length) = match *array.shape() {
            [rows, length] => (rows, length),
            [rows, height, width] if height == width => (rows, height.saturating_mul(width)),
            ref shape => {
                return Err(wrong(format!("has shape {shape:?}, needed are tokens [N, n] or [N, side, side]")));
            }
        };
        if rows == 0 || length == 0 || u32::try_from(rows).is_err() {
            let shape = array.shape();
            return Err(wrong(format!("has shape {shape:?}; needed are 1 to 2^32 - 1 rows of at least one token")));
        }

        let opened = TokenArray { path: path.to_owned(), array, length, vocabulary, labels: None, classes: 0 };
        opened.check(rows)?;
        let Some(label_path) = labels else { return Ok(opened) };
        let (labels, classes) = read_labels(label_path, MAX_CLASSES)?;
        if labels.len() != rows {
            let (path, label_path) = (path.to_owned(), label_path.to_owned());
            return Err(DataError::Count { path, examples: rows, label_path, labels: labels.len() });
        }
        Ok(TokenArray { labels: Some(labels), classes, ..opened })
    }

    /// Looks at every token once.
    fn check(&self, rows: usize) -> Result<()> {
        drop(self.array.integers(0..0)?);
        let together = (PIECE / self.length).max(1);
        let fault = (0..rows.div_ceil(together)).into_par_iter().find_map_first(|block| {
            let first = block * together;
            let last = rows.min(first + together);
            let mut tokens = match self.array.integers(first * self.length..last * self.length) {
                Ok(tokens) => tokens.enumerate(),
                Err(error) => return Some(error),
            };
            let (at, token) = tokens.find(|(_, token)| !self.is_token(*token))?;
            Some(self.not_a_token(first + at / self.length, at % self.length, token))
        });
        fault.map_or(Ok(()), Err)
    }

    fn is_token(&self, token: i64) -> bool {
        usize::try_from(token).is_ok_and(|token| token < self.vocabulary)
    }

    fn not_a_token(&self, row: usize, column: usize, token: i64) -> DataError {
        DataError::Token { path: self.path.clone(), row, column, token, vocabulary: self.vocabulary }
    }

    /// SHA-256 of the file's header and tokens, in hex, verified on opening; `None` for a file that was not written here.
    pub fn sha256(&self) -> Option<String> {
        self.array.sha256()
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
        for (column, (out, token)) in out.iter_mut().zip(tokens).enumerate() {
            // Checked on opening; the file may have been written to since.
            if !self.is_token(token) {
                return Err(self.not_a_token(index, column, token));
            }
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
