//! Rows of matrices in shared memory, of which bytes may hold no value.

use crate::exec::race::detector::AccessKind;
use crate::exec::state::context::Context;
use crate::memory::ByteState;
use crate::report::{Fault, FaultKind};

/// Bytes of a row.
const ROW: usize = 16;

impl Context<'_> {
    /// Reads a row for a lane; which of its bytes were never written, as bits.
    ///
    /// # Errors
    /// Bounds, and what the options check.
    #[inline(always)]
    pub(in crate::exec) fn read_row(&mut self, lane: usize, address: u64, into: &mut [u8; ROW]) -> Result<u16, Fault> {
        match self.read_shared(lane, address, into) {
            Ok(()) => Ok(0),
            Err(fault) if fault.kind == FaultKind::UninitialisedMemory => self.read_lacking_row(lane, address),
            Err(fault) => Err(fault),
        }
    }

    /// What a row lacks that has been read, and the race check that this has left out.
    #[cold]
    fn read_lacking_row(&mut self, lane: usize, address: u64) -> Result<u16, Fault> {
        let (rank, inside) = self.shared_block(address).map_err(|fault| fault.lane(lane))?;
        let memory = &self.blocks[rank].shared;
        let offset = memory.offset(inside, ROW as u64).map_err(|fault| fault.lane(lane))?;
        let states = memory.states(offset, ROW).iter().enumerate();
        let lacks =
            states.filter(|(_, state)| **state == ByteState::Unwritten).fold(0, |all, (byte, _)| all | 1 << byte);
        let agent = self.agent();
        self.check_shared_range(agent, rank, lane, offset, ROW, AccessKind { write: false, strong: false })?;
        Ok(lacks)
    }
}
