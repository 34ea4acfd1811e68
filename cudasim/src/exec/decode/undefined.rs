//! Which registers may be used before anything was written to them.
//!
//! A pass over each function finds the registers that some way through the code leaves unwritten where another instruction
//! reads them; those are the ones that a warp looks after from its start ([`Undefined`]). Arithmetic hands the lack of a
//! value on to its result, as compilers move it in front of the branch that decides whether it is wanted; what reports it is
//! a use that counts: as an address, a branch, an operand of a store to global memory or of anything else with an effect.
//!
//! [`Undefined`]: crate::exec::program::definedness::Undefined

use std::collections::HashSet;

use super::flows::Facts;
use crate::exec::program::step::Action;
use crate::ptx::module::{Body, Instruction, LabelId, RegisterId};
use crate::ptx::opcode::Opcode;
use crate::ptx::operand::Operand;

/// The registers of a function that may lack a value where they are read, and the instructions that read or write one.
pub(super) fn watch(body: &Body, facts: &[Facts]) -> (Vec<RegisterId>, Vec<usize>) {
    let Some(lacking) = lacking(body, facts) else { return Default::default() };
    let watched: HashSet<RegisterId> = lacking.iter().flatten().copied().collect();
    // What such an instruction hands on lacks a value until it is written again, even where nobody reads it before.
    let handing = facts.iter().zip(&lacking).filter(|(facts, lacks)| facts.hands_on() && !lacks.is_empty());
    let mut followed = watched.clone();
    followed.extend(handing.flat_map(|(facts, _)| &facts.writes));
    let touches = |at: usize| !lacking[at].is_empty() || facts[at].writes.iter().any(|write| followed.contains(write));
    let steps = (0..facts.len()).filter(|&at| touches(at)).collect();
    let mut watched: Vec<RegisterId> = watched.into_iter().collect();
    watched.sort_unstable();
    (watched, steps)
}

/// A set of registers.
#[derive(Clone, PartialEq, Eq)]
struct Set(Vec<u64>);

impl Set {
    fn contains(&self, register: &RegisterId) -> bool {
        self.0[register.index() / 64] >> (register.index() % 64) & 1 != 0
    }

    fn put(&mut self, register: RegisterId, there: bool) {
        let bit = 1 << (register.index() % 64);
        let word = &mut self.0[register.index() / 64];
        *word = if there { *word | bit } else { *word & !bit };
    }

    /// Adds another's; whether that changed anything.
    fn join(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            changed |= theirs & !*mine != 0;
            *mine |= theirs;
        }
        changed
    }
}

/// Work that a hostile text may ask for: words of sets. Beyond that nothing is watched.
const LIMIT: usize = 1 << 24;

/// Of each instruction, which of its own operands may lack a value when it runs; `None` where the function is too large.
fn lacking(body: &Body, facts: &[Facts]) -> Option<Vec<Vec<RegisterId>>> {
    let count = body.instructions.len();

    // Basic blocks: their first instructions.
    let mut starts: Vec<usize> =
        body.labels.iter().map(|label| label.target).filter(|&target| target < count).collect();
    starts.push(0);
    starts.extend((1..count).filter(|&at| leaves(&body.instructions[at - 1])));
    starts.sort_unstable();
    starts.dedup();

    // Which registers may lack a value before each block: at first all, before the entry.
    let words = body.register_count().div_ceil(64);
    if starts.len() * words > LIMIT || count == 0 {
        return None;
    }
    let block_of = |at: usize| starts.binary_search(&at).ok();
    let none = Set(vec![0; words]);
    let mut before = vec![none; starts.len()];
    before[0] = Set(vec![u64::MAX; words]);

    // Data flow, until nothing changes: a set grows by what its predecessors leave unwritten.
    let mut waiting = vec![0];
    let mut seen = vec![false; starts.len()];
    while let Some(block) = waiting.pop() {
        seen[block] = true;
        let end = starts.get(block + 1).copied().unwrap_or(count);
        let mut set = before[block].clone();
        for facts in &facts[starts[block]..end] {
            step(&mut set, facts);
        }
        for next in successors(body, end - 1).into_iter().filter_map(block_of) {
            if before[next].join(&set) | !seen[next] && !waiting.contains(&next) {
                waiting.push(next);
            }
        }
    }

    // What each instruction may lack, of its own operands.
    let mut result = Vec::with_capacity(count);
    for (block, set) in before.iter_mut().enumerate() {
        let end = starts.get(block + 1).copied().unwrap_or(count);
        for facts in &facts[starts[block]..end] {
            let own = facts.all_reads().copied().filter(|register| set.contains(register));
            // Code that nothing reaches lacks nothing.
            result.push(if seen[block] { own.collect() } else { Vec::new() });
            step(set, facts);
        }
    }

    Some(result)
}

/// Whether an instruction ends a basic block.
fn leaves(instruction: &Instruction) -> bool {
    matches!(instruction.form.opcode, Opcode::Bra | Opcode::Brx | Opcode::Ret | Opcode::Exit)
}

/// Where control may go from instruction `at`.
fn successors(body: &Body, at: usize) -> Vec<usize> {
    let last = &body.instructions[at];
    let mut targets = Vec::new();
    let mut go = |label: LabelId| targets.extend(body.labels.get(label.index()).map(|label| label.target));
    match (last.form.opcode, last.operands.as_slice()) {
        (Opcode::Bra, [Operand::Label(label), ..]) => go(*label),
        (Opcode::Brx, [_, Operand::Targets(table), ..]) => {
            body.branch_tables.get(*table as usize).into_iter().flatten().for_each(|&label| go(label));
        }
        _ => {}
    }

    if !leaves(last) || last.guard.is_some() {
        targets.push(at + 1);
    }
    targets
}

/// What one instruction does to the set of registers that may lack a value.
fn step(set: &mut Set, facts: &Facts) {
    let lacks = facts.hands_on() && facts.reads.iter().any(|register| set.contains(register));
    for &register in &facts.writes {
        if lacks {
            set.put(register, true);
        } else if facts.guard.is_none() {
            set.put(register, false);
        }
    }
}

/// Whether a step only reads and writes registers.
pub(super) fn computes<E>(action: &Action<E>) -> bool {
    matches!(action, Action::Compute(_))
}
