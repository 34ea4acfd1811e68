//! What happened before what: vector clocks, from which races are told (Mattern 1989; FastTrack, Flanagan & Freund 2009).
//!
//! The agents are the warps of a cluster, and for each warp one more for the asynchronous operations that it issued. An
//! agent's clock says up to which moment of every other agent's time it knows what that agent did.

/// One agent's knowledge of the others, or what a barrier hands on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock(Vec<u32>);

impl Clock {
    /// Takes over what another clock knows.
    pub fn join(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (mine, &theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = theirs.max(*mine);
        }
    }

    /// Up to which of `agent`'s moments this clock knows.
    pub fn of(&self, agent: usize) -> u32 {
        self.0.get(agent).copied().unwrap_or(0)
    }
}

/// The clocks of a cluster.
#[derive(Debug)]
pub struct Order {
    clocks: Vec<Clock>,
    warps_of_block: usize,
}

impl Order {
    /// Of a cluster of `blocks` with this many warps each.
    pub fn new(blocks: usize, warps_of_block: usize) -> Self {
        let agents = 2 * blocks * warps_of_block;
        let clocks = (0..agents)
            .map(|agent| {
                let mut clock = vec![0; agents];
                clock[agent] = 1;
                Clock(clock)
            })
            .collect();
        Self { clocks, warps_of_block }
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
    pub fn now(&self, agent: usize) -> u32 {
        self.clocks[agent].of(agent)
    }

    /// Whether `agent` knows of the moment `time` of `other`.
    pub fn knows(&self, agent: usize, other: usize, time: u32) -> bool {
        self.clocks[agent].of(other) >= time
    }

    /// What `agent` hands on when it arrives at a barrier or publishes data; what it does from now on is not included.
    pub fn release(&mut self, agent: usize) -> Clock {
        let clock = self.clocks[agent].clone();
        self.clocks[agent].0[agent] += 1;
        clock
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
}
