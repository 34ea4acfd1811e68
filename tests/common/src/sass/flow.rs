//! Control flow: basic blocks, and loops by the branches that go back to a block which dominates them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::listing::Function;

/// The blocks that the kernel's first one reaches. Calls are instructions like others: the code that they call is no part of it.
pub struct Flow {
    /// In an order in which a block stands behind those that lead to it, but for the branches back.
    pub blocks: Vec<Block>,
    /// By header.
    pub loops: Vec<Loop>,
}

/// Instructions that run one after another.
pub struct Block {
    /// Their indices.
    pub instructions: Range<usize>,
    /// Blocks that may follow.
    pub next: Vec<usize>,
}

/// A natural loop.
pub struct Loop {
    /// The block that every trip begins with.
    pub header: usize,
    /// All blocks, those of inner loops too.
    pub body: BTreeSet<usize>,
}

impl Flow {
    /// The flow of a kernel.
    pub fn of(function: &Function) -> Self {
        let (ranges, next) = cut(function);
        let order = reachable(&next);

        // Only what is reached, renumbered by that order.
        let number: BTreeMap<usize, usize> = order.iter().enumerate().map(|(new, old)| (*old, new)).collect();
        let blocks: Vec<Block> = order
            .iter()
            .map(|&old| Block {
                instructions: ranges[old].clone(),
                next: next[old].iter().map(|next| number[next]).collect(),
            })
            .collect();
        let loops = loops(&blocks);
        Self { blocks, loops }
    }

    /// The blocks that run after the loop `body`, and no more in it.
    pub fn after(&self, body: &BTreeSet<usize>) -> BTreeSet<usize> {
        let exits = body.iter().flat_map(|&block| &self.blocks[block].next).copied();
        let mut todo: Vec<usize> = exits.filter(|next| !body.contains(next)).collect();
        let mut after = BTreeSet::new();
        while let Some(block) = todo.pop() {
            if after.insert(block) {
                todo.extend(self.blocks[block].next.iter().filter(|next| !body.contains(next)));
            }
        }
        after
    }
}

/// Cuts a function into blocks: their instructions, and which may follow each.
fn cut(function: &Function) -> (Vec<Range<usize>>, Vec<Vec<usize>>) {
    let instructions = &function.instructions;
    let index: BTreeMap<u32, usize> =
        instructions.iter().enumerate().map(|(index, instruction)| (instruction.offset, index)).collect();

    // A block begins at the first instruction, at every target, and after every branch.
    let mut starts = BTreeSet::from([0]);
    for (at, instruction) in instructions.iter().enumerate() {
        let target = instruction.target().and_then(|target| index.get(&target).copied());
        starts.extend(target);
        if target.is_some() || !instruction.falls_through() {
            starts.insert(at + 1);
        }
    }
    starts.retain(|start| *start < instructions.len());

    let starts: Vec<usize> = starts.into_iter().collect();
    let ends = starts.iter().skip(1).copied().chain([instructions.len()]);
    let ranges: Vec<Range<usize>> = starts.iter().zip(ends).map(|(start, end)| *start..end).collect();
    let next = ranges.iter().map(|range| {
        let Some(last) = instructions[range.clone()].last() else { return Vec::new() };
        let target = last.target().and_then(|target| index.get(&target).copied());
        let following = Some(range.end).filter(|end| last.falls_through() && *end < instructions.len());
        [following, target].into_iter().flatten().filter_map(|start| starts.binary_search(&start).ok()).collect()
    });
    let next = next.collect();
    (ranges, next)
}

/// The blocks that the first one reaches, in reverse postorder.
fn reachable(next: &[Vec<usize>]) -> Vec<usize> {
    let mut seen = vec![false; next.len()];
    let (mut order, mut path) = (Vec::new(), Vec::new());
    if let Some(first) = seen.first_mut() {
        *first = true;
        path.push((0, 0));
    }
    while let Some((block, child)) = path.pop() {
        match next[block].get(child) {
            Some(&to) => {
                path.push((block, child + 1));
                if !std::mem::replace(&mut seen[to], true) {
                    path.push((to, 0));
                }
            }
            None => order.push(block),
        }
    }
    order.reverse();
    order
}

