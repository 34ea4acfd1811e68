//! Checks for races: every access of shared and global memory is compared with the last ones of the same word.

use crate::exec::program::address::Space;
use crate::exec::race::clocks::Clock;
use crate::exec::race::detector::{Knows, KnowsGlobal, Spot, Touch};
use crate::exec::state::context::Context;
use crate::mask::{FULL, Mask, lanes};
use crate::memory::shadow::{Cell, Race, Shadow, Visit};
use crate::memory::{SHARED_RESERVED, SHARED_WINDOW};
use crate::report::{Fault, FaultKind};

impl Context<'_> {
    /// The agent of the warp that runs.
    #[inline]
    pub fn agent(&self) -> usize {
        self.order.warp(self.rank, self.warp.id)
    }

    /// Checks and notes an access of global memory by the lanes of `mask`, all in allocation `index`.
    ///
    /// # Errors
    /// `GlobalRace`.
    #[inline]
    pub(in crate::exec) fn touch_global(
        &mut self,
        index: usize,
        addresses: &[u64; 32],
        mask: Mask,
        bytes: u64,
        touch: Touch,
    ) -> Result<(), Fault> {
        let race = self.visit_global(index, touch, |shadow, visit, base| {
            shadow.visit(visit, &addresses.map(|address| address.wrapping_sub(base)), mask, bytes)
        });
        race.map_err(|(lane, fault)| fault.at(addresses[lane]))
    }

    /// The same of all lanes side by side, the first at `address`.
    ///
    /// # Errors
    /// As [`Context::touch_global`].
    #[inline]
    pub(in crate::exec) fn touch_global_run(
        &mut self,
        index: usize,
        address: u64,
        bytes: u64,
        touch: Touch,
    ) -> Result<(), Fault> {
        let race = self.visit_global(index, touch, |shadow, visit, base| match !visit.lanes {
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
        index: usize,
        touch: Touch,
        visitor: impl FnOnce(&Shadow, &mut Visit<KnowsGlobal<'_>>, u64) -> Option<Race>,
    ) -> Result<(), (usize, Fault)> {
        if self.grid.first_agent == 0 {
            return Ok(());
        }
        let agent = self.agent();
        let Some(allocation) = self.grid.memory.get(index) else { return Ok(()) };
        let Some(shadow) = allocation.shadow() else { return Ok(()) };
        let by_lane = self.grid.options.lane_races;
        let order = &*self.order;
        let (number, now) = (order.global_agent(agent), order.now(agent));
        let Some(cell) = Cell::new(number, now, touch.strong, self.pc) else { return Ok(()) };
        let knows = KnowsGlobal { order, agent, number, now, lanes: by_lane };
        let old = self.grid.first_agent << 40;
        let mut visit =
            Visit { cell, old, known: self.warp.known_moments[0], order: knows, lanes: by_lane, write: touch.write };
        let race = visitor(shadow, &mut visit, allocation.base());
        self.warp.known_moments[0] = visit.known;
        match race {
            None => Ok(()),
            Some(race) => {
                let (cluster, agent) = order.of_global(race.other.agent());
                let message = self.race(touch, &race, cluster, agent);
                Err((race.lane, Fault::new(FaultKind::GlobalRace, message).lane(race.lane)))
            }
        }
    }

    /// Checks and notes an access of the shared memory of block `rank` by `agent`, for the lanes of `mask`; the addresses
    /// have no rank in them.
    ///
    /// # Errors
    /// `SharedRace`.
    #[inline]
    pub(in crate::exec) fn touch_shared(
        &mut self,
        agent: usize,
        rank: usize,
        addresses: &[u64; 32],
        mask: Mask,
        bytes: u64,
        touch: Touch,
    ) -> Result<(), Fault> {
        let offsets = addresses.map(|address| address.wrapping_sub(SHARED_RESERVED));
        let race = self.visit_shared(agent, rank, touch, |shadow, visit| shadow.visit(visit, &offsets, mask, bytes));
        race.map_err(|(lane, fault)| fault.at(SHARED_WINDOW + addresses[lane]))
    }

    /// The same of any range of bytes for one lane: what an asynchronous copy calls, as its own agent
    /// (`order.asynchronous(rank, warp)`), where it reads or writes.
    ///
    /// # Errors
    /// `SharedRace`.
    pub fn touch_shared_range(
        &mut self,
        agent: usize,
        rank: usize,
        lane: usize,
        offset: usize,
        bytes: usize,
        touch: Touch,
    ) -> Result<(), Fault> {
        let race = self.visit_shared(agent, rank, touch, |shadow, visit| {
            shadow.visit_lane(visit, lane, offset as u64, bytes as u64)
        });
        race.map_err(|(_, fault)| fault.at(SHARED_WINDOW + SHARED_RESERVED + offset as u64))
    }

    #[inline(always)]
    fn visit_shared(
        &mut self,
        agent: usize,
        rank: usize,
        touch: Touch,
        visitor: impl FnOnce(&Shadow, &mut Visit<Knows<'_>>) -> Option<Race>,
    ) -> Result<(), (usize, Fault)> {
        if !self.grid.options.shared_races {
            return Ok(());
        }
        let lanes = self.grid.options.lane_races;
        let Some(shadow) = self.blocks[rank].shared.shadow() else { return Ok(()) };
        let order = &*self.order;
        let now = order.now(agent);
        // 0 is no agent.
        let Some(cell) = Cell::new(agent as u64 + 1, now, touch.strong, self.pc) else { return Ok(()) };
        // What the warp itself is known to know, or its asynchronous operations.
        let place = match agent {
            _ if agent == order.warp(self.rank, self.warp.id) => Some(1),
            _ if agent == order.asynchronous(self.rank, self.warp.id) => Some(2),
            _ => None,
        };
        let known = place.map_or(0, |place| self.warp.known_moments[place]);
        let mut visit =
            Visit { cell, old: 1, known, order: Knows { order, agent, now, lanes }, lanes, write: touch.write };
        let race = visitor(shadow, &mut visit);
        if let Some(place) = place {
            self.warp.known_moments[place] = visit.known;
        }
        match race {
            None => Ok(()),
            Some(race) => {
                let (cluster, _) = order.of_global(order.global_agent(0));
                let message = self.race(touch, &race, cluster, race.other.agent() as usize - 1);
                Err((race.lane, Fault::new(FaultKind::SharedRace, message).lane(race.lane)))
            }
        }
    }

    /// A race in words.
    fn race(&self, touch: Touch, race: &Race, cluster: u64, agent: usize) -> String {
        let grid = self.grid;
        let (rank, warp, asynchronous) = self.order.describe(agent);
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
            if touch.write { "written" } else { "read" },
            if race.wrote { "written" } else { "read" },
            place.unwrap_or_default(),
        )
    }

    /// A volatile, relaxed or atomic read of `bytes` at a spot: the warp learns what was handed on there.
    /// To be called after the value was read.
    pub(in crate::exec) fn learn(&mut self, spot: Spot, bytes: u64) {
        let agent = self.agent();
        match spot {
            Spot::Global(address) if self.grid.handoffs.any() => {
                for word in (address & !3..address + bytes).step_by(4) {
                    let knowledge = self.grid.handoffs.get(word);
                    self.order.import(agent, &knowledge);
                }
            }
            Spot::Shared(rank, offset) if self.order.any_shared() => {
                for word in offset / 4..(offset + bytes as usize).div_ceil(4) {
                    self.order.learn_shared(agent, rank, word);
                }
            }
            _ => {}
        }
    }

    /// [`Context::learn`] for the lanes of a strong load.
    pub(in crate::exec) fn learn_all(&mut self, space: Space, mask: Mask, addresses: &[u64; 32], bytes: u64) {
        if !self.grid.handoffs.any() && !self.order.any_shared() {
            return;
        }
        for lane in lanes(mask) {
            if let Ok(found) = self.find(space, lane, addresses[lane], bytes) {
                self.learn(found.spot(addresses[lane]), bytes);
            }
        }
    }

    /// [`Context::hand_on`] for the lanes of a strong store. Where it will fail it hands on nothing.
    pub(in crate::exec) fn hand_on_all(
        &mut self,
        space: Space,
        mask: Mask,
        addresses: &[u64; 32],
        bytes: u64,
        releases: bool,
    ) {
        let Some(clock) = self.handed(releases) else { return };
        for lane in lanes(mask) {
            if let Ok(found) = self.find(space, lane, addresses[lane], bytes) {
                self.hand_on(found.spot(addresses[lane]), bytes, &clock, false);
            }
        }
    }

    /// What a volatile, relaxed or atomic write hands on: what the warp knew at its last releasing fence or, where the write
    /// itself `releases`, knows now. `None` where that is nothing.
    #[inline]
    pub(in crate::exec) fn handed(&mut self, releases: bool) -> Option<Clock> {
        let agent = self.agent();
        self.order.handed(agent, releases)
    }

    /// Hands on what [`Context::handed`] gave at a spot of `bytes`. `beside`: an atomic, which leaves in place what others
    /// have handed on. To be called before the value is there, as who sees it learns.
    pub(in crate::exec) fn hand_on(&mut self, spot: Spot, bytes: u64, clock: &Clock, beside: bool) {
        match spot {
            Spot::Global(address) => {
                let knowledge = self.order.export(clock);
                for word in (address & !3..address + bytes).step_by(4) {
                    self.grid.handoffs.put(word, &knowledge, beside);
                }
            }
            Spot::Shared(rank, offset) => {
                for word in offset / 4..(offset + bytes as usize).div_ceil(4) {
                    self.order.hand_on_shared(rank, word, clock, beside);
                }
            }
        }
    }
}
