//! Token and position embeddings.

use super::CpuDevice;
use super::math::axpy;
use super::parallel::{ROW_BLOCK, blocked};
use super::tensor::{CpuTensor, CpuTokens};
use crate::device::ops::embedding::{BLANK, EmbeddingDims, EmbeddingOps, check, check_backward, check_first};
use crate::device::{Beta, Result, tokens};

impl EmbeddingOps for CpuDevice {
    fn embedding(
        &self,
        table: &CpuTensor,
        positions: &CpuTensor,
        ids: &CpuTokens,
        first: Option<&CpuTokens>,
    ) -> Result<CpuTensor> {
        let dims = check(table.dimensions(), positions.dimensions(), ids.shape, first.map(|first| first.shape))?;
        tokens::check_rows(&ids.ids, dims.rows)?;
        let EmbeddingDims { batch, tokens, width, .. } = dims;
        let first = first.map_or(0, |first| first.ids[0]);
        check_first(first, positions.dimensions()[0], tokens)?;
        let _timed = self.time("embedding", 0.0, 3 * batch * tokens * width);
        let mut y = self.shaped("embedding", &[batch, tokens, width])?;

        let (table, positions, ids) = (table.values(), &positions.values[usize::from(first) * width..], &ids.ids);
        let outputs = [blocked(&mut y.values, ROW_BLOCK * width)];
        self.for_each_block(ids.len().div_ceil(ROW_BLOCK), ids.len() * width, outputs, |index, [y]| {
            for (row, y) in y.chunks_exact_mut(width).enumerate() {
                let row = index * ROW_BLOCK + row;
                let position = &positions[row % tokens * width..][..width];
                match ids[row] {
                    BLANK => y.copy_from_slice(position),
                    id => {
                        let content = &table[usize::from(id) * width..][..width];
                        y.iter_mut()
                            .zip(content)
                            .zip(position)
                            .for_each(|((y, content), position)| *y = content + position);
                    }
                }
            }
        });
        Ok(y)
    }

    fn embedding_backward(
        &self,
        dy: &CpuTensor,
        ids: &CpuTokens,
        d_table: &mut CpuTensor,
        d_positions: &mut CpuTensor,
        beta: Beta,
    ) -> Result<()> {
        let dims = check_backward(dy.dimensions(), ids.shape, d_table.dimensions(), d_positions.dimensions())?;
        tokens::check_rows(&ids.ids, dims.rows)?;
        let EmbeddingDims { batch, tokens, width, rows } = dims;
        let _timed = self.time("embedding_backward", 0.0, (2 * batch * tokens + rows + tokens) * width);
        let dy = dy.values();

        // Each row of the table collects the gradients of its own tokens, in the order in which they stand.
        let occurrences = Occurrences::of(&ids.ids, rows);
        self.for_each_block(rows, dy.len(), [blocked(&mut d_table.values, width)], |row, [d_row]| {
            if beta == Beta::Zero {
                d_row.fill(0.0);
            }
            for &index in occurrences.of_token(row) {
                axpy(1.0, &dy[index as usize * width..][..width], d_row);
            }
        });

        // Each position sums over the images.
        let (d_positions, beyond) = d_positions.values.split_at_mut(tokens * width);
        if beta == Beta::Zero {
            beyond.fill(0.0);
        }
        self.for_each_block(tokens, dy.len(), [blocked(d_positions, width)], |token, [d_row]| {
            if beta == Beta::Zero {
                d_row.fill(0.0);
            }
            for image in 0..batch {
                axpy(1.0, &dy[(image * tokens + token) * width..][..width], d_row);
            }
        });
        Ok(())
    }
}

/// The indices at which each token occurs in a batch, by a counting sort.
struct Occurrences {
    /// Where each token's indices end in `indices`; `[rows + 1]`, the first is 0.
    ends: Vec<usize>,
    indices: Vec<u32>,
}

impl Occurrences {
    fn of(ids: &[u16], rows: usize) -> Self {
        // How often each token occurs, as running sums.
        let content = || ids.iter().enumerate().filter(|&(_, &id)| id != BLANK);
        let mut ends = vec![0; rows + 1];
        content().for_each(|(_, &id)| ends[usize::from(id) + 1] += 1);
        (0..rows).for_each(|row| ends[row + 1] += ends[row]);

        // Each index into its token's range.
        let mut next = ends.clone();
        let mut indices = vec![0; ends[rows]];
        for (index, &id) in content() {
            let slot = &mut next[usize::from(id)];
            indices[*slot] = index as u32;
            *slot += 1;
        }
        Self { ends, indices }
    }

    fn of_token(&self, token: usize) -> &[u32] {
        &self.indices[self.ends[token]..self.ends[token + 1]]
    }
}
