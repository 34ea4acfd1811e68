//! Token and position embeddings.

use super::CpuDevice;
use super::math::axpy;
use super::parallel::{ROW_BLOCK, blocked};
use crate::device::BLANK;
use crate::device::contract::EmbeddingDims;

/// Sets `y` `[batch · tokens, width]`. `positions` begins at the first token's.
pub(super) fn embedding(
    device: &CpuDevice,
    dims: EmbeddingDims,
    table: &[f32],
    positions: &[f32],
    ids: &[u16],
    y: &mut [f32],
) {
    let EmbeddingDims { tokens, width, .. } = dims;
    let outputs = [blocked(y, ROW_BLOCK * width)];
    device.for_each_block(ids.len().div_ceil(ROW_BLOCK), ids.len() * width, outputs, |index, [y]| {
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
}

/// Adds to `d_table` `[rows, width]` and `d_positions` `[tokens or more, width]`.
///
/// Each row of the table collects its own tokens, in the order in which they stand.
pub(super) fn embedding_backward(
    device: &CpuDevice,
    dims: EmbeddingDims,
    dy: &[f32],
    ids: &[u16],
    d_table: &mut [f32],
    d_positions: &mut [f32],
) {
    let EmbeddingDims { batch, tokens, width, rows } = dims;
    let places = places_by_token(ids, rows);
    device.for_each_block(rows, dy.len(), [blocked(d_table, width)], |row, [d_row]| {
        for &place in places.of(row) {
            axpy(1.0, &dy[place as usize * width..][..width], d_row);
        }
    });
    device.for_each_block(tokens, dy.len(), [blocked(&mut d_positions[..tokens * width], width)], |token, [d_row]| {
        for image in 0..batch {
            axpy(1.0, &dy[(image * tokens + token) * width..][..width], d_row);
        }
    });
}

/// Where each token stands, by a counting sort.
struct Places {
    /// Where each token's places end in `places`; `[rows + 1]`, the first is 0.
    ends: Vec<usize>,
    places: Vec<u32>,
}

impl Places {
    fn of(&self, token: usize) -> &[u32] {
        &self.places[self.ends[token]..self.ends[token + 1]]
    }
}

fn places_by_token(ids: &[u16], rows: usize) -> Places {
    let content = || ids.iter().enumerate().filter(|&(_, &id)| id != BLANK);
    let mut ends = vec![0; rows + 1];
    content().for_each(|(_, &id)| ends[usize::from(id) + 1] += 1);
    (0..rows).for_each(|row| ends[row + 1] += ends[row]);
    let mut next = ends.clone();
    let mut places = vec![0; ends[rows]];
    for (place, &id) in content() {
        let slot = &mut next[usize::from(id)];
        places[*slot] = place as u32;
        *slot += 1;
    }
    Places { ends, places }
}
