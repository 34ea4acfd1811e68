//! A warp: its registers, its local memory, and which of its lanes are at which instruction.

use crate::exec::program::definedness::Undefined;
use crate::exec::program::registers::Registers;
use crate::exec::state::stack::Stacks;
use crate::mask::{FULL, Mask, lanes};

/// Some lanes, and the step they are at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Index of the step.
    pub pc: u32,
    /// The lanes.
    pub mask: Mask,
    /// Whether they wait there ([`Flow::Wait`](crate::exec::program::step::Flow::Wait)).
    pub waiting: bool,
}

/// A warp.
pub struct Warp {
    /// Its registers.
    pub registers: Registers,
    /// Its number in the block.
    pub id: u32,
    /// Bytes of local memory of a lane: what the kernel takes, and what its stack has grown to.
    pub local_bytes: u64,
    /// What the kernel takes.
    pub static_local: u64,
    /// Recursion, and memory from the stack.
    pub stacks: Stacks,
    /// Local memory, lane after lane.
    pub local: Vec<u8>,
    /// For each byte of it: 0 until it is written, then 1.
    pub local_written: Vec<u8>,
    /// Cache of the newest epochs already proven to happen before this warp (global, shared) and before its async proxy
    /// (shared); race checks consult it first.
    pub proven_epochs: [u64; 3],
    /// Step, address and value of the last volatile or relaxed load, or atomic that changed nothing: a second one is a loop
    /// that waits.
    pub last_poll: (u32, u64, u64),
    /// Bits of registers that hold no value.
    pub undefined: Undefined,
    /// Before which steps it looks there: [`ALWAYS`](crate::exec::program::step::ALWAYS) and
    /// [`FROM_START`](crate::exec::program::step::FROM_START).
    pub watching: u8,
    /// What its families of instructions keep between steps.
    pub state: crate::exec::state::families::WarpState,
    /// Where its lanes are; exited ones are in none.
    pub(in crate::exec) splits: Vec<Split>,
    /// Steps it has run.
    pub instructions: u64,
    /// Turns in a row that ended with lanes at different places.
    pub(in crate::exec) diverged_turns: u32,
}

impl Warp {
    /// A warp of which `live` lanes are at the first step.
    pub fn new(registers: Registers, id: u32, live: Mask, local_bytes: u64) -> Self {
        Self {
            registers,
            id,
            local_bytes,
            static_local: local_bytes,
            stacks: Stacks::default(),
            local: vec![0; local_bytes as usize * 32],
            local_written: vec![0; local_bytes as usize * 32],
            proven_epochs: [0; 3],
            last_poll: (u32::MAX, 0, 0),
            undefined: Undefined::default(),
            watching: 0,
            state: crate::exec::state::families::WarpState::default(),
            splits: vec![Split { pc: 0, mask: live, waiting: false }],
            instructions: 0,
            diverged_turns: 0,
        }
    }

    /// Gives each lane `bytes` of local memory, with what it had at its start.
    pub(in crate::exec) fn grow_local(&mut self, bytes: u64) {
        let (old, new) = (self.local_bytes as usize, bytes as usize);
        for memory in [&mut self.local, &mut self.local_written] {
            let mut grown = vec![0; new * 32];
            for lane in 0..32 {
                grown[lane * new..][..old].copy_from_slice(&memory[lane * old..][..old]);
            }
            *memory = grown;
        }
        self.local_bytes = bytes;
    }

    /// The lanes that have not left.
    pub fn live(&self) -> Mask {
        self.splits.iter().fold(0, |mask, split| mask | split.mask)
    }

    /// Whether all lanes have left.
    pub fn is_done(&self) -> bool {
        self.splits.is_empty()
    }

    /// The splits, for reports.
    pub fn splits(&self) -> &[Split] {
        &self.splits
    }

    /// Merges splits that are at the same step and puts the one to run last: the lowest pc of those that do not wait.
    /// `false` where all wait.
    pub(in crate::exec) fn choose(&mut self) -> bool {
        self.splits.sort_unstable_by_key(|split| std::cmp::Reverse(split.pc));
        self.splits.dedup_by(|next, kept| {
            let same = next.pc == kept.pc;
            if same {
                kept.mask |= next.mask;
                // One that waited may have what it waited for.
                kept.waiting &= next.waiting;
            }
            same
        });

        match self.splits.iter().rposition(|split| !split.waiting) {
            Some(place) => {
                let split = self.splits.remove(place);
                self.splits.push(split);
                true
            }
            None => false,
        }
    }
}

/// Copies pieces of each active lane's local memory, and what is known of their bytes: from, to, length.
pub fn copy_local(warp: &mut Warp, pieces: &[(u64, u64, u64)], active: Mask) {
    let stride = warp.local.len() / 32;
    for memory in [&mut warp.local, &mut warp.local_written] {
        for lane in lanes(active & FULL) {
            let frame = &mut memory[lane * stride..][..stride];
            for &(from, to, length) in pieces {
                frame.copy_within(from as usize..(from + length) as usize, to as usize);
            }
        }
    }
}

/// Notes that pieces of each active lane's local memory hold values: start, length.
pub fn mark_local(warp: &mut Warp, pieces: &[(u64, u64)], active: Mask) {
    let stride = warp.local.len() / 32;
    for lane in lanes(active & FULL) {
        for &(start, length) in pieces {
            warp.local_written[lane * stride + start as usize..][..length as usize].fill(1);
        }
    }
}
