//! Single accesses to memory by a lane, with their checks: what every family that touches memory is built on.

use crate::exec::access::checks::{aligned, uninitialised};
use crate::exec::program::address::{Address, Space, Window, window};
use crate::exec::program::registers::Slot;
use crate::exec::race::detector::{AccessKind, SyncLocation};
use crate::exec::state::context::Context;
use crate::exec::state::worker::Missing;
use crate::mask::{Mask, lanes};
use crate::memory::{ByteState, CLUSTER_RANK_SHIFT, Word};
use crate::report::{Fault, FaultKind};

/// How an instruction looks at memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Where.
    pub space: Space,
    /// Whether it is volatile, relaxed, acquire, release or atomic: two of these do not race.
    pub strong: bool,
    /// A load that hands on what memory lacks, in place of a fault.
    pub defers: bool,
}

impl Access {
    /// A plain one.
    pub fn weak(space: Space) -> Self {
        Self { space, strong: false, defers: false }
    }
}

/// Where an access of global or shared memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::exec) enum Found {
    /// Index of the allocation, and offset there.
    Global(usize, u64),
    /// Rank of the block, and offset in its shared memory.
    Shared(usize, usize),
}

impl Found {
    /// As a location of synchronisation; `address` is that of the access.
    pub(in crate::exec) fn location(self, address: u64) -> SyncLocation {
        match self {
            Self::Global(..) => SyncLocation::Global(address),
            Self::Shared(rank, offset) => SyncLocation::Shared(rank, offset),
        }
    }
}

