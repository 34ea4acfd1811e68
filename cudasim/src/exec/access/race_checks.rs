//! Checks for races: every access of shared and global memory is compared with the last ones of the same word.

use crate::exec::program::address::Space;
use crate::exec::race::clocks::Clock;
use crate::exec::race::detector::{
    AccessKind, Comparison, HappensBeforeInCluster, HappensBeforeInGrid, SyncLocation, WRITE, Written,
};
use crate::exec::state::context::Context;
use crate::mask::{FULL, Mask, lanes};
use crate::memory::shadow::{Cell, Race, Shadow, Visit};
use crate::memory::{SHARED_RESERVED, SHARED_WINDOW};
use crate::report::{Fault, FaultKind};

impl Context<'_> {
    /// The agent of the warp that runs.
    #[inline]
    pub fn agent(&self) -> usize {
        self.clocks.warp(self.rank, self.warp.id)
    }

    /// Checks and notes an access of global memory by the lanes of `mask`, all in allocation `index`.
    ///
    /// # Errors
    /// `GlobalRace`.
    #[inline]
    pub(in crate::exec) fn check_global(
        &mut self,
        index: usize,
        addresses: &[u64; 32],
        mask: Mask,
        bytes: u64,
        kind: AccessKind,
        written: Option<Written<'_>>,
    ) -> Result<(), Fault> {
        let race = self.visit_global(self.agent(), index, kind, written, |shadow, visit, base| {
            shadow.visit(visit, &addresses.map(|address| address.wrapping_sub(base)), mask, bytes)
        });
        race.map_err(|(lane, fault)| fault.at(addresses[lane]))
    }

    /// The same of one lane.
    ///
    /// # Errors
    /// As [`Context::check_global`].
    #[inline]
    pub(in crate::exec) fn check_global_lane(
        &mut self,
        index: usize,
        lane: usize,
        address: u64,
        bytes: u64,
        kind: AccessKind,
        written: Option<Written<'_>>,
    ) -> Result<(), Fault> {
        let race = self.visit_global(self.agent(), index, kind, written, |shadow, visit, base| {
            shadow.visit_lane(visit, lane, address.wrapping_sub(base), bytes)
        });
        race.map_err(|(_, fault)| fault.at(address))
    }

    /// The same of what a copy of one lane writes, as the agent of its warp's asynchronous operations.
    ///
    /// # Errors
    /// As [`Context::check_global`].
    pub(in crate::exec) fn check_global_copy(
        &mut self,
        index: usize,
        lane: usize,
        address: u64,
        bytes: u64,
    ) -> Result<(), Fault> {
        let agent = self.clocks.asynchronous(self.rank, self.warp.id);
        let race = self.visit_global(agent, index, WRITE, None, |shadow, visit, base| {
            shadow.visit_lane(visit, lane, address.wrapping_sub(base), bytes)
        });
        race.map_err(|(_, fault)| fault.at(address))
    }

    /// The same of all lanes side by side, the first at `address`.
    ///
    /// # Errors
    /// As [`Context::check_global`].
    #[inline]
    pub(in crate::exec) fn check_global_run(
        &mut self,
        index: usize,
        address: u64,
        bytes: u64,
        kind: AccessKind,
        written: Option<Written<'_>>,
    ) -> Result<(), Fault> {
        let race = self.visit_global(self.agent(), index, kind, written, |shadow, visit, base| match !visit.lanes {
            true => shadow.visit_run(visit, address - base, bytes),
            false => {
                let offsets = std::array::from_fn(|lane| address - base + lane as u64 * bytes);
                shadow.visit(visit, &offsets, FULL, bytes)
            }
        });
        race.map_err(|(lane, fault)| fault.at(address + lane as u64 * bytes))
    }

    #[inline(always)]
    fn visit_global(
        &mut self,
        agent: usize,
        index: usize,
        kind: AccessKind,
        written: Option<Written<'_>>,
        visitor: impl FnOnce(&Shadow, &mut Visit<HappensBeforeInGrid<'_>>, u64) -> Option<Race>,
    ) -> Result<(), (usize, Fault)> {
        if self.grid.first_agent == 0 {
            return Ok(());
        }
        let Some(allocation) = self.grid.memory.get(index) else { return Ok(()) };
        let Some(shadow) = allocation.shadow() else { return Ok(()) };
        let by_lane = self.grid.options.lane_races;
        let clocks = &*self.clocks;
        let (number, now) = (clocks.global_agent(agent), clocks.now(agent));
        let Some(cell) = Cell::new(number, now, kind.strong, self.pc) else { return Ok(()) };
        let byte = |at: u64| if at < allocation.size() { allocation.load::<u8>(at) } else { 0 };
        let memory = |word: usize| std::array::from_fn(|part| byte((4 * word + part) as u64));
        let comparison = written.map(|written| Comparison {
            written,
            base: allocation.base(),
            memory: &memory,
            shared: self.grid.options.threads != 1,
        });
        let knows = HappensBeforeInGrid { clocks, agent, number, now, lanes: by_lane, comparison, same: None };
        let old = self.grid.first_agent << 40;
        // The cache of epochs already proven to happen before the warp.
        let is_warp = agent == self.agent();
        let known = if is_warp { self.warp.proven_epochs[0] } else { 0 };
        let mut visit = Visit { cell, old, known, order: knows, lanes: by_lane, write: kind.write };
        let race = visitor(shadow, &mut visit, allocation.base());
        if is_warp {
            self.warp.proven_epochs[0] = visit.known;
        }
        let same = visit.order.same;

        match race {
            None => match same {
                None => Ok(()),
                Some((other, mine)) => {
                    let (cluster, agent) = clocks.of_global(other.agent());
                    self.warn_of_same(FaultKind::GlobalRace, other, mine, cluster, agent)
                }
            },
            Some(race) => {
                let (cluster, agent) = clocks.of_global(race.other.agent());
                let message = self.race(kind, &race, cluster, agent);
                Err((race.lane, Fault::new(FaultKind::GlobalRace, message).lane(race.lane)))
            }
        }
    }

    /// Checks and notes an access of the shared memory of block `rank` by `agent`, for the lanes of `mask`; the addresses
    /// have no rank in them.
    ///
    /// # Errors
    /// `SharedRace`.
    #[expect(clippy::too_many_arguments, reason = "who, where and what")]
    #[inline]
    pub(in crate::exec) fn check_shared(
        &mut self,
        agent: usize,
        rank: usize,
        addresses: &[u64; 32],
        mask: Mask,
        bytes: u64,
        kind: AccessKind,
        written: Option<Written<'_>>,
    ) -> Result<(), Fault> {
        let race = self.visit_shared(agent, rank, kind, written, |shadow, visit| {
            shadow.visit(visit, &addresses.map(|address| address.wrapping_sub(SHARED_RESERVED)), mask, bytes)
        });
        race.map_err(|(lane, fault)| fault.at(SHARED_WINDOW + addresses[lane]))
    }

    /// The same of any range of bytes for one lane: what an asynchronous copy calls, as its own agent
    /// (`clocks.asynchronous(rank, warp)`), where it reads or writes.
    ///
    /// # Errors
    /// `SharedRace`.
    pub fn check_shared_range(
        &mut self,
        agent: usize,
        rank: usize,
        lane: usize,
        offset: usize,
        bytes: usize,
        kind: AccessKind,
    ) -> Result<(), Fault> {
        self.check_shared_store(agent, rank, lane, offset, bytes, kind, None)
    }

    /// The same of a store, with what it writes.
    ///
    /// # Errors
    /// `SharedRace`.
    #[expect(clippy::too_many_arguments, reason = "who, where and what")]
    pub(in crate::exec) fn check_shared_store(
        &mut self,
        agent: usize,
        rank: usize,
        lane: usize,
        offset: usize,
        bytes: usize,
        kind: AccessKind,
        written: Option<Written<'_>>,
    ) -> Result<(), Fault> {
        let race = self.visit_shared(agent, rank, kind, written, |shadow, visit| {
            shadow.visit_lane(visit, lane, offset as u64, bytes as u64)
        });
        race.map_err(|(_, fault)| fault.at(SHARED_WINDOW + SHARED_RESERVED + offset as u64))
    }

    #[inline(always)]
    fn visit_shared(
        &mut self,
        agent: usize,
        rank: usize,
        kind: AccessKind,
        written: Option<Written<'_>>,
        visitor: impl FnOnce(&Shadow, &mut Visit<HappensBeforeInCluster<'_>>) -> Option<Race>,
    ) -> Result<(), (usize, Fault)> {
        if !self.grid.options.shared_races {
            return Ok(());
        }
        let lanes = self.grid.options.lane_races;
        let Some((shadow, bytes)) = self.blocks[rank].shared.shadow_and_bytes() else { return Ok(()) };
        let clocks = &*self.clocks;
        let now = clocks.now(agent);

        // Agents count from 1; 0 means none.
        let Some(cell) = Cell::new(agent as u64 + 1, now, kind.strong, self.pc) else { return Ok(()) };

        // The cache of epochs already proven to happen before the warp, or before its asynchronous operations.
        let place = match agent {
            _ if agent == clocks.warp(self.rank, self.warp.id) => Some(1),
            _ if agent == clocks.asynchronous(self.rank, self.warp.id) => Some(2),
            _ => None,
        };

        let known = place.map_or(0, |place| self.warp.proven_epochs[place]);
        let memory = |word: usize| std::array::from_fn(|byte| bytes.get(4 * word + byte).copied().unwrap_or(0));
        let comparison =
            written.map(|written| Comparison { written, base: SHARED_RESERVED, memory: &memory, shared: false });
        let mut visit = Visit {
            cell,
            old: 1,
            known,
            order: HappensBeforeInCluster { clocks, agent, now, lanes, comparison, same: None },
            lanes,
            write: kind.write,
        };

        let race = visitor(shadow, &mut visit);
        if let Some(place) = place {
            self.warp.proven_epochs[place] = visit.known;
        }
        let same = visit.order.same;

        match race {
            None => match same {
                None => Ok(()),
                Some((other, mine)) => {
                    let (cluster, _) = clocks.of_global(clocks.global_agent(0));
                    self.warn_of_same(FaultKind::SharedRace, other, mine, cluster, other.agent() as usize - 1)
                }
            },
            Some(race) => {
                let (cluster, _) = clocks.of_global(clocks.global_agent(0));
                let message = self.race(kind, &race, cluster, race.other.agent() as usize - 1);
                Err((race.lane, Fault::new(FaultKind::SharedRace, message).lane(race.lane)))
            }
        }
    }

    /// Warns of a write of the value that an earlier one has written which nothing orders before it.
    #[cold]
    fn warn_of_same(
        &mut self,
        kind: FaultKind,
        other: Cell,
        mine: Cell,
        cluster: u64,
        agent: usize,
    ) -> Result<(), (usize, Fault)> {
        let lane = mine.lane() as usize;
        if other.is_beside(mine) {
            // One instruction whose lanes write one value: the ISA says that one of them is written.
            return Ok(());
        }
        let race = Race { lane, other, wrote: true };
        let message = self.race(AccessKind { write: true, strong: false }, &race, cluster, agent);
        let fault = Fault::new(kind, message + "; both write the same value").lane(lane);
        self.warn(fault).map_err(|fault| (lane, fault))
    }

    /// A race in words.
    fn race(&self, kind: AccessKind, race: &Race, cluster: u64, agent: usize) -> String {
        let grid = self.grid;
        let (rank, warp, asynchronous) = self.clocks.describe(agent);
        let [bx, by, bz] = grid.block_index(cluster, rank as u32);
        let [x, y, z] = grid.thread_index(warp * 32 + race.other.lane());
        let who = match asynchronous {
            true => format!("an asynchronous operation of warp {warp} of block ({bx}, {by}, {bz})"),
            false => format!("thread ({x}, {y}, {z}) of block ({bx}, {by}, {bz})"),
        };

        let place = race.other.step().and_then(|step| {
            let line = grid.kernel.origins.get(step)?.line;
            let source = grid.kernel.source_lines(step).into_iter().next();
            Some(
                source.map_or_else(String::new, |s| format!(" at {}:{}", s.file, s.line))
                    + &format!(" (PTX line {line})"),
            )
        });

        format!(
            "{} here and {} by {who}{}, with nothing that orders the two",
            if kind.write { "written" } else { "read" },
            if race.wrote { "written" } else { "read" },
            place.unwrap_or_default(),
        )
    }

    /// A volatile, relaxed or atomic read of `bytes` at a location: the warp acquires what was released there.
    /// To be called after the value was read.
    pub(in crate::exec) fn acquire_at(&mut self, location: SyncLocation, bytes: u64) {
        let agent = self.agent();
        match location {
            SyncLocation::Global(address) if self.grid.sync_locations.any() => {
                for word in (address & !3..address + bytes).step_by(4) {
                    let knowledge = self.grid.sync_locations.get(word);
                    self.clocks.import(agent, &knowledge);
                }
            }
            SyncLocation::Shared(rank, offset) if self.clocks.any_shared() => {
                for word in offset / 4..(offset + bytes as usize).div_ceil(4) {
                    self.clocks.acquire_at_shared(agent, rank, word);
                }
            }
            _ => {}
        }
    }

    /// [`Context::acquire_at`] for the lanes of a strong load.
    pub(in crate::exec) fn acquire_at_all(&mut self, space: Space, mask: Mask, addresses: &[u64; 32], bytes: u64) {
        if !self.grid.sync_locations.any() && !self.clocks.any_shared() {
            return;
        }
        for lane in lanes(mask) {
            if let Ok(found) = self.find(space, lane, addresses[lane], bytes) {
                self.acquire_at(found.location(addresses[lane]), bytes);
            }
        }
    }

    /// [`Context::release_at`] for the lanes of a strong store. Where it will fail it releases nothing.
    pub(in crate::exec) fn release_at_all(
        &mut self,
        space: Space,
        mask: Mask,
        addresses: &[u64; 32],
        bytes: u64,
        releases: bool,
    ) {
        let Some(clock) = self.clock_to_release(releases) else { return };
        for lane in lanes(mask) {
            if let Ok(found) = self.find(space, lane, addresses[lane], bytes) {
                self.release_at(found.location(addresses[lane]), bytes, &clock, false);
            }
        }
    }

    /// The clock that a volatile, relaxed or atomic write releases: that of the warp's last releasing fence or, where the
    /// write itself `releases`, that of now. `None` where there is none.
    #[inline]
    pub(in crate::exec) fn clock_to_release(&mut self, releases: bool) -> Option<Clock> {
        let agent = self.agent();
        self.clocks.clock_to_release(agent, releases)
    }

    /// Releases the clock that [`Context::clock_to_release`] gave at a location of `bytes`. `beside`: an atomic, which
    /// leaves in place what others have released. To be called before the value is written, as who reads that acquires the
    /// clock.
    pub(in crate::exec) fn release_at(&mut self, location: SyncLocation, bytes: u64, clock: &Clock, beside: bool) {
        match location {
            SyncLocation::Global(address) => {
                let knowledge = self.clocks.export(clock);
                for word in (address & !3..address + bytes).step_by(4) {
                    self.grid.sync_locations.put(word, &knowledge, beside);
                }
            }
            SyncLocation::Shared(rank, offset) => {
                for word in offset / 4..(offset + bytes as usize).div_ceil(4) {
                    self.clocks.release_at_shared(rank, word, clock, beside);
                }
            }
        }
    }
}
