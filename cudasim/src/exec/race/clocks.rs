//! Happens-before as vector clocks, by which races are detected (Mattern 1989; FastTrack, Flanagan & Freund 2009).
//!
//! The *agents* (the threads of the literature; here a thread is a lane) are the warps of a cluster, and for each warp one
//! more for the asynchronous operations that it issued. An agent's time is a count of *epochs*; its clock holds, for every
//! agent, the newest epoch that happens before what it does next.

use std::collections::HashMap;

use crate::exec::race::sync_locations::Knowledge;

/// The clock of an agent, or of what is released at a barrier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// The newest epoch of each agent that happens before.
    known: Vec<u32>,
    /// The same for what a `fence.proxy.async` has made visible to the asynchronous proxy: never newer than `known`.
    fenced: Vec<u32>,
    /// The same for the agents of other clusters.
    foreign: Knowledge,
    /// What a `fence` or `membar` by anyone who knew it has made visible to the whole grid, in the cluster and outside: a
    /// relaxed atomic of whoever knows that lets others know it. (The ISA wants the fence in the thread of the atomic and
    /// after the barrier; on hardware, each thread's own before the barrier does, and libraries rely on it.)
    visible: Vec<u32>,
    visible_foreign: Knowledge,
}

impl Clock {
    /// The elementwise maximum with another clock.
    pub fn join(&mut self, other: &Self) {
        self.foreign.join(&other.foreign);
        join(&mut self.known, &other.known);
        join(&mut self.fenced, &other.fenced);
        join(&mut self.visible, &other.visible);
        self.visible_foreign.join(&other.visible_foreign);
    }

    /// The newest epoch of `agent` that happens before.
    pub fn of(&self, agent: usize) -> u32 {
        self.known.get(agent).copied().unwrap_or(0)
    }

    /// Forgets everything, keeping its memory.
    pub fn clear(&mut self) {
        self.known.clear();
        self.fenced.clear();
        self.foreign = Knowledge::default();
        self.visible.clear();
        self.visible_foreign = Knowledge::default();
    }
}

fn join(mine: &mut Vec<u32>, theirs: &[u32]) {
    if mine.len() < theirs.len() {
        mine.resize(theirs.len(), 0);
    }
    for (mine, &theirs) in mine.iter_mut().zip(theirs) {
        *mine = theirs.max(*mine);
    }
}

/// The clocks of a cluster.
#[derive(Debug)]
pub struct ClockSet {
    clocks: Vec<Clock>,
    /// What an agent's relaxed atomics release: its clock at its last releasing fence.
    published: Vec<Clock>,
    /// What an agent's relaxed loads have seen and its next acquiring fence acquires.
    observed: Vec<Clock>,
    /// An agent's own epoch at its last barrier, arrival or fence: its stores until then have taken effect.
    drained: Vec<u32>,
    warps_of_block: usize,
    /// Number of the cluster in the grid.
    cluster: u64,
    /// Number that the first agent of the grid has among those of all launches.
    first_agent: u64,
    /// What was released at words of shared memory, by block and word.
    shared: HashMap<(usize, usize), Clock>,
}

impl ClockSet {
    /// Of a cluster of `blocks` with this many warps each.
    pub fn new(blocks: usize, warps_of_block: usize) -> Self {
        let agents = 2 * blocks * warps_of_block;
        let clocks: Vec<Clock> = (0..agents)
            .map(|agent| {
                let mut clock = vec![0; agents];
                clock[agent] = 1;
                Clock { known: clock, fenced: vec![0; agents], ..Clock::default() }
            })
            .collect();
        let none = vec![Clock::default(); agents];

        Self {
            published: none.clone(),
            observed: none,
            drained: vec![0; agents],
            clocks,
            warps_of_block,
            cluster: 0,
            first_agent: 1,
            shared: HashMap::new(),
        }
    }

    /// The same, of the cluster of this number in a grid whose agents are numbered from `first_agent`.
    pub fn in_grid(self, cluster: u64, first_agent: u64) -> Self {
        Self { cluster, first_agent, ..self }
    }

    /// The number of an agent among those of all launches.
    #[inline]
    pub fn global_agent(&self, agent: usize) -> u64 {
        self.first_agent + self.cluster * self.clocks.len() as u64 + agent as u64
    }

    /// Cluster and agent there of a number among all launches' agents.
    #[inline]
    pub fn of_global(&self, number: u64) -> (u64, usize) {
        let (index, agents) = (number.wrapping_sub(self.first_agent), self.clocks.len() as u64);
        (index / agents, (index % agents) as usize)
    }

