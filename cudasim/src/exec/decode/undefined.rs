//! Which registers may be used before anything was written to them.
//!
//! A pass over each function finds the registers that some way through the code leaves unwritten where another instruction
//! reads them; only for those a warp keeps note of the lanes in which they hold a value ([`Note`]). Arithmetic hands the
//! lack of a value on to its result, as compilers move it in front of the branch that decides whether it is wanted; what
//! reports it is a use that counts: as an address, a branch, an operand of a store or of anything else with an effect.

use std::collections::HashMap;

use crate::exec::program::notes::{Note, Select};
use crate::exec::program::registers::Predicate;
use crate::exec::program::step::Action;
use crate::ptx::Access;
use crate::ptx::module::{Body, Instruction, LabelId, RegisterId};
use crate::ptx::opcode::Opcode;
use crate::ptx::operand::{AddressBase, Operand};
use crate::ptx::types::StateSpace;

/// The notes of a function: by instruction. `watched` grows by the names of its watched registers.
pub(super) fn notes(
    body: &Body,
    actions: &dyn Fn(usize) -> bool,
    predicate: &mut dyn FnMut(&Operand) -> Option<Predicate>,
    watched: &mut Vec<String>,
) -> Vec<(usize, Note)> {
    let facts: Vec<Facts> = body.instructions.iter().enumerate().map(|(at, i)| Facts::new(i, actions(at))).collect();
    let Some(lacking) = lacking(body, &facts) else { return Vec::new() };
    let mut index = HashMap::new();

    for (facts, lacks) in facts.iter().zip(&lacking) {
        for &register in facts.reads.iter().chain(&facts.guard).filter(|register| lacks.contains(register)) {
            index.entry(register).or_insert_with(|| {
                watched.push(body.register_name(register).unwrap_or_default());
                watched.len() - 1
            });
        }
    }

    if index.is_empty() {
        return Vec::new();
    }

    let mut notes = Vec::new();
    for (at, (facts, lacks)) in facts.iter().zip(&lacking).enumerate() {
        let find = |register: &RegisterId| lacks.contains(register).then(|| index.get(register).copied()).flatten();
        let mut note = Note {
            guard: facts.guard.as_ref().and_then(find),
            reads: facts.reads.iter().filter_map(find).collect(),
            select: None,
            writes: facts.writes.iter().filter_map(|register| index.get(register).copied()).collect(),
            hands_on: facts.hands_on,
        };

        let instruction = &body.instructions[at];
        if instruction.form.opcode == Opcode::Selp
            && !note.reads.is_empty()
            && let [_, a, b, p] = instruction.operands.as_slice()
            && let Some(predicate) = predicate(p)
        {
            let of = |operand: &Operand| match operand {
                Operand::Register(register) | Operand::Not(register) => find(register),
                _ => None,
            };
            note.select = Some(Select { predicate, operands: [of(a), of(b)], by: of(p) });
        }

        if note.guard.is_some() || !note.reads.is_empty() || !note.writes.is_empty() {
            notes.push((at, note));
        }
    }
    notes
}

/// What an instruction does to registers.
struct Facts {
    guard: Option<RegisterId>,
    reads: Vec<RegisterId>,
    writes: Vec<RegisterId>,
    hands_on: bool,
}

impl Facts {
    /// `computes`: it only reads and writes registers.
    fn new(instruction: &Instruction, computes: bool) -> Self {
        let form = &instruction.form;
        let mut facts = Self {
            guard: instruction.guard.map(|guard| guard.register),
            reads: Vec::new(),
            writes: Vec::new(),
            hands_on: computes,
        };

        // Data for local memory and parameters may have holes, as structures do.
        let private = matches!(form.space(), Some(StateSpace::Local | StateSpace::Param | StateSpace::ParamFunc));
        let forgiving = form.opcode == Opcode::St && private || form.opcode == Opcode::Shfl;

        for (operand, rule) in instruction.operands.iter().zip(instruction.rules()) {
            match rule.access {
                Access::Write => facts.visit(operand, true),
                // The accumulators of wgmma are not read where its scale is 0.
                Access::ReadWrite if form.opcode == Opcode::Wgmma => facts.visit(operand, true),
                Access::ReadWrite => {
                    facts.visit(operand, false);
                    facts.visit(operand, true);
                }
                Access::Read if forgiving && !matches!(operand, Operand::Address(_)) => {}
                Access::Read => facts.visit(operand, false),
            }
        }
        facts
    }

    fn visit(&mut self, operand: &Operand, write: bool) {
        let place = if write { &mut self.writes } else { &mut self.reads };
        match operand {
            Operand::Register(register) | Operand::Not(register) => place.push(*register),
            Operand::Pair(a, b) => place.extend(a.iter().chain(b)),
            Operand::Vector(elements) | Operand::List(elements) => {
                elements.iter().for_each(|element| self.visit(element, write));
            }
            Operand::Address(address) | Operand::Tensor(address, _) => {
                if let AddressBase::Register(register) = address.base {
                    self.reads.push(register);
                }
                if let Operand::Tensor(_, coordinates) = operand {
                    coordinates.iter().for_each(|coordinate| self.visit(coordinate, false));
                }
            }
            _ => {}
        }
    }
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
            let own = facts.reads.iter().chain(&facts.guard).copied().filter(|register| set.contains(register));
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
    let lacks = facts.hands_on && facts.reads.iter().any(|register| set.contains(register));
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
