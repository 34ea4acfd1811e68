//! The pieces that the shape checks of the ops are made of, and the error that they give.
//!
//! Each op checks its shapes once, for all devices, in a function beside its trait (`device/ops`): it takes the shapes
//! of the arguments and returns the dimensions that the op works with, or a [`ShapeError`] that names the op, the
//! argument, what would have fitted, and what came. No tensor has an empty dimension ([`tensor`] refuses to make one),
//! so no op ever meets a zero.

use std::fmt::Debug;

/// The largest number of dimensions of a tensor.
pub const MAX_RANK: usize = 4;

/// An argument that does not fit an op's other arguments.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{op}: {argument} must be {expected}, not {got}")]
pub struct ShapeError {
    /// The op, a method of [`Device`](super::Device).
    pub op: &'static str,
    /// Its argument.
    pub argument: &'static str,
    /// What fits.
    pub expected: String,
    /// What came.
    pub got: String,
}

/// Result of a check.
pub type Result<T> = std::result::Result<T, ShapeError>;

pub(super) fn error<T>(
    op: &'static str,
    argument: &'static str,
    expected: impl Into<String>,
    got: impl Debug,
) -> Result<T> {
    Err(ShapeError { op, argument, expected: expected.into(), got: format!("{got:?}") })
}

pub(super) fn exactly(op: &'static str, argument: &'static str, got: &[usize], expected: &[usize]) -> Result<()> {
    if got == expected { Ok(()) } else { error(op, argument, format!("{expected:?}"), got) }
}

pub(super) fn maybe(op: &'static str, argument: &'static str, got: Option<&[usize]>, expected: &[usize]) -> Result<()> {
    got.map_or(Ok(()), |got| exactly(op, argument, got, expected))
}

/// Splits off the last dimension: `[.., d]` is `(rows, d)`.
pub(super) fn rows(op: &'static str, argument: &'static str, shape: &[usize]) -> Result<(usize, usize)> {
    match shape.split_last() {
        Some((&last, front)) => Ok((front.iter().product(), last)),
        None => error(op, argument, "of at least one dimension", shape),
    }
}

pub(super) fn matrix(op: &'static str, argument: &'static str, shape: &[usize]) -> Result<[usize; 2]> {
    shape.try_into().or_else(|_| error(op, argument, "a matrix", shape))
}

pub(super) fn cube(op: &'static str, argument: &'static str, shape: &[usize]) -> Result<[usize; 3]> {
    shape.try_into().or_else(|_| error(op, argument, "of three dimensions", shape))
}

/// `got` must be `like` but for a last dimension of `last`.
pub(super) fn like_with_last(
    op: &'static str,
    argument: &'static str,
    got: &[usize],
    like: &[usize],
    last: usize,
) -> Result<()> {
    match (got.split_last(), like.split_last()) {
        (Some((&end, front)), Some((_, like))) if end == last && front == like => Ok(()),
        (_, Some((_, like))) => error(op, argument, format!("{like:?} and then {last}"), got),
        _ => error(op, argument, "of at least one dimension", got),
    }
}

/// Checks that `copy` stays inside both tensors, and copies something.
pub(super) fn copy(from: &[usize], first: usize, to: &[usize], start: usize, count: usize) -> Result<()> {
    for (argument, shape, offset) in [("from", from, first), ("to", to, start)] {
        let volume: usize = shape.iter().product();
        if count == 0 || offset.checked_add(count).is_none_or(|end| end > volume) {
            return error("copy", argument, format!("of {count} elements from element {offset} on"), shape);
        }
    }
    Ok(())
}

/// Checks that `round` has as many elements on both sides.
pub(super) fn round(from: &[usize], to: &[usize]) -> Result<()> {
    let count: usize = from.iter().product();
    if to.iter().product::<usize>() == count {
        Ok(())
    } else {
        error("round", "to", format!("of {count} elements"), to)
    }
}

/// The number of elements of a tensor of `shape`: one to [`MAX_RANK`] dimensions, none of them zero.
pub fn tensor(op: &'static str, shape: &[usize]) -> Result<usize> {
    let volume = shape.iter().try_fold(1usize, |volume, &dimension| volume.checked_mul(dimension));
    match volume {
        // A slice of floats cannot be longer than isize::MAX bytes.
        Some(volume) if (1..=MAX_RANK).contains(&shape.len()) && volume > 0 && volume <= isize::MAX as usize / 8 => {
            Ok(volume)
        }
        _ => error(op, "shape", format!("one to {MAX_RANK} dimensions, none zero, that memory can hold"), shape),
    }
}

/// The number of elements of a tensor of `shape`, which `values` must be.
pub fn upload(shape: &[usize], values: usize) -> Result<usize> {
    let volume = tensor("upload", shape)?;
    if volume == values { Ok(volume) } else { error("upload", "values", format!("{volume} for {shape:?}"), values) }
}

/// Checks that the tensor holds exactly `values` values.
pub fn overwrite(shape: &[usize], values: usize) -> Result<()> {
    let volume: usize = shape.iter().product();
    if volume == values { Ok(()) } else { error("overwrite", "values", format!("{volume} for {shape:?}"), values) }
}

/// The shape of `rows` slices of a tensor of `shape` along its first axis, all of which must be there, and the elements of one.
pub fn gather(shape: &[usize], rows: &[usize]) -> Result<(Vec<usize>, usize)> {
    const OP: &str = "gather";
    let Some((&count, slice)) = shape.split_first() else {
        return error(OP, "tensor", "of at least one dimension", shape);
    };
    if let Some(beyond) = rows.iter().find(|row| **row >= count) {
        return error(OP, "rows", format!("below {count}"), beyond);
    }
    let shape: Vec<usize> = std::iter::once(rows.len()).chain(slice.iter().copied()).collect();
    tensor(OP, &shape)?;
    Ok((shape, slice.iter().product()))
}

/// Checks that `ids` token ids fill `[B, T]`.
pub fn upload_tokens(shape: [usize; 2], ids: usize) -> Result<()> {
    let volume = tensor("upload_tokens", &shape)?;
    if volume == ids { Ok(()) } else { error("upload_tokens", "ids", format!("{volume} for {shape:?}"), ids) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tensor_is_empty_or_larger_than_memory() {
        assert_eq!(tensor("zeros", &[2, 3]), Ok(6));
        for shape in [&[][..], &[3, 0], &[1, 1, 1, 1, 1], &[usize::MAX, 2], &[1 << 40, 1 << 30]] {
            assert!(tensor("zeros", shape).is_err(), "{shape:?}");
        }
    }
}