/// The loops of blocks in reverse postorder.
fn loops(blocks: &[Block]) -> Vec<Loop> {
    let mut before = vec![Vec::new(); blocks.len()];
    for (block, Block { next, .. }) in blocks.iter().enumerate() {
        next.iter().for_each(|&to| before[to].push(block));
    }

    // A branch back goes to a block that dominates it. What leads to the branch without passing the header is the loop.
    let dominator = dominators(&before);
    let mut found: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (block, Block { next, .. }) in blocks.iter().enumerate() {
        for &header in next {
            let mut above = block;
            while above > header {
                above = dominator[above];
            }
            if above != header {
                continue;
            }
            let body = found.entry(header).or_insert_with(|| BTreeSet::from([header]));
            let mut todo = vec![block];
            while let Some(block) = todo.pop() {
                if body.insert(block) {
                    todo.extend(&before[block]);
                }
            }
        }
    }
    found.into_iter().map(|(header, body)| Loop { header, body }).collect()
}

/// The nearest block that every way to a block leads through (Cooper, Harvey and Kennedy: A simple, fast dominance algorithm).
/// Blocks are in reverse postorder.
fn dominators(before: &[Vec<usize>]) -> Vec<usize> {
    const UNKNOWN: usize = usize::MAX;
    let mut dominator = vec![UNKNOWN; before.len()];
    if let Some(first) = dominator.first_mut() {
        *first = 0;
    }

    let mut changed = true;
    while changed {
        changed = false;
        for block in 1..before.len() {
            let known = before[block].iter().copied().filter(|from| dominator[*from] != UNKNOWN);
            let nearest = known.reduce(|mut one, mut other| {
                while one != other {
                    if one > other {
                        one = dominator[one];
                    } else {
                        other = dominator[other];
                    }
                }
                one
            });
            let nearest = nearest.unwrap_or(UNKNOWN);
            changed |= nearest != dominator[block];
            dominator[block] = nearest;
        }
    }
    dominator
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sass::functions;

    /// The flow of instructions at 0x00, 0x10, ..., and a loop's first and last instruction.
    fn flow(text: &[&str]) -> (Flow, Vec<(usize, usize)>) {
        let lines = text.iter().enumerate().map(|(index, text)| format!("/*{:04x}*/ {text} ;\n", index * 16));
        let listing: String = ["arch = sm_80\nFunction : f\n".to_owned()].into_iter().chain(lines).collect();
        let flow = Flow::of(&functions(&listing)[0]);
        let span = |found: &Loop| {
            let ranges = || found.body.iter().map(|&block| flow.blocks[block].instructions.clone());
            (ranges().map(|range| range.start).min().unwrap(), ranges().map(|range| range.end).max().unwrap())
        };
        let spans = flow.loops.iter().map(span).collect();
        (flow, spans)
    }

    #[test]
    fn loops_nest_and_the_endless_one_behind_the_end_is_none() {
        // 1: outer { 2: inner { 3: back to 2 } 4: back to 1 } 5: end, and the padding behind it.
        let (flow, spans) = flow(&[
            "MOV R1, R0",
            "S2R R2, SR_TID.X",
            "FADD R0, R0, R0",
            "@P0 BRA 0x20",
            "@P1 BRA 0x10",
            "EXIT",
            "BRA 0x60",
        ]);
        assert_eq!(spans, [(1, 5), (2, 4)]);
        assert_eq!(flow.after(&flow.loops[0].body).len(), 1);
    }

    #[test]
    fn code_that_was_moved_behind_the_end_belongs_to_its_loop_and_makes_none() {
        // The slow way of a shuffle: out at 2, back to 3.
        let (flow, spans) = flow(&[
            "MOV R1, R0",
            "FADD R0, R0, R0",
            "BRA.DIV UR4, 0x60",
            "FADD R1, R1, R1",
            "@P0 BRA 0x10",
            "EXIT",
            "NOP",
            "BRA 0x30",
        ]);
        assert_eq!((spans, flow.loops[0].body.len()), (vec![(1, 8)], 3));
        assert_eq!(flow.after(&flow.loops[0].body).len(), 1);
    }

    #[test]
    fn code_behind_a_call_is_reached_and_the_called_is_not() {
        let (flow, spans) =
            flow(&["CALL.REL.NOINC 0x30", "FADD R0, R0, R0", "EXIT", "MUFU.RCP R0, R0", "RET.REL.NODEC R6 0x0"]);
        assert!(spans.is_empty());
        let reached: Vec<_> =
            flow.blocks.iter().map(|block| (block.instructions.start, block.instructions.end)).collect();
        assert_eq!(reached, [(0, 3)]);
    }
}
