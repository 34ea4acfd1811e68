//! What an [`Effect`](super::step::Effect) sees: its warp, the blocks of its cluster, the grid.

use super::cluster::Block;
use super::grid::{Grid, Worker};
use super::order::Order;
use super::registers::{FULL, Mask, Predicate, Registers, Slot};
use super::step::Flow;
use super::warp::Warp;
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

    /// Whether the lanes of `mask` may go on with an instruction that the lanes of `members` run together: they wait
    /// until all of these are there.
    ///
    /// # Errors
    /// A member has left, or a lane that runs is no member.
    pub fn converge(&self, mask: Mask, members: Mask) -> Result<Flow, Fault> {
        if mask & !members != 0 {
            let message = format!("run by lanes {mask:#010x}, but the member mask is {members:#010x}");
            return Err(
                Fault::new(FaultKind::DivergentBarrier, message).lane((mask & !members).trailing_zeros() as usize)
            );
        }
        let missing = members & !mask;
        if missing == 0 {
            return Ok(Flow::Next);
        }
        let gone = missing & !self.warp.live();
        if gone != 0 {
            let message = format!("the member mask {members:#010x} names lanes that have left: {gone:#010x}");
            return Err(Fault::new(FaultKind::DivergentBarrier, message));
        }
        Ok(Flow::Wait)
    }

    /// As [`Context::converge`], for the member mask in a 32-bit slot, which must be the same in all lanes that run.
    ///
    /// # Errors
    /// As [`Context::converge`]; or the lanes have different masks.
    pub fn converge_slot(&mut self, mask: Mask, members: Slot) -> Result<Flow, Fault> {
        let masks = self.warp.registers.get::<u32>(members);
        let first = masks[mask.trailing_zeros() as usize & 31];
        if super::registers::lanes(mask).any(|lane| masks[lane] != first) {
            return Err(Fault::new(FaultKind::DivergentBarrier, "its lanes name different member masks"));
        }
        self.converge(mask, first)
    }

    /// That the whole warp, less lanes that have left, runs an `.aligned` instruction.
    ///
    /// # Errors
    /// Some lanes are elsewhere.
    pub fn aligned(&self, mask: Mask) -> Result<(), Fault> {
        let live = self.warp.live();
        if mask == live {
            return Ok(());
        }
        let message = format!("an .aligned instruction is run by lanes {mask:#010x} of {live:#010x}");
        Err(Fault::new(FaultKind::DivergentBarrier, message))
    }

    /// Says that something happened that a waiting warp may wait for.
    pub fn progress(&mut self) {
        self.worker.events += 1;
    }
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