    /// Rank and warp of an agent, and whether it stands for the warp's asynchronous operations.
    pub fn describe(&self, agent: usize) -> (usize, u32, bool) {
        let half = self.clocks.len() / 2;
        let warp = agent % half;
        (warp / self.warps_of_block, (warp % self.warps_of_block) as u32, agent >= half)
    }

    /// Whether epoch `epoch` of the agent `number`, of any cluster of the grid, happens before what `agent` does next.
    pub fn happens_before_in_grid(&self, agent: usize, number: u64, epoch: u32) -> bool {
        match self.of_global(number) {
            (cluster, other) if cluster == self.cluster => self.happens_before(agent, other, epoch),
            (cluster, other) => self.clocks[agent].foreign.of(cluster, other) >= epoch,
        }
    }

    /// The clock that a strong write by `agent` releases: that of its last releasing fence, or with `releases` that of now.
    /// `None` where there is nothing.
    pub fn clock_to_release(&mut self, agent: usize, releases: bool) -> Option<Clock> {
        if releases {
            let mut clock = self.release(agent);
            clock.join(&self.published[agent]);
            return Some(clock);
        }
        let (published, own) = (&self.published[agent], &self.clocks[agent]);
        if published.known.is_empty() && own.visible.is_empty() && own.visible_foreign.is_empty() {
            return None;
        }
        let mut clock = published.clone();
        join(&mut clock.known, &own.visible);
        clock.foreign.join(&own.visible_foreign);
        Some(clock)
    }

    /// A clock with the number of its cluster, for other clusters.
    pub fn export(&self, clock: &Clock) -> Knowledge {
        let mut knowledge = clock.foreign.clone();
        knowledge.add(self.cluster, &clock.known);
        knowledge
    }

    /// `agent` acquires what was released in global memory.
    pub fn import(&mut self, agent: usize, knowledge: &Knowledge) {
        let clock = &mut self.clocks[agent];
        for (cluster, times) in knowledge.iter() {
            // What was released in global memory is visible to the grid.
            if cluster == self.cluster {
                join(&mut clock.known, times);
                join(&mut clock.visible, times);
            } else {
                clock.foreign.add(cluster, times);
                clock.visible_foreign.add(cluster, times);
            }
        }
    }

    /// `agent` acquires what was released at a word of shared memory.
    pub fn acquire_at_shared(&mut self, agent: usize, rank: usize, word: usize) {
        if let Some(clock) = self.shared.get(&(rank, word)) {
            self.clocks[agent].join(clock);
        }
    }

    /// Releases at a word of shared memory, in place of what was there or, for atomics, joined with it.
    pub fn release_at_shared(&mut self, rank: usize, word: usize, clock: &Clock, beside: bool) {
        let place = self.shared.entry((rank, word)).or_default();
        if !beside {
            place.clear();
        }
        place.join(clock);
    }

    /// Whether anything was released in shared memory.
    #[inline]
    pub fn any_shared(&self) -> bool {
        !self.shared.is_empty()
    }

    /// Lanes of `agent` that converge at a `.sync` are ordered from here on.
    pub fn converge(&mut self, agent: usize) {
        self.clocks[agent].known[agent] += 1;
    }

    /// The agent of a warp.
    pub fn warp(&self, rank: usize, warp: u32) -> usize {
        rank * self.warps_of_block + warp as usize
    }

    /// The agent of the asynchronous operations that a warp issued.
    pub fn asynchronous(&self, rank: usize, warp: u32) -> usize {
        self.clocks.len() / 2 + self.warp(rank, warp)
    }

    /// The epoch of `agent`.
    #[inline]
    pub fn now(&self, agent: usize) -> u32 {
        self.clocks[agent].of(agent)
    }

    /// Whether epoch `epoch` of `other` happens before what `agent` does next.
    #[inline]
    pub fn happens_before(&self, agent: usize, other: usize, epoch: u32) -> bool {
        self.clocks[agent].of(other) >= epoch
    }

    /// A release by `agent`, at a barrier or with data that it publishes: its clock; what it does from now on is a new
    /// epoch.
    pub fn release(&mut self, agent: usize) -> Clock {
        self.drained[agent] = self.now(agent);
        self.step(agent)
    }

    /// The clock of `agent`, whose next epoch begins.
    fn step(&mut self, agent: usize) -> Clock {
        let clock = self.clocks[agent].clone();
        self.clocks[agent].known[agent] += 1;
        clock
    }

    /// As [`ClockSet::release`], joined into a clock that others have released into.
    pub fn release_into(&mut self, agent: usize, clock: &mut Clock) {
        clock.join(&self.clocks[agent]);
        self.drained[agent] = self.now(agent);
        self.clocks[agent].known[agent] += 1;
    }

