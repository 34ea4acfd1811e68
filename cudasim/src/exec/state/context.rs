//! What an [`Effect`](crate::exec::program::step::Effect) sees: its warp, the blocks of its cluster, the grid.

use crate::exec::program::registers::{FULL, Mask, Predicate, Registers, Slot};
use crate::exec::program::step::Flow;
use crate::exec::race::clocks::Order;
use crate::exec::schedule::cluster::Block;
use crate::exec::schedule::grid::{Grid, Worker};
use crate::exec::schedule::warp::Warp;
use crate::memory::{LOCAL_WINDOW, PARAMETER_WINDOW, SHARED_WINDOW};
use crate::report::{Fault, FaultKind};

/// Where an instruction runs.
pub struct Context<'a> {
    /// The launch.
    pub grid: &'a Grid<'a>,
    /// The host thread.
    pub worker: &'a mut Worker,
    /// The blocks of the cluster, by rank.
    pub blocks: &'a mut [Block],
    /// What happened before what in the cluster.
    pub order: &'a mut Order,
    /// Rank of the warp's own block.
    pub rank: usize,
    /// The warp.
    pub warp: &'a mut Warp,
    /// Index of the step that runs.
    pub pc: u32,
}

impl Context<'_> {
    /// The warp's registers.
    #[inline(always)]
    pub fn registers(&mut self) -> &mut Registers {
        &mut self.warp.registers
    }

    /// The warp's block.
    #[inline(always)]
    pub fn block(&mut self) -> &mut Block {
        &mut self.blocks[self.rank]
    }

    /// Which lanes of `mask` may go on with an instruction that the members named in a 32-bit slot run together, and each
    /// lane's members among them. Lanes may name different masks, as the tiles of cooperative groups do; those whose
    /// members are not all there yet wait. Members that have left are not waited for (ISA: "all non-exited threads").
    ///
    /// # Errors
    /// A lane runs it that is no member of its own mask.
    pub fn meet(&self, mask: Mask, members: Slot) -> Result<(Mask, [Mask; 32]), Fault> {
        let named = self.warp.registers.get::<u32>(members);
        let first = named[mask.trailing_zeros() as usize & 31];
        let live = self.warp.live();
        let skipping = self.skipping(mask);
        if let Some(lane) = crate::exec::program::registers::lanes(mask).find(|&lane| named[lane] & skipping != 0) {
            let (members, skipping) = (named[lane], named[lane] & skipping);
            let message = format!("the member mask {members:#010x} names lanes that skip it: {skipping:#010x}");
            return Err(Fault::new(FaultKind::DivergentBarrier, message).lane(lane));
        }
        if crate::exec::program::registers::lanes(mask).all(|lane| named[lane] == first) {
            if mask & !first != 0 {
                return Err(no_member((mask & !first).trailing_zeros() as usize, mask, first));
            }
            let group = first & live;
            return Ok((if group & !mask == 0 { mask } else { 0 }, [group; 32]));
        }
        let mut ready = 0;
        for lane in crate::exec::program::registers::lanes(mask) {
            if named[lane] >> lane & 1 == 0 {
                return Err(no_member(lane, mask, named[lane]));
            }
            let group = named[lane] & live;
            let together =
                crate::exec::program::registers::lanes(group & mask).all(|other| named[other] == named[lane]);
            if group & !mask == 0 && together {
                ready |= 1 << lane;
            }
        }
        Ok((ready, named.map(|members| members & live)))
    }

    /// Whether the whole warp, less lanes that have left, is there to run an `.aligned` instruction: it waits for lanes that are
    /// still on their way.
    ///
    /// # Errors
    /// Some lanes are here as well and skip it.
    pub fn whole_warp(&self, mask: Mask) -> Result<Flow, Fault> {
        if mask == self.warp.live() {
            return Ok(Flow::Next);
        }
        let skipping = self.skipping(mask);
        if skipping != 0 {
            let message =
                format!("an .aligned instruction is run by lanes {mask:#010x} and skipped by {skipping:#010x}");
            return Err(Fault::new(FaultKind::DivergentBarrier, message));
        }
        Ok(Flow::Wait)
    }

    /// The lanes that are at the instruction as those of `mask` are, but whose guard is false.
    fn skipping(&self, mask: Mask) -> Mask {
        self.warp.splits().last().map_or(0, |split| split.mask & !mask)
    }

    /// Says that something happened that a waiting warp may wait for.
    pub fn progress(&mut self) {
        self.worker.events += 1;
    }
}

fn no_member(lane: usize, mask: Mask, members: Mask) -> Fault {
    let message = format!("run by lanes {mask:#010x}, but the member mask is {members:#010x}");
    Fault::new(FaultKind::DivergentBarrier, message).lane(lane)
}

/// Which window of the generic space an address is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// Global memory, or nowhere.
    Global,
    /// Shared memory of the block or cluster; the rest is the shared address.
    Shared,
    /// Local memory; the rest is the local address.
    Local,
    /// The kernel's parameters; the rest is the offset.
    Parameter,
}

/// Splits a generic address into window and address inside it.
#[inline(always)]
pub fn window(address: u64) -> (Window, u64) {
    match address >> 32 {
        x if x == SHARED_WINDOW >> 32 => (Window::Shared, address & 0xffff_ffff),
        x if x == LOCAL_WINDOW >> 32 => (Window::Local, address & 0xffff_ffff),
        x if x == PARAMETER_WINDOW >> 32 => (Window::Parameter, address & 0xffff_ffff),
        _ => (Window::Global, address),
    }
}

/// Where a predicate operand holds, or everywhere where there is none.
#[inline(always)]
pub fn holds(registers: &Registers, predicate: Option<Predicate>) -> Mask {
    predicate.map_or(FULL, |predicate| registers.holds(predicate))
}