impl Context<'_> {
    /// The addresses of all lanes.
    #[inline(always)]
    pub fn addresses(&self, address: &Address) -> [u64; 32] {
        let registers = &self.warp.registers;
        if address.wide {
            registers.get::<u64>(address.base).map(|base| base.wrapping_add_signed(address.offset))
        } else {
            registers
                .get::<u32>(address.base)
                .map(|base| u64::from(base).wrapping_add_signed(address.offset) & 0xffff_ffff)
        }
    }

    /// Rank of the block and address inside its shared memory that a shared address means (`mapa` puts a rank into it).
    ///
    /// # Errors
    /// No such block in the cluster.
    pub fn shared_block(&self, address: u64) -> Result<(usize, u64), Fault> {
        let rank = match (address >> CLUSTER_RANK_SHIFT) as usize {
            0 => self.rank,
            rank => rank - 1,
        };
        if rank >= self.blocks.len() {
            let message =
                format!("shared address {address:#x} is in no block of this cluster of {}", self.blocks.len());
            return Err(Fault::new(FaultKind::OutOfBounds, message));
        }
        if rank != self.rank && self.blocks[rank].live_threads == 0 {
            let message = format!("shared memory of the cluster's block {rank}, all of whose threads have left");
            return Err(Fault::new(FaultKind::InvalidUse, message));
        }
        Ok((rank, address & ((1 << CLUSTER_RANK_SHIFT) - 1)))
    }

    /// Reads a word for a lane.
    ///
    /// # Errors
    /// Bounds, alignment, and what the options check.
    pub fn load<T: Word>(&mut self, space: Space, lane: usize, address: u64) -> Result<T, Fault> {
        self.load_as(Access::weak(space), lane, address)
    }

    /// As [`Context::load`], by any kind of access.
    ///
    /// # Errors
    /// As [`Context::load`].
    pub fn load_as<T: Word>(&mut self, access: Access, lane: usize, address: u64) -> Result<T, Fault> {
        aligned(address, T::BYTES, lane)?;

        let (place, inside) = locate(access.space, address);
        match place {
            Window::Global => {
                let (index, offset) = self.global(lane, address, T::BYTES)?;
                let Some(allocation) = self.grid.memory.get(index) else { return Ok(T::default()) };
                if self.grid.options.uninitialised && !allocation.is_written(offset, T::BYTES) {
                    let lacks = bits_where(T::BYTES, |byte| !allocation.is_written(offset + byte, 1));
                    self.missing(access, "global", lane, address, address, lacks)?;
                }
                let value = allocation.load(offset);
                let kind = AccessKind { write: false, strong: access.strong };
                self.check_global_lane(index, lane, address, T::BYTES, kind, None)?;
                Ok(value)
            }
            Window::Shared => {
                let mut word = [0; 8];
                let agent = self.agent();
                let into = &mut word[..T::BYTES as usize];
                match access.defers && self.grid.options.uninitialised {
                    true => self.read_shared_deferring(agent, access, lane, (address, inside), into)?,
                    false => self.read_shared_as(agent, access.strong, lane, inside, into)?,
                }
                Ok(T::cut(u64::from_le_bytes(word)))
            }
            Window::Local => {
                let range = self.local_range(lane, inside, T::BYTES)?;
                let notes = &self.warp.local_written[range.clone()];
                if self.grid.options.uninitialised && notes.contains(&0) {
                    let lacks = bits_where(T::BYTES, |byte| notes[byte as usize] == 0);
                    self.missing(access, "local", lane, address, crate::memory::LOCAL_WINDOW + inside, lacks)?;
                }
                Ok(T::from_slice(&self.warp.local[range]))
            }
            Window::Parameter => {
                let range = inside as usize..(inside + T::BYTES) as usize;
                match self.grid.launch.parameters.get(range) {
                    Some(bytes) => Ok(T::from_slice(bytes)),
                    None => {
                        Err(Fault::new(FaultKind::OutOfBounds, "behind the kernel's parameters").lane(lane).at(address))
                    }
                }
            }
        }
    }

    /// A load finds bits of a word at `address` without a value; `full` is its generic address.
    ///
    /// # Errors
    /// `UninitialisedMemory`, where the load does not hand that on.
    #[cold]
    fn missing(
        &mut self,
        access: Access,
        space: &'static str,
        lane: usize,
        address: u64,
        full: u64,
        bits: u64,
    ) -> Result<(), Fault> {
        if !access.defers {
            return Err(uninitialised(space, lane, full));
        }
        self.worker.missing.push(Missing { lane, address, full, bits, space });
        Ok(())
    }

    /// Reads shared memory of which bytes may hold no value.
    #[cold]
    fn read_shared_deferring(
        &mut self,
        agent: usize,
        access: Access,
        lane: usize,
        (address, inside): (u64, u64),
        into: &mut [u8],
    ) -> Result<(), Fault> {
        let (rank, place) = self.shared_block(inside).map_err(|fault| fault.lane(lane))?;
        let memory = &self.blocks[rank].shared;
        let at = |fault: Fault| fault.lane(lane).at(crate::memory::SHARED_WINDOW + inside);
        let offset = memory.offset(place, into.len() as u64).map_err(at)?;
        let states = memory.states(offset, into.len());
        if states.contains(&ByteState::InFlight) || !states.contains(&ByteState::Unwritten) {
            return self.read_shared_as(agent, access.strong, lane, inside, into);
        }

        into.copy_from_slice(memory.bytes(offset, into.len()));
        let lacks = bits_where(into.len() as u64, |byte| states[byte as usize] == ByteState::Unwritten);
        self.missing(access, "shared", lane, address, crate::memory::SHARED_WINDOW + inside, lacks)?;
        let kind = AccessKind { write: false, strong: access.strong };
        self.check_shared_range(agent, rank, lane, offset, into.len(), kind)
    }

    /// Writes a word for a lane.
    ///
    /// # Errors
    /// Bounds, alignment, and what the options check.
    pub fn store<T: Word>(&mut self, space: Space, lane: usize, address: u64, value: T) -> Result<(), Fault> {
        self.store_as(Access::weak(space), lane, address, value)
    }

    /// As [`Context::store`], by any kind of access.
    ///
    /// # Errors
    /// As [`Context::store`].
    pub fn store_as<T: Word>(&mut self, access: Access, lane: usize, address: u64, value: T) -> Result<(), Fault> {
        aligned(address, T::BYTES, lane)?;
        let (place, inside) = locate(access.space, address);
        let bytes = value.into().to_le_bytes();
        let bytes = &bytes[..T::BYTES as usize];

        match place {
            Window::Global => {
                let (index, offset) = self.global(lane, address, T::BYTES)?;
                let kind = AccessKind { write: true, strong: access.strong };
                let written = |_: usize, at: u64| bytes[(at - address) as usize % bytes.len()];
                self.check_global_lane(index, lane, address, T::BYTES, kind, Some(&written))?;
                if let Some(allocation) = self.grid.memory.get(index) {
                    allocation.store(offset, value);
                    allocation.set_written(offset, T::BYTES, true);
                }
                Ok(())
            }
            Window::Shared => {
                let agent = self.agent();
                self.write_shared_as(agent, access.strong, lane, inside, bytes)
            }
            Window::Local => {
                let range = self.local_range(lane, inside, T::BYTES)?;
                self.warp.local_written[range.clone()].fill(1);
                self.warp.local[range].copy_from_slice(bytes);
                Ok(())
            }
            Window::Parameter => Err(Fault::new(FaultKind::InvalidAddressSpace, "a kernel's parameters are read-only")
                .lane(lane)
                .at(address)),
        }
    }

    /// The bytes of a store whose data lacked something hold no value: `slots` are its words, of `bytes` each.
    #[cold]
    pub(in crate::exec) fn unwrite(
        &mut self,
        space: Space,
        mask: Mask,
        addresses: &[u64; 32],
        slots: &[Slot],
        bytes: u64,
    ) {
        for (part, &slot) in slots.iter().enumerate() {
            let Some(lacks) = self.carried(slot) else { continue };
            for lane in lanes(mask) {
                let (window, inside) = locate(space, addresses[lane] + part as u64 * bytes);
                for byte in (0..bytes).filter(|byte| lacks[lane] >> (8 * byte) & 0xff != 0) {
                    self.unwrite_byte(window, lane, inside + byte);
                }
            }
        }
        self.worker.carried.clear();
    }

    pub(in crate::exec) fn unwrite_byte(&mut self, window: Window, lane: usize, address: u64) {
        match window {
            Window::Shared => {
                let Ok((rank, inside)) = self.shared_block(address) else { return };
                if let Ok(offset) = self.blocks[rank].shared.offset(inside, 1) {
                    self.blocks[rank].shared.mark(offset, 1, ByteState::Unwritten);
                }
            }
            Window::Local => {
                if let Ok(range) = self.local_range(lane, address, 1) {
                    self.warp.local_written[range].fill(0);
                }
            }
            Window::Global | Window::Parameter => {}
        }
    }

    /// Index of the allocation that the step that runs has hit last, or another that shares its place.
    #[inline(always)]
    pub(in crate::exec) fn last_allocation(&mut self) -> &mut usize {
        let places = &mut self.worker.last_allocations;
        &mut places[self.pc as usize % places.len()]
    }

    /// Index of the allocation that an access of global memory is in, and the offset there.
    ///
    /// # Errors
    /// It is in none, or leaves it.
    #[inline]
    pub fn global(&mut self, lane: usize, address: u64, bytes: u64) -> Result<(usize, u64), Fault> {
        let map = self.grid.memory;
        let hit = |index: usize| {
            let allocation = map.get(index)?;
            let offset = address.wrapping_sub(allocation.base());
            (offset < allocation.size() && bytes <= allocation.size() - offset).then_some((index, offset))
        };
        if let Some(found) = hit(*self.last_allocation()) {
            return Ok(found);
        }
        let found = map.find(address).and_then(hit);
        if let Some((index, _)) = found {
            *self.last_allocation() = index;
        }
        found.ok_or_else(|| {
            let message = format!("{bytes} bytes of global memory that are in no allocation");
            Fault::new(FaultKind::OutOfBounds, message).lane(lane).at(address)
        })
    }

    /// Where an atomic access is.
    ///
    /// # Errors
    /// Bounds, alignment, and a space that has no atomics.
    pub(in crate::exec) fn find(
        &mut self,
        space: Space,
        lane: usize,
        address: u64,
        bytes: u64,
    ) -> Result<Found, Fault> {
        aligned(address, bytes, lane)?;

        match locate(space, address) {
            (Window::Global, _) => {
                self.global(lane, address, bytes).map(|(index, offset)| Found::Global(index, offset))
            }
            (Window::Shared, inside) => {
                let (rank, inside) = self.shared_block(inside).map_err(|fault| fault.lane(lane).at(address))?;
                let offset = self.blocks[rank].shared.offset(inside, bytes);
                Ok(Found::Shared(rank, offset.map_err(|fault| fault.lane(lane).at(address))?))
            }

            _ => {
                let message = "atomics are for global and shared memory";
                Err(Fault::new(FaultKind::InvalidAddressSpace, message).lane(lane).at(address))
            }
        }
    }

    fn local_range(&self, lane: usize, inside: u64, bytes: u64) -> Result<std::ops::Range<usize>, Fault> {
        let size = self.warp.local_bytes;
        if inside.checked_add(bytes).is_none_or(|end| end > size) {
            let message = format!("{bytes} bytes at local address {inside:#x}; the thread has {size:#x}");
            return Err(Fault::new(FaultKind::OutOfBounds, message)
                .lane(lane)
                .at(crate::memory::LOCAL_WINDOW + inside));
        }
        let start = lane * size as usize + inside as usize;
        Ok(start..start + bytes as usize)
    }
}

/// The window that an access is in, and the address there.
#[inline(always)]
pub(in crate::exec) fn locate(space: Space, address: u64) -> (Window, u64) {
    match space {
        Space::Generic => window(address),
        Space::Global => (Window::Global, address),
        Space::Shared => (Window::Shared, address),
        Space::Local => (Window::Local, address),
        Space::Parameter => (Window::Parameter, address),
    }
}

/// The bits of the bytes for which `is` holds.
fn bits_where(bytes: u64, is: impl Fn(u64) -> bool) -> u64 {
    (0..bytes).filter(|&byte| is(byte)).fold(0, |bits, byte| bits | 0xff << (8 * byte))
}
