//! Token and position embeddings.

use crate::device::shape_check::{self, error, exactly, matrix};
use crate::device::{Beta, Result, Tensors};

/// The token that is not there: its content embedding is the zero vector (BERT's masked positions).
pub const BLANK: u16 = u16::MAX;

/// Token and position embeddings, forward and backward.
pub trait EmbeddingOps: Tensors {
    /// `y[b, t] = table[ids[b, t]] + positions[first + t]`, `[B, T, d]`; [`BLANK`] has no row and adds nothing.
    ///
    /// `table` is `[rows, d]`, `positions` `[positions, d]` with `first + T ≤ positions`. `first` `[1, 1]` is read from the device's
    /// memory, so that a recorded step reads at each replay what it has been overwritten with; without it the first position is 0.
    fn embedding(
        &self,
        table: &Self::Tensor,
        positions: &Self::Tensor,
        ids: &Self::Tokens,
        first: Option<&Self::Tokens>,
    ) -> Result<Self::Tensor>;

    /// `d_table[ids[b, t]] += dy[b, t]`, `d_positions[t] += Σ_b dy[b, t]`. With [`Beta::Zero`] all rows of both are written: those
    /// of no token with zeros.
    fn embedding_backward(
        &self,
        dy: &Self::Tensor,
        ids: &Self::Tokens,
        d_table: &mut Self::Tensor,
        d_positions: &mut Self::Tensor,
        beta: Beta,
    ) -> Result<()>;
}

/// Dimensions of an embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddingDims {
    /// Images.
    pub batch: usize,
    /// Tokens per image.
    pub tokens: usize,
    /// Width.
    pub width: usize,
    /// Rows of the table.
    pub rows: usize,
}

/// Checks the shapes of `embedding`.
pub fn check(
    table: &[usize],
    positions: &[usize],
    ids: [usize; 2],
    first: Option<[usize; 2]>,
) -> shape_check::Result<EmbeddingDims> {
    const OP: &str = "embedding";
    let [rows, width] = matrix(OP, "table", table)?;
    let [last, _] = matrix(OP, "positions", positions)?;
    exactly(OP, "positions", positions, &[last, width])?;
    let [batch, tokens] = ids;
    first.map_or(Ok(()), |first| exactly(OP, "first", &first, &[1, 1]))?;
    check_first(0, last, tokens)?;
    Ok(EmbeddingDims { batch, tokens, width, rows })
}

/// Checks the position of the first of `tokens` tokens, where it is known, of `last` that there are.
pub fn check_first(first: u16, last: usize, tokens: usize) -> shape_check::Result<()> {
    if usize::from(first) + tokens <= last {
        return Ok(());
    }
    error("embedding", "first", format!("at most {last} positions less {tokens} tokens"), first)
}

/// Checks the shapes of `embedding_backward`.
pub fn check_backward(
    dy: &[usize],
    ids: [usize; 2],
    d_table: &[usize],
    d_positions: &[usize],
) -> shape_check::Result<EmbeddingDims> {
    const OP: &str = "embedding_backward";
    let [rows, width] = matrix(OP, "d_table", d_table)?;
    let [batch, tokens] = ids;
    exactly(OP, "dy", dy, &[batch, tokens, width])?;
    let [positions, _] = matrix(OP, "d_positions", d_positions)?;
    exactly(OP, "d_positions", d_positions, &[positions.max(tokens), width])?;
    Ok(EmbeddingDims { batch, tokens, width, rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_end_with_their_table() {
        assert!(check(&[9, 4], &[6, 4], [2, 6], None).is_ok());
        assert!(check(&[9, 4], &[6, 4], [2, 7], None).is_err());
        assert!(check(&[9, 4], &[6, 4], [2, 5], Some([1, 2])).is_err());
        assert!(check_first(1, 6, 5).is_ok());
        assert!(check_first(2, 6, 5).is_err());
        assert!(check_first(u16::MAX, 6, 5).is_err());
    }
}
