//! What happened before what: vector clocks, from which races are told (Mattern 1989; FastTrack, Flanagan & Freund 2009).
//!
//! The agents are the warps of a cluster, and for each warp one more for the asynchronous operations that it issued. An
//! agent's clock says up to which moment of every other agent's time it knows what that agent did.

use std::collections::HashMap;

use crate::exec::race::sync_locations::Knowledge;

/// One agent's knowledge of the others, or what a barrier hands on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Up to which moment of each agent.
    known: Vec<u32>,
    /// The same for what a `fence.proxy.async` has made visible to the asynchronous proxy: never more than is known.
    fenced: Vec<u32>,
    /// What is known of other clusters.
    foreign: Knowledge,
}

impl Clock {
    /// Takes over what another clock knows.
    pub fn join(&mut self, other: &Self) {
        self.foreign.join(&other.foreign);
        join(&mut self.known, &other.known);
        join(&mut self.fenced, &other.fenced);
    }

    /// Up to which of `agent`'s moments this clock knows.
    pub fn of(&self, agent: usize) -> u32 {
        self.known.get(agent).copied().unwrap_or(0)
    }

    /// Forgets everything, keeping its memory.
    pub fn clear(&mut self) {
        self.known.clear();
        self.fenced.clear();
        self.foreign = Knowledge::default();
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
pub struct Order {
    clocks: Vec<Clock>,
    /// What an agent's relaxed atomics hand on since its last releasing fence.
    published: Vec<Clock>,
    /// What an agent's relaxed loads have seen and its next acquiring fence lets it know.
    observed: Vec<Clock>,
    warps_of_block: usize,
    /// Number of the cluster in the grid.
    cluster: u64,
    /// Number that the first agent of the grid has among those of all launches.
    first_agent: u64,
    /// What is handed on at words of shared memory, by block and word.
    shared: HashMap<(usize, usize), Clock>,
}

impl Order {
    /// Of a cluster of `blocks` with this many warps each.
    pub fn new(blocks: usize, warps_of_block: usize) -> Self {
        let agents = 2 * blocks * warps_of_block;
        let clocks: Vec<Clock> = (0..agents)
            .map(|agent| {
                let mut clock = vec![0; agents];
                clock[agent] = 1;
                Clock { known: clock, fenced: vec![0; agents], foreign: Knowledge::default() }
            })
            .collect();
        let none = vec![Clock::default(); agents];
        Self {
            published: none.clone(),
            observed: none,
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

    /// Whether `agent` knows of the moment `time` of any agent of the grid.
    pub fn knows_global(&self, agent: usize, number: u64, time: u32) -> bool {
        match self.of_global(number) {
            (cluster, other) if cluster == self.cluster => self.knows(agent, other, time),
            (cluster, other) => self.clocks[agent].foreign.of(cluster, other) >= time,
        }
    }

    /// What a strong write by `agent` hands on: what it knew at its last releasing fence, or with `releases` all it knows.
    /// `None` where there is nothing.
    pub fn handed(&mut self, agent: usize, releases: bool) -> Option<Clock> {
        if releases {
            let mut clock = self.release(agent);
            clock.join(&self.published[agent]);
            return Some(clock);
        }
        let published = &self.published[agent];
        (!published.known.is_empty()).then(|| published.clone())
    }

    /// A clock in words that other clusters understand.
    pub fn export(&self, clock: &Clock) -> Knowledge {
        let mut knowledge = clock.foreign.clone();
        knowledge.add(self.cluster, &clock.known);
        knowledge
    }

    /// `agent` learns what is handed on in global memory.
    pub fn import(&mut self, agent: usize, knowledge: &Knowledge) {
        for (cluster, times) in knowledge.iter() {
            match cluster == self.cluster {
                true => join(&mut self.clocks[agent].known, times),
                false => self.clocks[agent].foreign.add(cluster, times),
            }
        }
    }

    /// `agent` learns what is handed on at a word of shared memory.
    pub fn learn_shared(&mut self, agent: usize, rank: usize, word: usize) {
        if let Some(clock) = self.shared.get(&(rank, word)) {
            self.clocks[agent].join(clock);
        }
    }

    /// Hands on at a word of shared memory, in place of what was there or, for atomics, beside it.
    pub fn hand_on_shared(&mut self, rank: usize, word: usize, clock: &Clock, beside: bool) {
        let place = self.shared.entry((rank, word)).or_default();
        if !beside {
            place.clear();
        }
        place.join(clock);
    }

    /// Whether anything was handed on in shared memory.
    #[inline]
    pub fn any_shared(&self) -> bool {
        !self.shared.is_empty()
    }

    /// Lanes of `agent` that meet at a `.sync` are ordered from here on.
    pub fn meet(&mut self, agent: usize) {
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

    /// The moment at which `agent` is.
    #[inline]
    pub fn now(&self, agent: usize) -> u32 {
        self.clocks[agent].of(agent)
    }

    /// Whether `agent` knows of the moment `time` of `other`.
    #[inline]
    pub fn knows(&self, agent: usize, other: usize, time: u32) -> bool {
        self.clocks[agent].of(other) >= time
    }

    /// What `agent` hands on when it arrives at a barrier or publishes data; what it does from now on is not included.
    pub fn release(&mut self, agent: usize) -> Clock {
        let clock = self.clocks[agent].clone();
        self.clocks[agent].known[agent] += 1;
        clock
    }

    /// As [`Order::release`], added to a clock that others have handed on to.
    pub fn release_into(&mut self, agent: usize, clock: &mut Clock) {
        clock.join(&self.clocks[agent]);
        self.clocks[agent].known[agent] += 1;
    }

    /// `fence.proxy.async`: whatever `agent` knows of by now may be read and overwritten by the asynchronous proxy.
    pub fn proxy_fence(&mut self, agent: usize) {
        let Clock { known, fenced, .. } = &mut self.clocks[agent];
        join(fenced, known);
        known[agent] += 1;
    }

    /// Whether a proxy fence stands between the moment `time` of `other` and now, as `agent` knows.
    pub fn is_fenced(&self, agent: usize, other: usize, time: u32) -> bool {
        self.clocks[agent].fenced.get(other).is_some_and(|&fenced| fenced >= time)
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
        }
    }

    /// What a relaxed atomic write by `agent` hands on to whoever reads it.
    pub fn published(&self, agent: usize) -> &Clock {
        &self.published[agent]
    }

    /// A relaxed atomic read by `agent` found what `clock` was handed on with.
    pub fn observe(&mut self, agent: usize, clock: &Clock) {
        self.observed[agent].join(clock);
    }

    /// An asynchronous operation that warp `agent` issues: it comes after what the warp did so far, but the warp does not
    /// learn of its end.
    pub fn issue(&mut self, agent: usize) {
        let asynchronous = self.clocks.len() / 2 + agent;
        let clock = self.release(agent);
        self.acquire(asynchronous, &clock);
    }

    /// `agent` learns what a barrier or published data hands on.
    pub fn acquire(&mut self, agent: usize, clock: &Clock) {
        self.clocks[agent].join(clock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knowledge_is_handed_on_and_ends_at_the_release() {
        let mut order = Order::new(1, 3);
        let (a, b, c) = (order.warp(0, 0), order.warp(0, 1), order.warp(0, 2));
        let written = order.now(a);
        assert!(!order.knows(b, a, written));
        let handed = order.release(a);
        let later = order.now(a);
        order.acquire(b, &handed);
        assert!(order.knows(b, a, written) && !order.knows(b, a, later));
        let handed = order.release(b);
        order.acquire(c, &handed);
        assert!(order.knows(c, a, written), "through b");
        assert_ne!(order.asynchronous(0, 1), b);
    }

    #[test]
    fn fences_order_what_relaxed_atomics_hand_on() {
        let mut order = Order::new(1, 2);
        let (a, b) = (order.warp(0, 0), order.warp(0, 1));
        let written = order.now(a);
        order.fence(a, true, true);
        let later = order.now(a);
        let flag = order.published(a).clone();
        order.observe(b, &flag);
        assert!(!order.knows(b, a, written), "not before b's fence");
        order.fence(b, true, false);
        assert!(order.knows(b, a, written) && !order.knows(b, a, later));
    }

    #[test]
    fn a_proxy_fence_covers_what_is_known_and_travels_with_it() {
        let mut order = Order::new(1, 2);
        let (a, b) = (order.warp(0, 0), order.warp(0, 1));
        let before = order.now(a);
        order.proxy_fence(a);
        let after = order.now(a);
        assert!(order.is_fenced(a, a, before) && !order.is_fenced(a, a, after));
        let handed = order.release(a);
        order.acquire(b, &handed);
        assert!(order.is_fenced(b, a, before) && !order.is_fenced(b, a, after), "the later write is known only");
        order.proxy_fence(b);
        assert!(order.is_fenced(b, a, after), "a fence by whoever knows is enough");
        order.issue(b);
        assert!(order.is_fenced(order.asynchronous(0, 1), a, after));
    }
}
