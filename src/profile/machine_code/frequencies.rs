//! How often each block of a kernel's machine code runs.
//!
//! The simulator counts instructions of the PTX; the machine code has others. But some are the same in both (loads, stores, copies,
//! matrix products, shuffles, barriers), and what flows into a block flows out of it. So the frequencies are those that conserve the
//! flow, and give each of these instructions ("anchors") as often as it was counted: a least-squares problem with frequencies that
//! are not negative, of one unknown for each edge.
//!
//! Frequencies without an anchor are pulled to the least that the flow allows: a loop that has none counts as one trip.

use super::flow::Block;

/// What a kind of instruction says of the frequencies.
#[derive(Clone, Debug)]
pub struct Anchor {
    /// How many of them each block has.
    pub in_block: Vec<u32>,
    /// How many a warp ran, on average.
    pub counted: f64,
    /// How far it is to be trusted: 1 where each instruction of the PTX is one of the machine code.
    pub weight: f64,
}

/// Weight of a unit of flow that is lost or comes from nowhere, beside a whole anchor that is missed.
const CONSERVATION: f64 = 1e2;

/// Weight of the pull to the least.
const PULL: f64 = 1e-5;

/// Rounds in which edges whose flow would be negative are taken out.
const ROUNDS: usize = 16;

/// A flow that is less than nothing by more than what is lost in computing.
const NEGATIVE: f64 = 1e-6;

/// From one block to another; from nowhere to the first one there is one with a flow of 1, and the last lead to nowhere.
struct Edge {
    from: usize,
    to: Option<usize>,
}

/// Times that the anchors are weighed anew.
const WEIGHINGS: usize = 4;

/// Runs of each block by a warp.
///
/// First the anchors count as many as they are, so that those that ran most decide: a loop's. Then each counts by how far it is missed
/// as a part of itself, so that one that the compiler made something else of does no harm to the others.
pub fn frequencies(blocks: &[Block], anchors: &[Anchor]) -> Vec<f64> {
    let mut edges = Vec::new();
    for (from, block) in blocks.iter().enumerate() {
        edges.extend(block.next.iter().map(|&to| Edge { from, to: Some(to) }));
        if block.ends {
            edges.push(Edge { from, to: None });
        }
    }

    let most = anchors.iter().map(|anchor| anchor.counted).fold(1.0, f64::max);
    let mut scales: Vec<f64> = anchors.iter().map(|anchor| anchor.weight / most).collect();
    let mut frequencies = vec![0.0; blocks.len()];
    for _ in 0..WEIGHINGS {
        let flow = not_negative(blocks.len(), &edges, anchors, &scales);
        frequencies.fill(0.0);
        edges.iter().zip(&flow).for_each(|(edge, flow)| frequencies[edge.from] += flow);

        for (scale, anchor) in scales.iter_mut().zip(anchors) {
            let times = anchor.in_block.iter().zip(&frequencies).map(|(count, runs)| f64::from(*count) * runs);
            let found: f64 = times.sum();
            let size = anchor.counted.max(found).max(1.0);
            let missed = (found - anchor.counted).abs() / size;
            *scale = anchor.weight / size / missed.max(SMALL).sqrt();
        }
    }
    frequencies
}

/// A part of an anchor that may be missed without doubt of it.
const SMALL: f64 = 0.02;

/// The flow along each edge; what would be negative is taken out, and the rest solved again.
fn not_negative(blocks: usize, edges: &[Edge], anchors: &[Anchor], scales: &[f64]) -> Vec<f64> {
    let mut active: Vec<usize> = (0..edges.len()).collect();
    let mut flow = vec![0.0; edges.len()];
    for _ in 0..ROUNDS {
        let solution = solve(blocks, edges, &active, anchors, scales);
        flow.fill(0.0);
        active.iter().zip(&solution).for_each(|(&edge, &value)| flow[edge] = value);
        let before = active.len();
        active.retain(|&edge| flow[edge] > -NEGATIVE);
        if active.len() == before {
            break;
        }
    }
    flow.iter().map(|flow| flow.max(0.0)).collect()
}

