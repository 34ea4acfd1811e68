//! Passes over every element.

use crate::device::shape_check::{self, error, exactly};
use crate::device::{Result, Tensors};

/// Passes over every element.
pub trait ElementwiseOps: Tensors {
    /// Sets every element to zero.
    fn zero(&self, tensor: &mut Self::Tensor) -> Result<()>;

    /// `into += other`, same shapes.
    fn add_assign(&self, into: &mut Self::Tensor, other: &Self::Tensor) -> Result<()>;

    /// `into += rows[row]`: `[n]` and `[rows, n]`, both f32, n a multiple of [`ROW_MULTIPLE`].
    fn add_row(&self, into: &mut Self::Tensor, rows: &Self::Tensor, row: usize) -> Result<()>;
}

/// Elements that the rows of [`ElementwiseOps::add_row`] are a multiple of: each then starts where vectors are loaded from.
pub const ROW_MULTIPLE: usize = 64;

/// Checks that two shapes are the same.
pub fn check(into: &[usize], other: &[usize]) -> shape_check::Result<()> {
    exactly("add_assign", "other", other, into)
}

/// Checks `add_row`; returns the elements of a row.
pub fn check_row(into: &[usize], rows: &[usize], row: usize) -> shape_check::Result<usize> {
    let &[count, columns] = rows else { return error("add_row", "rows", "a matrix", rows) };
    exactly("add_row", "into", into, &[columns])?;
    if !columns.is_multiple_of(ROW_MULTIPLE) {
        return error("add_row", "into", format!("of a multiple of {ROW_MULTIPLE} elements"), into);
    }
    if row >= count { error("add_row", "row", format!("below {count}"), row) } else { Ok(columns) }
}
