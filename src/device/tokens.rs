//! Which tokens an op takes: checked here for all devices, before anything is written.

use super::{BLANK, Error, Result};

/// Checks that every token is one of `rows` rows of a table, or [`BLANK`].
pub(crate) fn check_rows(ids: &[u16], rows: usize) -> Result<()> {
    match ids.iter().position(|&id| id != BLANK && usize::from(id) >= rows) {
        None => Ok(()),
        Some(position) => Err(Error::Token { token: ids[position], position, rows }),
    }
}

/// Checks that every token is one of `rows`.
pub(crate) fn check_all(ids: &[u16], rows: usize) -> Result<()> {
    match ids.iter().position(|&id| usize::from(id) >= rows) {
        None => Ok(()),
        Some(position) => Err(Error::Token { token: ids[position], position, rows }),
    }
}

/// Checks that every row that counts has a target below `vocabulary`.
pub(crate) fn check_targets(targets: &[u16], weights: &[f32], vocabulary: usize) -> Result<()> {
    let bad = |(&target, &weight): (&u16, &f32)| weight != 0.0 && usize::from(target) >= vocabulary;
    match targets.iter().zip(weights).position(bad) {
        None => Ok(()),
        Some(position) => Err(Error::Token { token: targets[position], position, rows: vocabulary }),
    }
}
