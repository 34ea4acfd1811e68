//! Control flow of a kernel: its basic blocks, and which may follow which.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};
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
/// Code that is called and returns is no part of it: the slow ways of divisions and roots, which values take that are hardly there. A
/// call of code that never returns is a branch.
pub fn blocks(code: &[Instruction]) -> Vec<Block> {
    let comes_back: Vec<bool> = code.iter().map(|instruction| comes_back(code, instruction)).collect();
    let after = |at: usize| -> Vec<usize> {
        let instruction = &code[at];
        let target = instruction.target.filter(|_| !comes_back[at]);
        let next = (instruction.falls_through || comes_back[at]).then_some(at + 1);
        target.into_iter().chain(next).filter(|next| *next < code.len()).collect()
    };

    // A block begins at the first instruction, wherever a branch leads to, and behind everything that branches or ends.
    let mut starts = BTreeSet::from([0]);
    for (at, instruction) in code.iter().enumerate() {
        let branches = instruction.target.is_some() && !comes_back[at];
        if branches || !(instruction.falls_through || comes_back[at]) || instruction.name == "EXIT" {
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
        if let Entry::Vacant(new) = reached.entry(start) {
            todo.extend(new.insert(after(end(start) - 1)).iter());
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

/// Whether an instruction is a call of code that returns.
fn comes_back(code: &[Instruction], call: &Instruction) -> bool {
    call.target.is_some_and(|start| call.name == "CALL" && returns(code, start, &mut BTreeSet::new()))
}

/// Whether code that is called comes to a RET of its own: not to that of code which it calls itself. `open`: calls that are looked at already.
fn returns(code: &[Instruction], start: usize, open: &mut BTreeSet<usize>) -> bool {
    if !open.insert(start) {
        return false;
    }
    let (mut todo, mut seen) = (vec![start], BTreeSet::new());
    while let Some(at) = todo.pop() {
        let Some(instruction) = code.get(at).filter(|_| seen.insert(at)) else { continue };
        if instruction.name == "RET" {
            open.remove(&start);
            return true;
        }
        let target = instruction.target.filter(|target| instruction.name != "CALL" || !returns(code, *target, open));
        if instruction.falls_through || target.is_none() && instruction.name == "CALL" {
            todo.push(at + 1);
        }
        todo.extend(target);
    }
    open.remove(&start);
    false
}

#[cfg(test)]
mod tests {
    use super::super::instruction::Order;
    use super::*;

    fn code(text: &[(&'static str, bool, Option<usize>)]) -> Vec<Instruction> {
        let decode = |&(name, is_guarded, target): &(&'static str, bool, Option<usize>)| Instruction {
            name,
            is_guarded,
            is_idle: false,
            target,
            falls_through: is_guarded || !matches!(name, "BRA" | "EXIT" | "RET" | "CALL"),
            stall: 1,
            write_barrier: None,
            waits: 0,
            order: Order::None,
        };
        text.iter().map(decode).collect()
    }

    #[test]
    fn calls_that_return_are_passed_over_and_others_are_branches() {
        let found = blocks(&code(&[
            ("MOV", false, None),
            ("CALL", false, Some(5)), // returns
            ("BRA", true, Some(0)),
            ("CALL", false, Some(7)), // does not, though what it calls does
            ("NOP", false, None),     // never reached
            ("MUFU", false, None),
            ("RET", false, None),
            ("CALL", false, Some(5)), // returns
            ("EXIT", false, None),
        ]));
        let shapes: Vec<_> =
            found.iter().map(|block| (block.instructions.clone(), block.next.clone(), block.ends)).collect();
        assert_eq!(shapes, [(0..3, vec![0, 1], false), (3..4, vec![2], false), (7..9, vec![], true)]);
    }
}
