//! Control flow of a kernel: its basic blocks, and which may follow which.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::instruction::Instruction;

/// Instructions that run one after another.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Their numbers.
    pub instructions: Range<usize>,
    /// Blocks that may follow; none where the kernel ends.
    pub next: Vec<usize>,
    /// Whether the kernel may end here.
    pub ends: bool,
}

/// The blocks that are reached from a kernel's first instruction, which begins block 0.
///
/// A call leads into what it calls, and a return behind every call: a way through the kernel passes both.
pub fn blocks(code: &[Instruction]) -> Vec<Block> {
    let is_call = |at: usize| code[at].name == "CALL";
    let returns: BTreeSet<usize> = (0..code.len()).filter(|at| is_call(*at)).map(|at| at + 1).collect();
    let after = |at: usize| -> Vec<usize> {
        let instruction = &code[at];
        let mut after: Vec<usize> = instruction.target.into_iter().collect();
        if instruction.falls_through {
            after.push(at + 1);
        }
        if instruction.name == "RET" {
            after.extend(&returns);
        }
        after.retain(|next| *next < code.len());
        after
    };

    // A block begins at the first instruction, wherever a branch leads to, and behind everything that branches or ends.
    let mut starts = BTreeSet::from([0]);
    for (at, instruction) in code.iter().enumerate() {
        if instruction.target.is_some() || !instruction.falls_through || matches!(instruction.name, "EXIT" | "RET") {
            starts.extend(after(at));
            starts.insert(at + 1);
        }
    }
    starts.retain(|start| *start < code.len());

    // Those that are reached, in the order of the code.
    let end = |start: usize| starts.range(start + 1..).next().copied().unwrap_or(code.len());
    let mut reached: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut todo: Vec<usize> = starts.first().copied().into_iter().collect();
    while let Some(start) = todo.pop() {
        if !reached.contains_key(&start) {
            let next = after(end(start) - 1);
            todo.extend(&next);
            reached.insert(start, next);
        }
    }
    let number: BTreeMap<usize, usize> = reached.keys().enumerate().map(|(number, start)| (*start, number)).collect();
    let block = |(start, next): (&usize, &Vec<usize>)| {
        let mut next: Vec<usize> = next.iter().map(|next| number[next]).collect();
        next.sort_unstable();
        next.dedup();
        let ends = next.is_empty() || code[end(*start) - 1].name == "EXIT";
        Block { instructions: *start..end(*start), next, ends }
    };
    reached.iter().map(block).collect()
}
