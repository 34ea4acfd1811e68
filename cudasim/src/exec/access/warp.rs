//! Loads and stores by all lanes of a warp at once: one check for all of them where they lie side by side in global memory
//! or stay in one allocation, and lane by lane (see [`access`](crate::exec::access::lane)) where they do not or where
//! something is wrong, which finds the lane to report.

use crate::counters::Direction;
use crate::exec::access::checks::aligned;
use crate::exec::access::lane::{Access, Found, locate};
use crate::exec::program::address::{Space, Window};
use crate::exec::race::detector::AccessKind;
use crate::exec::state::context::Context;
use crate::mask::{FULL, Mask, lanes};
use crate::memory::{CLUSTER_RANK_SHIFT, Word};
use crate::report::Fault;

/// Where all lanes of an access are.
enum Place {
    /// In this allocation.
    Global(usize),
    /// In shared memory of this block, at these addresses without a rank.
    Shared(usize),
    /// At these local addresses.
    Local,
    /// In different places, or somewhere where not all is well.
    Mixed,
}

impl Context<'_> {
    /// Loads `N` words, one behind another, for each lane of `mask`; other lanes get anything.
    ///
    /// # Errors
    /// Bounds, alignment (to all `N` words), and what the options check.
    #[inline(always)]
    pub fn load_warp<T: Word, const N: usize>(
        &mut self,
        access: Access,
        mask: Mask,
        addresses: &[u64; 32],
        into: &mut [[T; 32]; N],
    ) -> Result<(), Fault> {
        let bytes = N as u64 * T::BYTES;
        self.count(access.space, Direction::Load, addresses, mask, bytes);

        // All 32 lanes side by side in one allocation: one copy.
        if let Some((index, offset)) = self.run(access.space, mask, addresses, bytes)
            && let Some(allocation) = self.grid.memory.get(index)
            && (allocation.load_run(offset, into) || !self.grid.options.uninitialised)
        {
            return self.check_global_run(
                index,
                addresses[0],
                bytes,
                AccessKind { write: false, strong: access.strong },
                None,
            );
        }

        // All lanes in one allocation, one block's shared memory or local memory: checked at once.
        let mut places = fill(addresses, mask);
        match self.place(access.space, &mut places, bytes) {
            Place::Global(index) => {
                let Some(allocation) = self.grid.memory.get(index) else { return Ok(()) };
                if allocation.gather(&places, into) || !self.grid.options.uninitialised {
                    let kind = AccessKind { write: false, strong: access.strong };
                    return self.check_global(index, &places, mask, bytes, kind, None);
                }
            }
            Place::Shared(rank) => {
                if self.blocks[rank].shared.gather(&places, into, self.grid.options.uninitialised) {
                    let kind = AccessKind { write: false, strong: access.strong };
                    return self.check_shared(self.agent(), rank, &places, mask, bytes, kind, None);
                }
            }
            Place::Local => {
                if self.load_local(&places, into) {
                    return Ok(());
                }
            }
            Place::Mixed => {}
        }

        // Anything else lane by lane, with its faults.
        for lane in lanes(mask) {
            aligned(addresses[lane], bytes, lane)?;
            for (part, values) in into.iter_mut().enumerate() {
                values[lane] = self.load_as(access, lane, addresses[lane] + part as u64 * T::BYTES)?;
            }
        }
        Ok(())
    }

    /// Stores `N` words, one behind another, for each lane of `mask`, the lowest lane first.
    ///
    /// # Errors
    /// Bounds, alignment (to all `N` words), and what the options check.
    #[inline(always)]
    pub fn store_warp<T: Word, const N: usize>(
        &mut self,
        access: Access,
        mask: Mask,
        addresses: &[u64; 32],
        from: &[[T; 32]; N],
    ) -> Result<(), Fault> {
        let bytes = N as u64 * T::BYTES;
        self.count(access.space, Direction::Store, addresses, mask, bytes);

        // All 32 lanes side by side in one allocation: one copy.
        if let Some((index, offset)) = self.run(access.space, mask, addresses, bytes)
            && let Some(allocation) = self.grid.memory.get(index)
        {
            let kind = AccessKind { write: true, strong: access.strong };
            self.check_global_run(index, addresses[0], bytes, kind, Some(&byte_of(addresses, from)))?;
            allocation.store_run(offset, from);
            return Ok(());
        }

        // All lanes in one allocation, one block's shared memory or local memory: checked at once.
        let mut places = fill(addresses, mask);
        match self.place(access.space, &mut places, bytes) {
            Place::Global(index) => {
                let Some(allocation) = self.grid.memory.get(index) else { return Ok(()) };
                let kind = AccessKind { write: true, strong: access.strong };
                self.check_global(index, &places, mask, bytes, kind, Some(&byte_of(&places, from)))?;
                allocation.scatter(&places, mask, from);
                return Ok(());
            }
            Place::Shared(rank) if !self.blocks[rank].shared.is_guarded() => {
                let kind = AccessKind { write: true, strong: access.strong };
                let written = byte_of(&places, from);
                self.check_shared(self.agent(), rank, &places, mask, bytes, kind, Some(&written))?;
                self.blocks[rank].shared.scatter(&places, mask, from);
                return Ok(());
            }
            Place::Local => {
                self.store_local(&places, mask, from);
                return Ok(());
            }
            Place::Shared(_) | Place::Mixed => {}
        }

        // Anything else lane by lane, with its faults.
        for lane in lanes(mask) {
            aligned(addresses[lane], bytes, lane)?;
            for (part, values) in from.iter().enumerate() {
                self.store_as(access, lane, addresses[lane] + part as u64 * T::BYTES, values[lane])?;
            }
        }
        Ok(())
    }

    /// Reads the 16 bytes at each lane's global address again, in one piece, as halves of 64 bits: after a load that found
    /// nothing wrong.
    pub(in crate::exec) fn reload_wide(
        &mut self,
        space: Space,
        mask: Mask,
        addresses: &[u64; 32],
    ) -> Option<[[u64; 32]; 2]> {
        let mut halves = [[0; 32]; 2];
        for lane in lanes(mask) {
            let Ok(Found::Global(index, offset)) = self.find(space, lane, addresses[lane], 16) else { return None };
            let value = self.grid.memory.get(index)?.load_wide(offset);
            (halves[0][lane], halves[1][lane]) = (value as u64, (value >> 64) as u64);
        }
        Some(halves)
    }

    /// Stores the 16 bytes of a lane in one piece; `false` where it is not in global memory.
    ///
    /// # Errors
    /// As [`Context::store_warp`].
    pub(in crate::exec) fn store_wide(
        &mut self,
        space: Space,
        lane: usize,
        address: u64,
        value: u128,
    ) -> Result<bool, Fault> {
        let Found::Global(index, offset) = self.find(space, lane, address, 16)? else { return Ok(false) };
        if let Some(allocation) = self.grid.memory.get(index) {
            allocation.store_wide(offset, value);
            allocation.set_written(offset, 16, true);
        }
        self.check_global_lane(index, lane, address, 16, AccessKind { write: true, strong: true }, None)?;
        Ok(true)
    }

    /// Whether the warp does the very same as the last time that it asked: it waits for somebody in a loop.
    pub(in crate::exec) fn spins(&mut self, address: u64, value: u64) -> bool {
        let poll = (self.pc, address, value);
        std::mem::replace(&mut self.warp.last_poll, poll) == poll
    }

    /// Counts an access of global and shared memory by the lanes of `mask`, where the options ask for counts.
    #[inline(always)]
    pub fn count(&mut self, space: Space, direction: Direction, addresses: &[u64; 32], mask: Mask, bytes: u64) {
        if let Some(counts) = &mut self.worker.counts {
            let is_in = |window: Window| {
                let inside = lanes(mask).filter(|&lane| locate(space, addresses[lane]).0 == window);
                inside.fold(0, |mask, lane| mask | 1 << lane)
            };
            counts.global(direction, addresses, is_in(Window::Global), bytes);
            counts.shared(direction, addresses, is_in(Window::Shared), bytes);
        }
    }

    /// The allocation of all 32 lanes side by side, where that is how they access global memory, and the offset there.
    #[inline(always)]
    fn run(&mut self, space: Space, mask: Mask, addresses: &[u64; 32], bytes: u64) -> Option<(usize, u64)> {
        let first = addresses[0];
        let at = |lane: usize| first.wrapping_add(lane as u64 * bytes);

        // The last lane's address rules most others out.
        if mask != FULL || addresses[31] != at(31) || locate(space, first).0 != Window::Global {
            return None;
        }
        let mut apart = 0;
        for (lane, address) in addresses.iter().enumerate() {
            apart |= address ^ at(lane);
        }
        if apart != 0 {
            return None;
        }
        let map = self.grid.memory;
        let inside = |index: usize| Some((index, map.get(index)?.run(first, bytes)?));
        if let Some(found) = inside(*self.last_allocation()) {
            return Some(found);
        }
        let found = inside(map.find(first)?)?;
        *self.last_allocation() = found.0;
        Some(found)
    }

    /// Where all of `addresses` are; those of a window become addresses inside it.
    #[inline(always)]
    fn place(&mut self, space: Space, addresses: &mut [u64; 32], bytes: u64) -> Place {
        let (window, _) = locate(space, addresses[0]);
        if space == Space::Generic {
            if window == Window::Global {
                // Others may be in a window; then no allocation holds them.
            } else if addresses.iter().any(|address| address >> 32 != addresses[0] >> 32) {
                return Place::Mixed;
            } else {
                addresses.iter_mut().for_each(|address| *address &= 0xffff_ffff);
            }
        }

        match window {
            Window::Global => {
                let map = self.grid.memory;
                let last = *self.last_allocation();
                if map.get(last).is_some_and(|a| a.holds(addresses, bytes)) {
                    return Place::Global(last);
                }
                match map.find(addresses[0]).filter(|&index| map.get(index).is_some_and(|a| a.holds(addresses, bytes)))
                {
                    Some(index) => {
                        *self.last_allocation() = index;
                        Place::Global(index)
                    }
                    None => Place::Mixed,
                }
            }
            Window::Shared => {
                let Ok((rank, _)) = self.shared_block(addresses[0]) else { return Place::Mixed };
                let mut different = 0;
                for address in addresses.iter() {
                    different |= address ^ addresses[0];
                }
                if different >> CLUSTER_RANK_SHIFT != 0 {
                    return Place::Mixed;
                }
                addresses.iter_mut().for_each(|address| *address &= (1 << CLUSTER_RANK_SHIFT) - 1);
                if self.blocks[rank].shared.holds(addresses, bytes) { Place::Shared(rank) } else { Place::Mixed }
            }
            Window::Local => {
                let size = self.warp.local_bytes;
                let well = size >= bytes
                    && addresses.iter().all(|&address| address <= size - bytes && address.is_multiple_of(bytes));
                if well { Place::Local } else { Place::Mixed }
            }
            Window::Parameter => Place::Mixed,
        }
    }

    /// `false` where something was never written that the options want to know of.
    #[inline(always)]
    fn load_local<T: Word, const N: usize>(&self, places: &[u64; 32], into: &mut [[T; 32]; N]) -> bool {
        let size = self.warp.local_bytes as usize;
        let mut unwritten = 0;
        for lane in 0..32 {
            for (part, values) in into.iter_mut().enumerate() {
                let at = lane * size + places[lane] as usize + part * T::BYTES as usize;
                values[lane] = T::from_slice(&self.warp.local[at..]);
                unwritten |= T::from_slice(&self.warp.local_written[at..]).into() ^ T::WRITTEN.into();
            }
        }
        unwritten == 0 || !self.grid.options.uninitialised
    }

    #[inline(always)]
    fn store_local<T: Word, const N: usize>(&mut self, places: &[u64; 32], mask: Mask, from: &[[T; 32]; N]) {
        let size = self.warp.local_bytes as usize;
        for lane in lanes(mask) {
            for (part, values) in from.iter().enumerate() {
                let at = lane * size + places[lane] as usize + part * T::BYTES as usize;
                values[lane].to_slice(&mut self.warp.local[at..]);
                T::WRITTEN.to_slice(&mut self.warp.local_written[at..]);
            }
        }
    }
}

/// Of a lane the byte that a store of words side by side writes at an address.
#[inline(always)]
fn byte_of<'a, T: Word, const N: usize>(
    addresses: &'a [u64; 32],
    from: &'a [[T; 32]; N],
) -> impl Fn(usize, u64) -> u8 + 'a {
    move |lane, address| {
        let at = address.wrapping_sub(addresses[lane]);
        let word: u64 = from[(at / T::BYTES) as usize % N][lane].into();
        (word >> (8 * (at % T::BYTES))) as u8
    }
}

/// The addresses, with that of the first lane of `mask` in lanes that do not take part.
#[inline(always)]
fn fill(addresses: &[u64; 32], mask: Mask) -> [u64; 32] {
    if mask == u32::MAX {
        return *addresses;
    }
    let first = addresses[mask.trailing_zeros() as usize & 31];
    std::array::from_fn(|lane| if mask >> lane & 1 != 0 { addresses[lane] } else { first })
}