    /// Whether the stores of epoch `epoch` of `other` have taken effect when `agent` goes on: a barrier, an arrival or a
    /// fence came after them, and `agent` after that.
    pub fn is_drained(&self, agent: usize, other: usize, epoch: u32) -> bool {
        epoch <= self.drained[other] && self.happens_before(agent, other, epoch)
    }

    /// `fence.proxy.async`: whatever happens before `agent`'s fence may be read and overwritten by the asynchronous proxy.
    pub fn proxy_fence(&mut self, agent: usize) {
        let Clock { known, fenced, .. } = &mut self.clocks[agent];
        join(fenced, known);
        known[agent] += 1;
    }

    /// Whether a proxy fence that happens before what `agent` does next follows epoch `epoch` of `other`.
    pub fn is_fenced(&self, agent: usize, other: usize, epoch: u32) -> bool {
        self.clocks[agent].fenced.get(other).is_some_and(|&fenced| fenced >= epoch)
    }

    /// `fence` and `membar`: relaxed atomics before an acquiring fence order what follows it, and those after a releasing
    /// one what precedes it.
    pub fn fence(&mut self, agent: usize, acquires: bool, releases: bool) {
        if acquires {
            let observed = std::mem::take(&mut self.observed[agent]);
            self.clocks[agent].join(&observed);
        }
        if releases {
            self.published[agent] = self.release(agent);
            let Self { clocks, published, .. } = self;
            join(&mut clocks[agent].visible, &published[agent].known);
            clocks[agent].visible_foreign.join(&published[agent].foreign);
        }
    }

    /// What a relaxed atomic write by `agent` releases to whoever reads it.
    pub fn published(&self, agent: usize) -> &Clock {
        &self.published[agent]
    }

    /// A relaxed atomic read by `agent` found a value that `clock` was released with.
    pub fn observe(&mut self, agent: usize, clock: &Clock) {
        self.observed[agent].join(clock);
    }

    /// An asynchronous operation that warp `agent` issues: what the warp did so far happens before it, but its end does not
    /// happen before what the warp does next.
    pub fn issue(&mut self, agent: usize) {
        let asynchronous = self.clocks.len() / 2 + agent;
        let clock = self.step(agent);
        self.acquire(asynchronous, &clock);
    }

    /// An acquire by `agent` of what was released at a barrier or with published data.
    pub fn acquire(&mut self, agent: usize, clock: &Clock) {
        self.clocks[agent].join(clock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knowledge_is_handed_on_and_ends_at_the_release() {
        let mut clocks = ClockSet::new(1, 3);
        let (a, b, c) = (clocks.warp(0, 0), clocks.warp(0, 1), clocks.warp(0, 2));
        let written = clocks.now(a);
        assert!(!clocks.happens_before(b, a, written));
        let released = clocks.release(a);
        let later = clocks.now(a);
        clocks.acquire(b, &released);
        assert!(clocks.happens_before(b, a, written) && !clocks.happens_before(b, a, later));
        let released = clocks.release(b);
        clocks.acquire(c, &released);
        assert!(clocks.happens_before(c, a, written), "through b");
        assert_ne!(clocks.asynchronous(0, 1), b);
    }

    #[test]
    fn fences_order_what_relaxed_atomics_hand_on() {
        let mut clocks = ClockSet::new(1, 2);
        let (a, b) = (clocks.warp(0, 0), clocks.warp(0, 1));
        let written = clocks.now(a);
        clocks.fence(a, true, true);
        let later = clocks.now(a);
        let flag = clocks.published(a).clone();
        clocks.observe(b, &flag);
        assert!(!clocks.happens_before(b, a, written), "not before b's fence");
        clocks.fence(b, true, false);
        assert!(clocks.happens_before(b, a, written) && !clocks.happens_before(b, a, later));
    }

    #[test]
    fn a_proxy_fence_covers_what_is_known_and_travels_with_it() {
        let mut clocks = ClockSet::new(1, 2);
        let (a, b) = (clocks.warp(0, 0), clocks.warp(0, 1));
        let before = clocks.now(a);
        clocks.proxy_fence(a);
        let after = clocks.now(a);
        assert!(clocks.is_fenced(a, a, before) && !clocks.is_fenced(a, a, after));
        let released = clocks.release(a);
        clocks.acquire(b, &released);
        assert!(clocks.is_fenced(b, a, before) && !clocks.is_fenced(b, a, after), "the later write is known only");
        clocks.proxy_fence(b);
        assert!(clocks.is_fenced(b, a, after), "a fence by whoever knows is enough");
        clocks.issue(b);
        assert!(clocks.is_fenced(clocks.asynchronous(0, 1), a, after));
    }
}