/// The flows along the active edges, whatever their sign.
fn solve(blocks: usize, edges: &[Edge], active: &[usize], anchors: &[Anchor], scales: &[f64]) -> Vec<f64> {
    let count = active.len();
    let mut gram = vec![0.0; count * count];
    let mut right = vec![0.0; count];
    let mut add = |row: &[(usize, f64)], value: f64| {
        for &(i, a) in row {
            row.iter().for_each(|&(j, b)| gram[i * count + j] += a * b);
            right[i] += a * value;
        }
    };

    // What flows out of a block, less what flows in: 1 of the first one, 0 of others.
    let mut balance: Vec<Vec<(usize, f64)>> = vec![Vec::new(); blocks];
    for (place, &edge) in active.iter().enumerate() {
        let Edge { from, to } = edges[edge];
        match to {
            Some(to) if to == from => {}
            Some(to) => {
                balance[from].push((place, CONSERVATION));
                balance[to].push((place, -CONSERVATION));
            }
            None => balance[from].push((place, CONSERVATION)),
        }
    }
    balance.iter().enumerate().for_each(|(block, row)| add(row, if block == 0 { CONSERVATION } else { 0.0 }));

    // The anchors.
    for (Anchor { in_block, counted, .. }, scale) in anchors.iter().zip(scales) {
        let times = |edge: usize| f64::from(in_block[edges[edge].from]) * scale;
        let row: Vec<_> = active.iter().enumerate().map(|(place, &edge)| (place, times(edge))).collect();
        let row: Vec<_> = row.into_iter().filter(|(_, times)| *times != 0.0).collect();
        add(&row, counted * scale);
    }

    for place in 0..count {
        gram[place * count + place] += PULL * PULL;
    }
    cholesky(gram, right, count)
}

/// Solves a positive definite system of `count` unknowns.
fn cholesky(mut matrix: Vec<f64>, mut right: Vec<f64>, count: usize) -> Vec<f64> {
    for row in 0..count {
        for column in 0..=row {
            let (above, below) = matrix.split_at(row * count);
            let other = if column == row { &below[..column] } else { &above[column * count..column * count + column] };
            let dot: f64 = below[..column].iter().zip(other).map(|(a, b)| a * b).sum();
            let rest = below[column] - dot;
            matrix[row * count + column] = match column == row {
                true => rest.max(1e-14).sqrt(),
                false => rest / matrix[column * count + column],
            };
        }
    }

    // L y = b, then Lᵀ x = y.
    for row in 0..count {
        let dot: f64 = matrix[row * count..row * count + row].iter().zip(&right).map(|(a, b)| a * b).sum();
        right[row] = (right[row] - dot) / matrix[row * count + row];
    }
    for row in (0..count).rev() {
        let dot: f64 = (row + 1..count).map(|below| matrix[below * count + row] * right[below]).sum();
        right[row] = (right[row] - dot) / matrix[row * count + row];
    }
    right
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(next: &[usize], ends: bool) -> Block {
        Block { instructions: 0..1, next: next.to_vec(), ends }
    }

    #[test]
    fn trips_follow_from_anchors_and_ways_not_taken_are_empty() {
        // 0 -> 1 or 2; each loops; both lead to 3. The anchors of 2 never ran.
        let blocks = [block(&[1, 2], false), block(&[1, 3], false), block(&[2, 3], false), block(&[], true)];
        let anchor = |in_block: [u32; 4], counted| Anchor { in_block: in_block.to_vec(), counted, weight: 1.0 };
        let anchors = [anchor([0, 64, 0, 0], 64.0 * 48.0), anchor([0, 0, 4, 0], 0.0), anchor([0, 0, 0, 2], 2.0)];
        let found = frequencies(&blocks, &anchors);
        for (found, expected) in found.iter().zip([1.0, 48.0, 0.0, 1.0]) {
            assert!((found - expected).abs() < 1e-2, "{found} {expected}");
        }
    }

    #[test]
    fn a_loop_without_anchors_is_one_trip() {
        let found = frequencies(&[block(&[1], false), block(&[1, 2], false), block(&[], true)], &[]);
        assert!(found.iter().all(|found| (found - 1.0).abs() < 1e-2), "{found:?}");
    }
}
