//! Global memory: allocations with guarded addresses, and which of their bytes were ever written.
//!
//! Kernels run on several threads and may race: every access is a relaxed atomic of its own size, as the hardware's are.
//! Addresses are never used twice, so that a pointer to freed memory is always seen.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::GLOBAL_BASE;

/// Allocations start at multiples of this, as CUDA's do.
const ALIGNMENT: u64 = 512;

/// Unused addresses between allocations.
const GUARD: u64 = 1 << 16;

/// Where an allocation comes from, for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The nth allocation of the program, from 0.
    Allocated(u64),
    /// A variable of a module.
    Variable(String),
    /// Page-locked host memory.
    Host,
}

/// Why memory was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryError {
    /// More than the device has.
    OutOfMemory,
    /// Not the address of a live allocation, or a range that leaves it.
    InvalidAddress,
}

/// A piece of global memory.
pub struct Allocation {
    base: u64,
    size: u64,
    origin: Origin,
    /// The bytes; host memory is borrowed from whoever registered it.
    data: *mut u8,
    /// One byte for each: 0 until it is written.
    written: Box<[AtomicU8]>,
    /// What `data` points to, where it is ours.
    _owned: Box<[AtomicU64]>,
}

// SAFETY: `data` is only touched through relaxed atomics (`load`, `store`), and outlives the allocation: it is owned, or host
// memory that the driver unregisters before it frees it.
unsafe impl Send for Allocation {}
// SAFETY: as above.
unsafe impl Sync for Allocation {}

/// A value that is loaded and stored as one.
pub trait Word: Copy + Default + Into<u64> {
    /// Bytes.
    const BYTES: u64;
    /// Reads a word.
    ///
    /// # Safety
    /// `at` is aligned and valid for the type while it is read.
    unsafe fn load(at: *mut u8) -> Self;
    /// Writes a word.
    ///
    /// # Safety
    /// `at` is aligned and valid for the type while it is written.
    unsafe fn store(at: *mut u8, value: Self);
    /// The low bits of a number.
    fn cut(value: u64) -> Self;
}

macro_rules! words {
    ($($ty:ty, $atomic:ident;)*) => {$(
        impl Word for $ty {
            const BYTES: u64 = size_of::<$ty>() as u64;

            #[inline(always)]
            unsafe fn load(at: *mut u8) -> Self {
                // SAFETY: aligned and valid, as the caller promises; all accesses are atomic.
                unsafe { $atomic::from_ptr(at.cast()) }.load(Ordering::Relaxed)
            }

            #[inline(always)]
            unsafe fn store(at: *mut u8, value: Self) {
                // SAFETY: as in `load`.
                unsafe { $atomic::from_ptr(at.cast()) }.store(value, Ordering::Relaxed);
            }

            #[inline(always)]
            fn cut(value: u64) -> Self {
                value as Self
            }
        }
    )*};
}

words! { u8, AtomicU8; u16, AtomicU16; u32, AtomicU32; u64, AtomicU64; }

impl Allocation {
    fn new(base: u64, size: u64, origin: Origin) -> Result<Self, MemoryError> {
        let words = usize::try_from(size.div_ceil(8)).map_err(|_| MemoryError::OutOfMemory)?;
        let mut owned = zeroed::<AtomicU64>(words)?;
        let data = owned.as_mut_ptr().cast();
        Ok(Self { base, size, origin, data, written: zeroed(words * 8)?, _owned: owned })
    }

    /// Address of its first byte.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where it comes from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    fn place(&self, offset: u64, bytes: u64) -> *mut u8 {
        assert!(offset.is_multiple_of(bytes) && offset + bytes <= self.size.next_multiple_of(8), "unchecked access");
        // SAFETY: inside the allocation, whose buffer is whole words.
        unsafe { self.data.add(offset as usize) }
    }

    /// The word at `offset`, which must be aligned and inside.
    #[inline(always)]
    pub fn load<T: Word>(&self, offset: u64) -> T {
        let place = self.place(offset, T::BYTES);
        // SAFETY: aligned and inside, as `place` checks; bases are multiples of 512 (host memory: of its page).
        unsafe { T::load(place) }
    }

    /// Writes the word at `offset`, which must be aligned and inside.
    #[inline(always)]
    pub fn store<T: Word>(&self, offset: u64, value: T) {
        let place = self.place(offset, T::BYTES);
        // SAFETY: as in `load`.
        unsafe { T::store(place, value) };
    }

    /// Whether every byte of a range was written.
    pub fn is_written(&self, offset: u64, bytes: u64) -> bool {
        self.written[offset as usize..][..bytes as usize].iter().all(|byte| byte.load(Ordering::Relaxed) != 0)
    }

    /// Notes whether a range holds values.
    pub fn set_written(&self, offset: u64, bytes: u64, written: bool) {
        for byte in &self.written[offset as usize..][..bytes as usize] {
            byte.store(written.into(), Ordering::Relaxed);
        }
    }
}

/// `count` atomics that are zero, without touching their pages.
fn zeroed<T>(count: usize) -> Result<Box<[T]>, MemoryError>
where
    T: Zeroable,
{
    let layout = std::alloc::Layout::array::<T>(count).map_err(|_| MemoryError::OutOfMemory)?;
    if layout.size() == 0 {
        return Ok(Box::new([]));
    }
    // SAFETY: the layout is not empty; a zeroed T is a T (`Zeroable`); the box frees with the same layout.
    unsafe {
        let pointer = std::alloc::alloc_zeroed(layout).cast::<T>();
        if pointer.is_null() {
            return Err(MemoryError::OutOfMemory);
        }
        Ok(Box::from_raw(std::ptr::slice_from_raw_parts_mut(pointer, count)))
    }
}

