//! Global memory: allocations with guarded addresses, and which of their bytes were ever written.
//!
//! Addresses are never used twice, so that a pointer to freed memory is always seen.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::GLOBAL_BASE;
use super::allocation::{self, Allocation, Origin};
use super::error::MemoryError;
use super::shadow::AGENTS;

/// Allocations start at multiples of this, as CUDA's do.
const ALIGNMENT: u64 = 512;

/// Unused addresses between allocations.
const GUARD: u64 = 1 << 16;

/// How many freed allocations reports still know.
const REMEMBERED: usize = 4096;

/// What the host reads where nothing was written: -4e8 as floating-point numbers of any width.
pub const UNWRITTEN: u8 = 0xcd;

/// An allocation that is gone.
#[derive(Clone)]
struct Freed {
    base: u64,
    size: u64,
    origin: Origin,
}

impl std::fmt::Display for Freed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        allocation::describe(f, &self.origin, self.size, self.base)
    }
}

/// The live allocations at one moment, in the order of their addresses.
#[derive(Clone, Default)]
pub struct AddressMap {
    allocations: Vec<Arc<Allocation>>,
    /// The last ones that were freed, also after this moment.
    freed: Arc<Mutex<VecDeque<Freed>>>,
    /// How many agents launches have had so far (see [`shadow`](super::shadow)).
    agents: Arc<Mutex<u64>>,
}

impl AddressMap {
    /// Numbers for the `agents` agents of a launch, higher than those of earlier launches: the first of them. 0 where there are
    /// too many for their races to be found.
    pub fn start_launch(&self, agents: u64) -> u64 {
        let mut taken = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if agents >= AGENTS - 1 {
            return 0;
        }

        // Numbers run out: start again, and forget the accesses of earlier launches.
        if *taken + agents >= AGENTS - 1 {
            self.iter().for_each(Allocation::clear_shadow);
            *taken = 0;
        }

        let first = *taken + 1;
        *taken += agents;
        first
    }

    /// Index of the allocation that holds `address`.
    #[inline]
    pub fn find(&self, address: u64) -> Option<usize> {
        let after = self.allocations.partition_point(|allocation| allocation.base() <= address);
        let index = after.checked_sub(1)?;
        (address - self.allocations[index].base() < self.allocations[index].size()).then_some(index)
    }

    /// The allocation of an index.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&Allocation> {
        self.allocations.get(index).map(Arc::as_ref)
    }

    /// Every allocation.
    pub fn iter(&self) -> impl Iterator<Item = &Allocation> {
        self.allocations.iter().map(Arc::as_ref)
    }

    /// What is at `address` or next to it, in words; memory that was freed since is named.
    pub fn describe(&self, address: u64) -> Option<String> {
        let freed = self.freed.lock().unwrap_or_else(PoisonError::into_inner);
        if self.find(address).is_none()
            && let Some(gone) = freed.iter().rev().find(|gone| (gone.base..gone.base + gone.size).contains(&address))
        {
            return Some(format!("byte {} of {gone}, freed since", address - gone.base));
        }

        let distance = |a: &Allocation| match address {
            x if x < a.base() => a.base() - x,
            x => (x - a.base()).saturating_sub(a.size().saturating_sub(1)),
        };
        let nearest = self.iter().min_by_key(|a| distance(a))?;
        let offset = i128::from(address) - i128::from(nearest.base());
        Some(match offset {
            o if o < 0 => format!("{} bytes before {nearest}", -o),
            o if o >= i128::from(nearest.size()) => {
                format!("{} bytes past the end of {nearest}", o - i128::from(nearest.size()))
            }
            o => format!("byte {o} of {nearest}"),
        })
    }
}

struct Inner {
    live: BTreeMap<u64, Arc<Allocation>>,
    /// Addresses that are given out, for memory that is not there yet.
    promised: BTreeMap<u64, Arc<Allocation>>,
    map: Arc<AddressMap>,
    next: u64,
    used: u64,
    count: u64,
}

/// The device's global memory.
pub struct GlobalMemory {
    inner: Mutex<Inner>,
    capacity: u64,
}

impl GlobalMemory {
    /// Memory of `capacity` bytes, of which none is taken from the host before it is touched.
    pub fn new(capacity: u64) -> Self {
        Self::numbered(0, capacity)
    }

    /// The same, at addresses that no memory of another number (below 2^18) has.
    pub fn numbered(number: u64, capacity: u64) -> Self {
        let next = GLOBAL_BASE + (number << 44);
        let inner =
            Inner { live: BTreeMap::new(), promised: BTreeMap::new(), map: Arc::default(), next, used: 0, count: 0 };
        Self { inner: Mutex::new(inner), capacity }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes in all.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Bytes that are allocated.
    pub fn used(&self) -> u64 {
        self.inner().used
    }

    /// Takes `size` bytes (at least one), not yet written. `name`: the module variable that they are for.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn allocate(&self, size: u64, name: Option<&str>) -> Result<u64, MemoryError> {
        let base = self.promise(size, name)?;
        self.commit(base);
        Ok(base)
    }

