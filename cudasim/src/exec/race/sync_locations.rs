//! Synchronisation between clusters: atomics, and volatile and relaxed accesses, release what was fenced before them.
//!
//! The ISA wants a fence on both sides: before the write of a flag and after its read. Here the second is not asked for, as
//! CUDA's own samples read a counter, pass a `__syncthreads()` and go on without one; the first is.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The newest epoch of each agent of each cluster that happens before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Knowledge(Option<Arc<BTreeMap<u64, Arc<[u32]>>>>);

impl Knowledge {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The newest epoch of `agent` of `cluster`.
    pub fn of(&self, cluster: u64, agent: usize) -> u32 {
        let times = self.0.as_ref().and_then(|known| known.get(&cluster));
        times.and_then(|times| times.get(agent)).copied().unwrap_or(0)
    }

    /// Adds what is known of one cluster.
    pub fn add(&mut self, cluster: u64, times: &[u32]) {
        let mine = Arc::make_mut(self.0.get_or_insert_default());
        match mine.get_mut(&cluster) {
            None => {
                mine.insert(cluster, times.into());
            }
            Some(known) if known.len() == times.len() && known.iter().zip(times).all(|(a, b)| a >= b) => {}
            Some(known) => {
                let length = known.len().max(times.len());
                let of = |times: &[u32], agent: usize| times.get(agent).copied().unwrap_or(0);
                *known = (0..length).map(|agent| of(known, agent).max(of(times, agent))).collect();
            }
        }
    }

    /// Joins another.
    pub fn join(&mut self, other: &Self) {
        let Some(theirs) = &other.0 else { return };
        match &self.0 {
            None => self.0 = Some(Arc::clone(theirs)),
            Some(mine) if Arc::ptr_eq(mine, theirs) => {}
            Some(_) => theirs.iter().for_each(|(&cluster, times)| self.add(cluster, times)),
        }
    }

    /// What is known, by cluster.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[u32])> {
        self.0.iter().flat_map(|known| known.iter().map(|(&cluster, times)| (cluster, &**times)))
    }
}

const SHARDS: usize = 64;

/// What was released at each word of global memory during a launch.
pub struct SyncLocations {
    shards: [Mutex<HashMap<u64, Knowledge>>; SHARDS],
    any: AtomicBool,
}

impl Default for SyncLocations {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), any: AtomicBool::new(false) }
    }
}

impl SyncLocations {
    fn shard(&self, word: u64) -> MutexGuard<'_, HashMap<u64, Knowledge>> {
        self.shards[word as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything was released anywhere.
    #[inline]
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// What was released at the word that an address is in.
    pub fn get(&self, address: u64) -> Knowledge {
        self.shard(address / 4).get(&(address / 4)).cloned().unwrap_or_default()
    }

    /// Releases at the word that an address is in, in place of what was there or, for atomics, joined with it.
    pub fn put(&self, address: u64, knowledge: &Knowledge, beside: bool) {
        let mut shard = self.shard(address / 4);
        match beside {
            true => shard.entry(address / 4).or_default().join(knowledge),
            false => drop(shard.insert(address / 4, knowledge.clone())),
        }
        self.any.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knowledge_joins_by_the_later_moment() {
        let (mut a, mut b) = (Knowledge::default(), Knowledge::default());
        a.add(3, &[1, 5]);
        b.add(3, &[2, 4]);
        b.add(9, &[7]);
        a.join(&b);
        assert_eq!([a.of(3, 0), a.of(3, 1), a.of(9, 0), a.of(9, 1), a.of(4, 0)], [2, 5, 7, 0, 0]);
        let sync_locations = SyncLocations::default();
        assert!(!sync_locations.any() && sync_locations.get(64).is_empty());
        sync_locations.put(64, &a, true);
        sync_locations.put(66, &b, false);
        assert!(sync_locations.any());
        assert_eq!(sync_locations.get(64), b);
        assert!(sync_locations.get(68).is_empty());
    }
}
