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
    let chain = chains(blocks);
    let chains = chain.iter().max().map_or(0, |last| last + 1);
    let anchors: Vec<Anchor> = anchors.iter().map(|anchor| anchor.of_chains(&chain, chains)).collect();
    let open = open(blocks, &chain, &anchors);
    let mut edges = Vec::new();
    for (block, Block { next, ends, .. }) in blocks.iter().enumerate().filter(|(block, _)| open[*block]) {
        let from = chain[block];
        // Within a chain there is nothing to choose.
        let goes_on = next.len() == 1 && !ends && chain[next[0]] == from && next[0] != block;
        if !goes_on {
            edges.extend(next.iter().filter(|to| open[**to]).map(|&to| Edge { from, to: Some(chain[to]) }));
        }
        if *ends {
            edges.push(Edge { from, to: None });
        }
    }
    let of_chains = of_chains(chains, &edges, &anchors);
    chain.iter().map(|&chain| of_chains[chain]).collect()
}

impl Anchor {
    fn of_chains(&self, chain: &[usize], chains: usize) -> Self {
        let mut in_block = vec![0; chains];
        self.in_block.iter().zip(chain).for_each(|(count, &chain)| in_block[chain] += count);
        Self { in_block, ..*self }
    }
}

/// The blocks that a warp may have come through: on a way from the first one to an end without an anchor that it never ran. A producer of
/// copies has no part in the products, and whole tiles none in the copies of edges. All of them where there is no such way.
fn open(blocks: &[Block], chain: &[usize], anchors: &[Anchor]) -> Vec<bool> {
    let never = |block: usize| {
        let has = |anchor: &Anchor| anchor.weight >= 1.0 && anchor.counted == 0.0 && anchor.in_block[chain[block]] > 0;
        anchors.iter().any(has)
    };
    let possible: Vec<bool> = (0..blocks.len()).map(|block| !never(block)).collect();

    // From the first on, and from the ends back.
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); blocks.len()];
    let leads = |(block, Block { next, .. }): (usize, &Block)| next.iter().map(move |&next| (block, next)).collect();
    blocks
        .iter()
        .enumerate()
        .flat_map(|entry| -> Vec<_> { leads(entry) })
        .for_each(|(block, next)| before[next].push(block));
    let spread = |starts: Vec<usize>, next: &dyn Fn(usize) -> Vec<usize>| {
        let (mut seen, mut todo) = (vec![false; blocks.len()], starts);
        while let Some(block) = todo.pop() {
            if possible[block] && !std::mem::replace(&mut seen[block], true) {
                todo.extend(next(block));
            }
        }
        seen
    };
    let forward = spread(vec![0], &|block| blocks[block].next.clone());
    let ends = (0..blocks.len()).filter(|block| blocks[*block].ends).collect();
    let back = spread(ends, &|block| before[block].clone());
    let open: Vec<bool> = forward.iter().zip(&back).map(|(forward, back)| *forward && *back).collect();
    if open.first() == Some(&true) { open } else { vec![true; blocks.len()] }
}

/// The chain of each block: blocks of which each is left for the next alone, and this is come to from it alone. The first block's is 0.
fn chains(blocks: &[Block]) -> Vec<usize> {
    let mut before = vec![0; blocks.len()];
    blocks.iter().flat_map(|block| &block.next).for_each(|&next| before[next] += 1);
    let follows = |block: &Block| match block.next[..] {
        [next] if !block.ends && before[next] == 1 && next != 0 => Some(next),
        _ => None,
    };

    let mut chain = vec![usize::MAX; blocks.len()];
    let is_later: Vec<bool> = {
        let mut later = vec![false; blocks.len()];
        blocks.iter().filter_map(follows).for_each(|next| later[next] = true);
        later
    };
    let mut count = 0;
    for start in (0..blocks.len()).filter(|start| !is_later[*start]) {
        let mut at = Some(start);
        while let Some(block) = at {
            chain[block] = count;
            at = follows(&blocks[block]);
        }
        count += 1;
    }
    // A circle of blocks that nothing leads to: each for itself.
    for place in chain.iter_mut().filter(|place| **place == usize::MAX) {
        *place = count;
        count += 1;
    }
    chain
}

