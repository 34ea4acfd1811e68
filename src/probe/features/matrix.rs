//! Rows of features, wherever they lie: in memory, in a file, or picked from other rows.

use std::ops::Range;

use crate::probe::error::{ProbeError, Result};

/// Rows that one task works on: fixed, so that sums do not depend on the threads.
pub(in crate::probe) const ROW_BLOCK: usize = 512;

/// A matrix `[N, F]` that is read some rows at a time.
pub trait Rows: Sync {
    /// Rows, `N`.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Features of a row, `F`.
    fn width(&self) -> usize;

    /// Writes row `row` to `out` `[F]`.
    ///
    /// # Errors
    /// [`ProbeError::Data`] where rows lie in a file that can no longer be read.
    ///
    /// # Panics
    /// For a row beyond the end or an `out` of another length, as indexing does.
    fn row(&self, row: usize, out: &mut [f32]) -> Result<()>;

    /// Writes `rows` to `out` `[rows, F]`.
    ///
    /// # Errors
    /// As [`Rows::row`].
    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        rows.zip(out.chunks_exact_mut(self.width())).try_for_each(|(row, out)| self.row(row, out))
    }
}

/// Rows in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    width: usize,
    values: Vec<f32>,
}

impl Matrix {
    /// `values` as rows of `width`.
    ///
    /// # Errors
    /// [`ProbeError::Unfit`] where they are not a whole number of rows.
    pub fn new(width: usize, values: Vec<f32>) -> Result<Self> {
        if width == 0 || !values.len().is_multiple_of(width) {
            return Err(ProbeError::Unfit(format!(
                "{} values are not a whole number of rows of {width}",
                values.len()
            )));
        }
        Ok(Matrix { width, values })
    }
}

impl Rows for Matrix {
    fn len(&self) -> usize {
        self.values.len() / self.width
    }

    fn width(&self) -> usize {
        self.width
    }

    fn row(&self, row: usize, out: &mut [f32]) -> Result<()> {
        out.copy_from_slice(&self.values[row * self.width..][..self.width]);
        Ok(())
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        out.copy_from_slice(&self.values[rows.start * self.width..rows.end * self.width]);
        Ok(())
    }
}

/// Some rows of others, in an order of their own.
pub struct Picked<'a> {
    rows: &'a dyn Rows,
    indices: &'a [u32],
}

impl<'a> Picked<'a> {
    /// The rows `indices`.
    ///
    /// # Panics
    /// Not here, but when a row beyond the end is read.
    pub fn new(rows: &'a dyn Rows, indices: &'a [u32]) -> Self {
        Picked { rows, indices }
    }
}

impl Rows for Picked<'_> {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn width(&self) -> usize {
        self.rows.width()
    }

    fn row(&self, row: usize, out: &mut [f32]) -> Result<()> {
        self.rows.row(self.indices[row] as usize, out)
    }
}

/// Rows `block · ROW_BLOCK ..` as f64, `[rows, F]`.
///
/// # Errors
/// As [`Rows::row`].
pub(in crate::probe) fn read_block(rows: &dyn Rows, block: usize) -> Result<Vec<f64>> {
    let range = block * ROW_BLOCK..rows.len().min((block + 1) * ROW_BLOCK);
    let mut values = vec![0.0_f32; range.len() * rows.width()];
    rows.read(range, &mut values)?;
    Ok(values.into_iter().map(f64::from).collect())
}

/// The labels of [`Picked`] rows.
pub fn pick_labels(labels: &[u16], indices: &[u32]) -> Vec<u16> {
    indices.iter().map(|index| labels[*index as usize]).collect()
}

/// Finds the first value that is not finite: `(row, column, value)`.
///
/// # Errors
/// As [`Rows::row`].
pub fn first_not_finite(rows: &dyn Rows) -> Result<Option<(usize, usize, f32)>> {
    let mut buffer = vec![0.0; rows.width()];
    for row in 0..rows.len() {
        rows.row(row, &mut buffer)?;
        if let Some(column) = buffer.iter().position(|value| !value.is_finite()) {
            return Ok(Some((row, column, buffer[column])));
        }
    }
    Ok(None)
}
