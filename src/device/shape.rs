//! A tensor's dimensions, without memory of their own.

use super::shape_check::{self, MAX_RANK};

/// Up to [`MAX_RANK`] dimensions, in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    rank: usize,
    dimensions: [usize; MAX_RANK],
}

impl Shape {
    /// A shape that an op asks for; the error names `op`.
    pub(super) fn new(op: &'static str, shape: &[usize]) -> shape_check::Result<Self> {
        shape_check::tensor(op, shape)?;
        let mut dimensions = [1; MAX_RANK];
        dimensions[..shape.len()].copy_from_slice(shape);
        Ok(Self { rank: shape.len(), dimensions })
    }

    /// The same but for the last dimension.
    pub(super) fn with_last(mut self, last: usize) -> Self {
        self.dimensions[self.rank - 1] = last;
        self
    }

    pub(super) fn volume(&self) -> usize {
        self.as_slice().iter().product()
    }

    pub(super) fn as_slice(&self) -> &[usize] {
        &self.dimensions[..self.rank]
    }
}
