//! Bytes of shared memory that an instruction reads and writes as a whole: matrices, bulk copies, barriers.

use crate::exec::access::checks::{in_flight, uninitialised, writable};
use crate::exec::race::detector::AccessKind;
use crate::exec::state::context::Context;
use crate::memory::ByteState;
use crate::report::Fault;

impl Context<'_> {
    /// Reads bytes of shared memory for a lane.
    ///
    /// # Errors
    /// Bounds, and what the options check.
    pub fn read_shared(&mut self, lane: usize, address: u64, into: &mut [u8]) -> Result<(), Fault> {
        let agent = self.agent();
        self.read_shared_as(agent, false, lane, address, into)
    }

    /// As [`Context::read_shared`], by any agent of [`ClockSet`](crate::exec::race::clocks::ClockSet): an asynchronous
    /// operation reads as
    /// `context.clocks.asynchronous(rank, warp)`, whose accesses race with those of threads that nothing orders after it. `strong`:
    /// an atomic or the like.
    ///
    /// # Errors
    /// As [`Context::read_shared`].
    pub fn read_shared_as(
        &mut self,
        agent: usize,
        strong: bool,
        lane: usize,
        address: u64,
        into: &mut [u8],
    ) -> Result<(), Fault> {
        let (rank, inside) = self.shared_block(address).map_err(|fault| fault.lane(lane))?;
        let memory = &self.blocks[rank].shared;

        let at = |fault: Fault| fault.lane(lane).at(crate::memory::SHARED_WINDOW + address);
        let offset = memory.offset(inside, into.len() as u64).map_err(at)?;
        into.copy_from_slice(memory.bytes(offset, into.len()));

        // Bytes that are still in flight, or that nobody has written.
        let states = memory.states(offset, into.len());
        if states.contains(&ByteState::InFlight) {
            return Err(in_flight(lane, address));
        }
        if self.grid.options.uninitialised && states.contains(&ByteState::Unwritten) {
            return Err(uninitialised("shared", lane, crate::memory::SHARED_WINDOW + address));
        }

        self.check_shared_range(agent, rank, lane, offset, into.len(), AccessKind { write: false, strong })
    }

    /// Writes bytes of shared memory for a lane.
    ///
    /// # Errors
    /// Bounds, and what the options check.
    pub fn write_shared(&mut self, lane: usize, address: u64, from: &[u8]) -> Result<(), Fault> {
        let agent = self.agent();
        self.write_shared_as(agent, false, lane, address, from)
    }

    /// As [`Context::write_shared`], by any agent; see [`Context::read_shared_as`].
    ///
    /// # Errors
    /// As [`Context::write_shared`].
    pub fn write_shared_as(
        &mut self,
        agent: usize,
        strong: bool,
        lane: usize,
        address: u64,
        from: &[u8],
    ) -> Result<(), Fault> {
        let (rank, inside) = self.shared_block(address).map_err(|fault| fault.lane(lane))?;
        let memory = &mut self.blocks[rank].shared;
        let at = |fault: Fault| fault.lane(lane).at(crate::memory::SHARED_WINDOW + address);
        let offset = memory.offset(inside, from.len() as u64).map_err(at)?;
        writable(memory, offset, from.len()).map_err(at)?;
        let written = |_: usize, at: u64| from[(at - inside) as usize % from.len()];
        let kind = AccessKind { write: true, strong };
        self.check_shared_store(agent, rank, lane, offset, from.len(), kind, Some(&written))?;
        self.blocks[rank].shared.put(offset, from);
        Ok(())
    }
}