    /// Takes `size` bytes, which are not there before [`GlobalMemory::commit`].
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn reserve(&self, size: u64) -> Result<u64, MemoryError> {
        self.promise(size, None)
    }

    /// Memory that was reserved is there from now on.
    pub fn commit(&self, base: u64) {
        let mut inner = self.inner();
        if let Some(allocation) = inner.promised.remove(&base) {
            inner.live.insert(base, allocation);
            inner.renew();
        }
    }

    fn promise(&self, size: u64, name: Option<&str>) -> Result<u64, MemoryError> {
        let size = size.max(1);
        let mut inner = self.inner();
        if inner.used.checked_add(size).is_none_or(|used| used > self.capacity) {
            return Err(MemoryError::OutOfMemory);
        }

        let base = inner.next;
        let origin = name.map_or(Origin::Allocated(inner.count), |name| Origin::Variable(name.into()));
        let allocation = Allocation::new(base, size, origin)?;
        inner.count += u64::from(name.is_none());
        inner.next += (size + GUARD).next_multiple_of(ALIGNMENT);
        inner.used += size;
        inner.promised.insert(base, Arc::new(allocation));
        Ok(base)
    }

    /// Takes `size` bytes at an address of the caller's choice, for memory whose addresses are given from outside.
    ///
    /// # Errors
    /// `InvalidAddress` where the address is not a multiple of 256 or something lies there; `OutOfMemory`.
    pub fn place(&self, base: u64, size: u64) -> Result<(), MemoryError> {
        let size = size.max(1);
        let mut inner = self.inner();
        if inner.used.checked_add(size).is_none_or(|used| used > self.capacity) {
            return Err(MemoryError::OutOfMemory);
        }

        let end = base.checked_add(size).ok_or(MemoryError::InvalidAddress)?;
        let overlaps = |among: &BTreeMap<u64, Arc<Allocation>>| {
            among.range(..end).next_back().is_some_and(|(_, before)| before.base() + before.size() > base)
        };
        if !base.is_multiple_of(256) || overlaps(&inner.live) || overlaps(&inner.promised) {
            return Err(MemoryError::InvalidAddress);
        }

        let allocation = Allocation::new(base, size, Origin::Allocated(inner.count))?;
        inner.count += 1;
        inner.used += size;
        inner.live.insert(base, Arc::new(allocation));
        inner.renew();
        Ok(())
    }

    /// Makes host memory visible to kernels at its own address.
    ///
    /// # Safety
    /// `size` bytes at `data` (a multiple of 8 for both) stay valid until [`GlobalMemory::free`] of this address.
    ///
    /// # Errors
    /// `OutOfMemory`, for what is noted of each byte.
    pub unsafe fn register_host(&self, data: *mut u8, size: u64) -> Result<(), MemoryError> {
        // SAFETY: as the caller promises.
        let allocation = unsafe { Allocation::borrow(data, size) }?;
        let mut inner = self.inner();
        inner.live.insert(allocation.base(), Arc::new(allocation));
        inner.renew();
        Ok(())
    }

    /// Gives back the allocation at `base`.
    ///
    /// # Errors
    /// `InvalidAddress` where there is none.
    pub fn free(&self, base: u64) -> Result<(), MemoryError> {
        let mut inner = self.inner();
        let gone = inner.live.remove(&base).or_else(|| inner.promised.remove(&base));
        let gone = gone.ok_or(MemoryError::InvalidAddress)?;
        if *gone.origin() != Origin::Host {
            inner.used -= gone.size();
        }

        let mut freed = inner.map.freed.lock().unwrap_or_else(PoisonError::into_inner);
        if freed.len() == REMEMBERED {
            freed.pop_front();
        }
        freed.push_back(Freed { base, size: gone.size(), origin: gone.origin().clone() });
        drop(freed);

        inner.renew();
        Ok(())
    }

    /// What is live now.
    pub fn map(&self) -> Arc<AddressMap> {
        Arc::clone(&self.inner().map)
    }

    /// The allocation that holds an address, whether it is live or promised.
    pub fn extent(&self, address: u64) -> Option<Arc<Allocation>> {
        let inner = self.inner();
        let find = |among: &BTreeMap<u64, Arc<Allocation>>| {
            let (_, found) = among.range(..=address).next_back()?;
            (address - found.base() < found.size()).then(|| Arc::clone(found))
        };
        find(&inner.live).or_else(|| find(&inner.promised))
    }

    fn locate(&self, address: u64, bytes: u64) -> Result<(Arc<Allocation>, u64), MemoryError> {
        let map = self.map();
        let index = map.find(address).ok_or(MemoryError::InvalidAddress)?;
        let allocation = Arc::clone(&map.allocations[index]);
        let offset = address - allocation.base();
        if bytes > allocation.size() - offset {
            return Err(MemoryError::InvalidAddress);
        }
        Ok((allocation, offset))
    }

