//! The four warps that run a wgmma together: each multiplies its own 16 rows, and all must issue the same operations.

use std::collections::VecDeque;

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

/// Four neighbouring warps.
#[derive(Default)]
struct Warpgroup {
    /// How many operations each has issued.
    issued: [u64; 4],
    /// Those that not all have issued; the first is number `first`.
    open: VecDeque<Issue>,
    first: u64,
    /// A warp that waits for operations that another has not issued: the number it needs.
    wanted: Option<u64>,
    /// Warps that have left.
    left: [bool; 4],
}

fn alone(warp: u32, issued: u64) -> Fault {
    let message = format!(
        "warp {warp} left after {issued} wgmma, and other warps of its warpgroup run more: all four must run each of them"
    );
    Fault::new(FaultKind::DivergentBarrier, message)
}

/// The warpgroups of a block.
#[derive(Default)]
pub struct Warpgroups(Vec<Warpgroup>);

impl Warpgroups {
    fn of(&mut self, warp: u32) -> &mut Warpgroup {
        let place = warp as usize / 4;
        if self.0.len() <= place {
            self.0.resize_with(place + 1, Warpgroup::default);
        }
        &mut self.0[place]
    }

    /// Notes that a warp issues an operation.
    ///
    /// # Errors
    /// Another warp of the group has issued a different one in its place.
    pub fn issue(&mut self, warp: u32, issue: Issue) -> Result<(), Fault> {
        let group = self.of(warp);
        let number = group.issued[warp as usize % 4];
        if let Some(gone) = (0..4).find(|&other| group.left[other] && group.issued[other] <= number) {
            return Err(alone(warp / 4 * 4 + gone as u32, group.issued[gone]));
        }
        group.issued[warp as usize % 4] += 1;
        match group.open.get((number - group.first) as usize) {
            None => group.open.push_back(issue),
            Some(&other) if other == issue => {}
            Some(other) => {
                let what = if other.pc != issue.pc { "another wgmma" } else { "other descriptors or another scale-d" };
                let message = format!(
                    "warp {warp} runs {what} than the other warps of its warpgroup: descriptors {:#x} and {:#x}, theirs \
                     {:#x} and {:#x}",
                    issue.descriptors[0], issue.descriptors[1], other.descriptors[0], other.descriptors[1]
                );
                return Err(Fault::new(FaultKind::InvalidUse, message));
            }
        }
        let behind = group.issued.iter().min().copied().unwrap_or(0);
        while group.first < behind {
            group.open.pop_front();
            group.first += 1;
        }
        Ok(())
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