/// Types of which all-zero bytes are a value.
trait Zeroable {}
impl Zeroable for AtomicU8 {}
impl Zeroable for AtomicU64 {}

impl fmt::Display for Allocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Allocated(number) => write!(f, "allocation {number}")?,
            Origin::Variable(name) => write!(f, "variable {name}")?,
            Origin::Host => write!(f, "host memory")?,
        }
        write!(f, " of {} bytes at {:#x}", self.size, self.base)
    }
}

/// The live allocations at one moment, in the order of their addresses.
#[derive(Clone, Default)]
pub struct AddressMap {
    allocations: Vec<Arc<Allocation>>,
}

impl AddressMap {
    /// Index of the allocation that holds `address`.
    #[inline]
    pub fn find(&self, address: u64) -> Option<usize> {
        let after = self.allocations.partition_point(|allocation| allocation.base <= address);
        let index = after.checked_sub(1)?;
        (address - self.allocations[index].base < self.allocations[index].size).then_some(index)
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

    /// What is next to `address`, in words.
    pub fn describe(&self, address: u64) -> Option<String> {
        let distance = |a: &Allocation| match address {
            x if x < a.base => a.base - x,
            x => (x - a.base).saturating_sub(a.size.saturating_sub(1)),
        };
        let nearest = self.iter().min_by_key(|a| distance(a))?;
        let offset = i128::from(address) - i128::from(nearest.base);
        Some(match offset {
            o if o < 0 => format!("{} bytes before {nearest}", -o),
            o if o >= i128::from(nearest.size) => {
                format!("{} bytes past the end of {nearest}", o - i128::from(nearest.size))
            }
            o => format!("byte {o} of {nearest}"),
        })
    }
}

struct Inner {
    live: BTreeMap<u64, Arc<Allocation>>,
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
        let inner = Inner { live: BTreeMap::new(), map: Arc::default(), next: GLOBAL_BASE, used: 0, count: 0 };
        Self { inner: Mutex::new(inner), capacity }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
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
        inner.live.insert(base, Arc::new(allocation));
        inner.renew();
        Ok(base)
    }

    /// Makes host memory visible to kernels at its own address.
    ///
    /// # Safety
    /// `size` bytes at `data` (a multiple of 8 for both) stay valid until [`GlobalMemory::free`] of this address.
    ///
    /// # Errors
    /// `OutOfMemory`, for what is noted of each byte.
    pub unsafe fn register_host(&self, data: *mut u8, size: u64) -> Result<(), MemoryError> {
        let words = usize::try_from(size.div_ceil(8)).map_err(|_| MemoryError::OutOfMemory)?;
        let base = data as u64;
        let allocation =
            Allocation { base, size, origin: Origin::Host, data, written: zeroed(words * 8)?, _owned: Box::new([]) };
        // The host writes there unseen.
        allocation.set_written(0, size, true);
        let mut inner = self.inner();
        inner.live.insert(base, Arc::new(allocation));
        inner.renew();
        Ok(())
    }

    /// Gives back the allocation at `base`.
    ///
    /// # Errors
    /// `InvalidAddress` where there is none.
    pub fn free(&self, base: u64) -> Result<(), MemoryError> {
        let mut inner = self.inner();
        let gone = inner.live.remove(&base).ok_or(MemoryError::InvalidAddress)?;
        if gone.origin != Origin::Host {
            inner.used -= gone.size;
        }
        inner.renew();
        Ok(())
    }

    /// What is live now.
    pub fn map(&self) -> Arc<AddressMap> {
        Arc::clone(&self.inner().map)
    }

    fn locate(&self, address: u64, bytes: u64) -> Result<(Arc<Allocation>, u64), MemoryError> {
        let map = self.map();
        let index = map.find(address).ok_or(MemoryError::InvalidAddress)?;
        let allocation = Arc::clone(&map.allocations[index]);
        let offset = address - allocation.base;
        if bytes > allocation.size - offset {
            return Err(MemoryError::InvalidAddress);
        }
        Ok((allocation, offset))
    }

    /// Copies to the host.
    ///
    /// # Errors
    /// `InvalidAddress` where the range is not inside one allocation.
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        if into.is_empty() {
            return Ok(());
        }
        let (allocation, offset) = self.locate(address, into.len() as u64)?;
        for (place, byte) in (offset..).zip(into) {
            *byte = allocation.load(place);
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
        for (place, &byte) in (offset..).zip(from) {
            allocation.store(place, byte);
        }
        allocation.set_written(offset, from.len() as u64, true);
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
        let copied: Vec<(u8, bool)> =
            (start..start + bytes).map(|at| (source.load(at), source.is_written(at, 1))).collect();
        for (at, (byte, written)) in (place..).zip(copied) {
            target.store(at, byte);
            target.set_written(at, 1, written);
        }
        Ok(())
    }
}

impl Inner {
    fn renew(&mut self) {
        self.map = Arc::new(AddressMap { allocations: self.live.values().cloned().collect() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked_and_written_bytes_are_known() {
        let memory = GlobalMemory::new(1 << 20);
        let a = memory.allocate(100, None).unwrap();
        let b = memory.allocate(100, Some("table")).unwrap();
        memory.write(a + 10, &[1, 2, 3]).unwrap();
        memory.copy(b, a + 8, 4).unwrap();
        let mut bytes = [9; 4];
        memory.read(b, &mut bytes).unwrap();
        assert_eq!(bytes, [0, 0, 1, 2]);
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