    /// Copies to the host; bytes that were never written come as [`UNWRITTEN`].
    ///
    /// # Errors
    /// `InvalidAddress` where the range is not inside one allocation.
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        if into.is_empty() {
            return Ok(());
        }
        let (allocation, offset) = self.locate(address, into.len() as u64)?;
        allocation.read(offset, into);
        if !allocation.is_written(offset, into.len() as u64) {
            for (_, byte) in (offset..).zip(into).filter(|(at, _)| !allocation.is_written(*at, 1)) {
                *byte = UNWRITTEN;
            }
        }
        Ok(())
    }

    /// Copies from the host.
    ///
    /// # Errors
    /// `InvalidAddress` where the range is not inside one allocation.
    pub fn write(&self, address: u64, from: &[u8]) -> Result<(), MemoryError> {
        if from.is_empty() {
            return Ok(());
        }
        let (allocation, offset) = self.locate(address, from.len() as u64)?;
        allocation.write(offset, from);
        Ok(())
    }

    /// Repeats a pattern of 1, 2, 4 or 8 bytes over `bytes` bytes (`cuMemsetD8` and its kin).
    ///
    /// # Errors
    /// `InvalidAddress` where the range is not inside one allocation, or the address or the length is not a multiple of
    /// the pattern's.
    pub fn fill(&self, address: u64, bytes: u64, pattern: &[u8]) -> Result<(), MemoryError> {
        let length = pattern.len() as u64;
        if !matches!(length, 1 | 2 | 4 | 8) || !address.is_multiple_of(length) || !bytes.is_multiple_of(length) {
            return Err(MemoryError::InvalidAddress);
        }
        if bytes == 0 {
            return Ok(());
        }
        let (allocation, offset) = self.locate(address, bytes)?;
        allocation.fill(offset, bytes, pattern);
        Ok(())
    }

    /// Copies within the device; bytes that were never written stay so.
    ///
    /// # Errors
    /// `InvalidAddress` where a range is not inside one allocation.
    pub fn copy(&self, to: u64, from: u64, bytes: u64) -> Result<(), MemoryError> {
        if bytes == 0 {
            return Ok(());
        }
        let (source, start) = self.locate(from, bytes)?;
        let (target, place) = self.locate(to, bytes)?;
        target.copy_from(place, &source, start, bytes);
        Ok(())
    }
}

impl Inner {
    fn renew(&mut self) {
        let (freed, agents) = (Arc::clone(&self.map.freed), Arc::clone(&self.map.agents));
        self.map = Arc::new(AddressMap { allocations: self.live.values().cloned().collect(), freed, agents });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_lies_where_it_is_placed_and_never_twice() {
        let memory = GlobalMemory::new(1 << 20);
        memory.place(1 << 60, 1000).unwrap();
        memory.place((1 << 60) + 1024, 24).unwrap();
        for (base, size) in [(1 << 60, 1), ((1 << 60) - 256, 257), ((1 << 60) + 768, 8), ((1 << 60) + 8, 8)] {
            assert_eq!(memory.place(base, size), Err(MemoryError::InvalidAddress), "{base:#x}");
        }
        memory.write((1 << 60) + 999, &[7]).unwrap();
        assert_eq!((memory.used(), memory.place(0, 1 << 20)), (1024, Err(MemoryError::OutOfMemory)));
    }

    #[test]
    fn ranges_are_checked_and_written_bytes_are_known() {
        let memory = GlobalMemory::new(1 << 20);
        let a = memory.allocate(100, None).unwrap();
        let b = memory.allocate(100, Some("table")).unwrap();
        memory.write(a + 10, &[1, 2, 3]).unwrap();

        memory.copy(b, a + 8, 4).unwrap();
        let mut bytes = [9; 4];
        memory.read(b, &mut bytes).unwrap();
        assert_eq!(bytes, [UNWRITTEN, UNWRITTEN, 1, 2]);
        let map = memory.map();
        let table = map.get(map.find(b + 99).unwrap()).unwrap();

        assert!(table.is_written(2, 2) && !table.is_written(1, 2));

        assert_eq!(memory.write(a + 98, &[0; 3]), Err(MemoryError::InvalidAddress));
        assert_eq!(memory.read(a + 100, &mut bytes), Err(MemoryError::InvalidAddress));
        assert_eq!(
            map.describe(b + 104).unwrap(),
            format!("4 bytes past the end of variable table of 100 bytes at {b:#x}")
        );
        assert_eq!(memory.allocate(1 << 20, None), Err(MemoryError::OutOfMemory));
        memory.free(a).unwrap();
        assert_eq!(memory.free(a), Err(MemoryError::InvalidAddress));
        assert_eq!(memory.used(), 100);
        assert!(memory.allocate(8, None).unwrap() > b, "addresses are not used again");
    }
}
