//! The four warps that run a wgmma together: each multiplies its own 16 rows, and all must issue the same operations.

use std::collections::VecDeque;

use crate::exec::race::clocks::Clock;
use crate::exec::state::wgmma::Packed;
use crate::report::{Fault, FaultKind};

/// An operation as one warp issued it, and the others must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Index of the step.
    pub pc: u32,
    /// Descriptors of A and B.
    pub descriptors: [u64; 2],
    /// `scale-d`
    pub accumulate: bool,
}

/// An operation that not all four warps are done with.
struct Open {
    issue: Issue,
    /// What is ordered before its completion.
    done: Clock,
    /// The multiplicands as the first warp that waits for it finds them: once one warp knows it complete, they may change.
    operands: Option<Packed>,
    /// Warps that have computed their rows.
    landed: [bool; 4],
}

/// Four neighbouring warps.
#[derive(Default)]
struct Warpgroup {
    /// How many operations each has issued.
    issued: [u64; 4],
    /// How many each has waited for.
    completed: [u64; 4],
    /// Those that not all have issued and computed; the first is number `first`.
    open: VecDeque<Open>,
    first: u64,
    /// A warp that waits for operations that another has not issued: the number it needs.
    wanted: Option<u64>,
    /// Warps that have left.
    left: [bool; 4],
    /// Room for operands, to be used again.
    spare: Vec<Packed>,
}

/// The warpgroups of a block.
#[derive(Default)]
pub struct Warpgroups(Vec<Warpgroup>);

fn alone(warp: u32, issued: u64) -> Fault {
    let message = format!(
        "warp {warp} left after {issued} wgmma, and other warps of its warpgroup run more: all four must run each of them"
    );
    Fault::new(FaultKind::DivergentBarrier, message)
}

impl Warpgroup {
    /// How many operations all four have waited for.
    fn waited(&self) -> u64 {
        self.completed.iter().min().copied().unwrap_or(0)
    }

    fn open(&mut self, number: u64) -> Option<&mut Open> {
        self.open.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }
}

impl Warpgroups {
    fn of(&mut self, warp: u32) -> &mut Warpgroup {
        let place = warp as usize / 4;
        if self.0.len() <= place {
            self.0.resize_with(place + 1, Warpgroup::default);
        }
        &mut self.0[place]
    }

    /// Notes that a warp issues an operation; `reads` is the clock of its reads of shared memory.
    ///
    /// # Errors
    /// Another warp of the group has issued a different one in its place.
    pub fn issue(&mut self, warp: u32, issue: Issue, reads: Clock) -> Result<(), Fault> {
        let group = self.of(warp);
        let number = group.issued[warp as usize % 4];
        if let Some(gone) = (0..4).find(|&other| group.left[other] && group.issued[other] <= number) {
            return Err(alone(warp / 4 * 4 + gone as u32, group.issued[gone]));
        }
        group.issued[warp as usize % 4] += 1;

        let Some(Open { issue: other, done, .. }) = group.open(number) else {
            group.open.push_back(Open { issue, done: reads, operands: None, landed: [false; 4] });
            return Ok(());
        };
        if *other != issue {
            let what = if other.pc != issue.pc { "another wgmma" } else { "other descriptors or another scale-d" };
            let message = format!(
                "warp {warp} runs {what} than the other warps of its warpgroup: descriptors {:#x} and {:#x}, theirs {:#x} and \
                 {:#x}",
                issue.descriptors[0], issue.descriptors[1], other.descriptors[0], other.descriptors[1]
            );
            return Err(Fault::new(FaultKind::InvalidUse, message));
        }

        done.join(&reads);
        Ok(())
    }

    /// What is ordered before the completion of an operation.
    pub fn done(&mut self, warp: u32, number: u64) -> Option<&Clock> {
        self.of(warp).open(number).map(|open| &open.done)
    }

    /// Whether other warps still have to compute their rows of an operation.
    pub fn others_need(&mut self, warp: u32, number: u64) -> bool {
        let group = self.of(warp);
        group.open(number).is_some_and(|open| (0..4).any(|other| other != warp as usize % 4 && !open.landed[other]))
    }

    /// Takes the multiplicands of an operation as an earlier warp found them.
    pub fn take_operands(&mut self, warp: u32, number: u64) -> Option<Packed> {
        self.of(warp).open(number)?.operands.take()
    }

    /// Room for multiplicands.
    pub fn room(&mut self, warp: u32) -> Packed {
        self.of(warp).spare.pop().unwrap_or_default()
    }

    /// Keeps room for later.
    pub fn keep(&mut self, warp: u32, room: Packed) {
        self.of(warp).spare.push(room);
    }

    /// Puts multiplicands where the other warps find them, or keeps the room for later where all have computed.
    pub fn put_operands(&mut self, warp: u32, number: u64, operands: Packed) {
        let group = self.of(warp);
        match group.open(number) {
            Some(open) if open.operands.is_none() => open.operands = Some(operands),
            _ => group.spare.push(operands),
        }
    }

    /// Notes that a warp has computed its rows of an operation.
    pub fn landed(&mut self, warp: u32, number: u64) {
        let group = self.of(warp);
        if let Some(open) = group.open(number) {
            open.landed[warp as usize % 4] = true;
        }
    }

    /// Notes how many operations a warp has waited for, and forgets those that all have.
    pub fn complete(&mut self, warp: u32, completed: u64) {
        let group = self.of(warp);
        group.completed[warp as usize % 4] = completed;
        while group.waited() > group.first {
            if let Some(operands) = group.open.pop_front().and_then(|open| open.operands) {
                group.spare.push(operands);
            }
            group.first += 1;
        }
    }

    /// Notes that a warp has left.
    ///
    /// # Errors
    /// The others have issued operations that it has not.
    pub fn leave(&mut self, warp: u32) -> Result<(), Fault> {
        let Some(group) = self.0.get_mut(warp as usize / 4) else { return Ok(()) };
        let issued = group.issued[warp as usize % 4];
        group.left[warp as usize % 4] = true;
        if issued < group.first + group.open.len() as u64 {
            return Err(alone(warp, issued));
        }
        Ok(())
    }

    /// Whether every warp of the group has issued as many operations as `count`: only then can they be complete.
    pub fn all_issued(&mut self, warp: u32, count: u64) -> bool {
        let group = self.of(warp);
        let there = group.issued.iter().all(|&issued| issued >= count);
        group.wanted = (!there).then_some(count);
        there
    }

    /// What warps wait for, for the report of a deadlock.
    pub fn describe_waiting(&self) -> Option<String> {
        self.0.iter().enumerate().find_map(|(number, group)| {
            let wanted = group.wanted?;
            let late = group.issued.iter().position(|&issued| issued < wanted)?;
            Some(format!(
                "warpgroup {number} waits for its wgmma number {wanted}, of which warp {} has run only {}",
                4 * number + late,
                group.issued[late]
            ))
        })
    }
}
