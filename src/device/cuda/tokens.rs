//! Token ids on the device, and what the host knows of them.

use super::memory::Buffer;
use crate::device::ops::{attention_decode, embedding};
use crate::device::{Result, tokens};

/// A dense row-major array of token ids on a [`CudaDevice`](super::CudaDevice).
pub struct CudaTokens {
    pub(super) shape: [usize; 2],
    pub(super) ids: Buffer,
    pub(super) known: Known,
}

/// What the host knows of tokens without asking the device.
pub(super) enum Known {
    /// All of them.
    Ids(Vec<u16>),
    /// That they are below this.
    Below(usize),
}

impl CudaTokens {
    /// Checks that every token is a row of a table of `rows`, or blank.
    pub(super) fn check_rows(&self, rows: usize) -> Result<()> {
        match &self.known {
            Known::Ids(ids) => tokens::check_rows(ids, rows),
            Known::Below(below) if *below <= rows => Ok(()),
            Known::Below(_) => tokens::check_rows(&self.download()?, rows),
        }
    }

    /// Checks that every row that counts has a target below `vocabulary`; asks for the weights only if some token is
    /// not.
    pub(super) fn check_targets(&self, vocabulary: usize, weights: impl FnOnce() -> Result<Vec<f32>>) -> Result<()> {
        let inside = match &self.known {
            Known::Ids(ids) => ids.iter().all(|&id| usize::from(id) < vocabulary),
            Known::Below(below) => *below <= vocabulary,
        };
        if inside { Ok(()) } else { tokens::check_targets(&self.download()?, &weights()?, vocabulary) }
    }

    /// Checks that all of them are positions of a cache of `positions`.
    pub(super) fn check_position(&self, positions: usize) -> Result<()> {
        if matches!(self.known, Known::Below(below) if below <= positions) {
            return Ok(());
        }
        self.download()?
            .iter()
            .try_for_each(|position| attention_decode::check_position(usize::from(*position), positions))?;
        Ok(())
    }

    /// Checks that all of them are positions from which on there are `tokens` of `last`.
    pub(super) fn check_first(&self, last: usize, tokens: usize) -> Result<()> {
        if matches!(self.known, Known::Below(below) if below + tokens <= last + 1) {
            return Ok(());
        }
        self.download()?.iter().try_for_each(|first| embedding::check_first(*first, last, tokens))?;
        Ok(())
    }

    pub(super) fn download(&self) -> Result<Vec<u16>> {
        match &self.known {
            Known::Ids(ids) => Ok(ids.clone()),
            Known::Below(_) => {
                let mut ids = vec![0; self.shape.iter().product()];
                self.ids.download(0, &mut ids)?;
                Ok(ids)
            }
        }
    }
}