/// Runs of each chain by a warp.
fn of_chains(blocks: usize, edges: &[Edge], anchors: &[Anchor]) -> Vec<f64> {
    let most = anchors.iter().map(|anchor| anchor.counted).fold(1.0, f64::max);
    let mut scales: Vec<f64> = anchors.iter().map(|anchor| anchor.weight / most).collect();
    let mut frequencies = vec![0.0; blocks];
    let mut flow = vec![0.0; edges.len()];
    for _ in 0..WEIGHINGS {
        let (gram, right) = equations(blocks, edges, anchors, &scales);
        flow = not_negative(&gram, &right, flow);
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

/// The normal equations of the flows along the edges: matrix by rows, and right-hand side.
fn equations(blocks: usize, edges: &[Edge], anchors: &[Anchor], scales: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let count = edges.len();
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
    for (place, Edge { from, to }) in edges.iter().enumerate() {
        if *to == Some(*from) {
            continue;
        }
        balance[*from].push((place, CONSERVATION));
        if let Some(to) = to {
            balance[*to].push((place, -CONSERVATION));
        }
    }
    balance.iter().enumerate().for_each(|(block, row)| add(row, if block == 0 { CONSERVATION } else { 0.0 }));

    // The anchors.
    for (Anchor { in_block, counted, .. }, scale) in anchors.iter().zip(scales) {
        let times = |edge: &Edge| f64::from(in_block[edge.from]) * scale;
        let row: Vec<_> = edges.iter().map(times).enumerate().filter(|(_, times)| *times != 0.0).collect();
        add(&row, counted * scale);
    }

    for place in 0..count {
        gram[place * count + place] += PULL * PULL;
    }
    (gram, right)
}

/// Solves `gram · x = right` as well as an x without negative numbers can (Lawson and Hanson, "Solving least squares problems", 1974,
/// chapter 23), from a first guess.
fn not_negative(gram: &[f64], right: &[f64], guess: Vec<f64>) -> Vec<f64> {
    let count = right.len();
    let mut x = guess;
    let mut free: Vec<usize> = (0..count).filter(|place| x[*place] > 0.0).collect();
    let mut refused = vec![false; count];
    let mut factor = Factor::default();
    settle(gram, right, &mut x, &mut free, &mut factor);

    for _ in 0..4 * count {
        // Let the number go that wants to grow most.
        let pull = |place: usize| {
            let row = &gram[place * count..(place + 1) * count];
            right[place] - free.iter().map(|&other| row[other] * x[other]).sum::<f64>()
        };
        let held = (0..count).filter(|place| x[*place] == 0.0 && !refused[*place]).map(|place| (place, pull(place)));
        let Some((place, _)) = held.filter(|(_, pull)| *pull > TOLERANCE).max_by(|a, b| a.1.total_cmp(&b.1)) else {
            break;
        };

        free.push(place);
        let before = x.clone();
        settle(gram, right, &mut x, &mut free, &mut factor);
        // One that comes back to nothing at once must not be tried for ever.
        refused[place] = x[place] == 0.0;
        if x != before && !refused[place] {
            refused.fill(false);
        }
    }
    x
}

/// How much a number must want to grow.
const TOLERANCE: f64 = 1e-9;

/// The solution in the free numbers; those that would be negative are held at nothing, one after another.
fn settle(gram: &[f64], right: &[f64], x: &mut [f64], free: &mut Vec<usize>, factor: &mut Factor) {
    while !free.is_empty() {
        factor.extend_to(gram, right.len(), free);
        let wanted = factor.solve(free.iter().map(|&place| right[place]).collect());
        if wanted.iter().all(|value| *value > 0.0) {
            free.iter().zip(&wanted).for_each(|(&place, value)| x[place] = *value);
            return;
        }

        // As far as the first of them gets to nothing.
        let steps = free.iter().zip(&wanted).filter(|(_, wanted)| **wanted <= 0.0);
        let step = steps.map(|(&place, wanted)| x[place] / (x[place] - wanted).max(1e-300)).fold(1.0, f64::min);
        free.iter().zip(&wanted).for_each(|(&place, wanted)| x[place] += step * (wanted - x[place]));
        let lowest = free.iter().zip(&wanted).filter(|(_, wanted)| **wanted <= 0.0);
        let lowest = lowest.min_by(|a, b| x[*a.0].total_cmp(&x[*b.0])).map(|(place, _)| *place);
        free.retain(|&place| {
            let stays = x[place] > 1e-12 && Some(place) != lowest;
            if !stays {
                x[place] = 0.0;
            }
            stays
        });
    }
}

/// The Cholesky factor of some rows and columns of a positive definite matrix.
#[derive(Default)]
struct Factor {
    of: Vec<usize>,
    rows: Vec<Vec<f64>>,
}

impl Factor {
    /// Makes it that of `places`: rows are added where only such are missing.
    fn extend_to(&mut self, matrix: &[f64], count: usize, places: &[usize]) {
        let same = self.of.iter().zip(places).take_while(|(a, b)| a == b).count();
        self.of.truncate(same);
        self.rows.truncate(same);
        for &place in &places[same..] {
            let mut row: Vec<f64> = Vec::with_capacity(self.rows.len() + 1);
            for (other, of) in self.rows.iter().zip(&self.of) {
                let dot: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
                row.push((matrix[place * count + of] - dot) / other[row.len()]);
            }
            let square: f64 = row.iter().map(|value| value * value).sum();
            row.push((matrix[place * count + place] - square).max(1e-14).sqrt());
            self.of.push(place);
            self.rows.push(row);
        }
    }

    /// L y = b, then Lᵀ x = y.
    fn solve(&self, mut right: Vec<f64>) -> Vec<f64> {
        for (at, row) in self.rows.iter().enumerate() {
            let dot: f64 = row[..at].iter().zip(&right).map(|(a, b)| a * b).sum();
            right[at] = (right[at] - dot) / row[at];
        }
        for (at, row) in self.rows.iter().enumerate().rev() {
            right[at] /= row[at];
            let value = right[at];
            right[..at].iter_mut().zip(row).for_each(|(right, factor)| *right -= factor * value);
        }
        right
    }
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
