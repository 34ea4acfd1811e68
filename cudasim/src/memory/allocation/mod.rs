//! One allocation of global memory: its bytes, and which of them were ever written.
//!
//! Kernels run on several threads and may race: every access is a relaxed atomic of its own size, as the hardware's are.

mod runs;

use std::fmt;
use std::sync::OnceLock;

use super::error::MemoryError;
use super::shadow::Shadow;
use super::word::Word;
use super::zeroed::Zeroed;

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

/// A piece of global memory.
pub struct Allocation {
    base: u64,
    size: u64,
    origin: Origin,
    /// The bytes; host memory is borrowed from whoever registered it.
    data: *mut u8,
    /// One byte for each: 0 until it is written, then 1. Whole words of 8.
    written: Zeroed,
    /// Who touched it, from the first access that is checked for races; `None` without memory for that.
    shadow: OnceLock<Option<Shadow>>,
    /// What `data` points to, where it is ours.
    _owned: Option<Zeroed>,
}

// SAFETY: `data` is only touched through relaxed atomics (`load`, `store`), and outlives the allocation: it is owned, or host
// memory that the driver unregisters before it frees it.
unsafe impl Send for Allocation {}
// SAFETY: as above.
unsafe impl Sync for Allocation {}

impl Allocation {
    /// Memory of `size` bytes at address `base`, none of it written; nothing is taken from the host before it is touched.
    pub(super) fn new(base: u64, size: u64, origin: Origin) -> Result<Self, MemoryError> {
        let words = words_of(size)?;
        let owned = Zeroed::new(words)?;
        let data = owned.as_ptr().cast_mut().cast();
        let written = Zeroed::new(words)?;
        Ok(Self { base, size, origin, data, written, shadow: OnceLock::new(), _owned: Some(owned) })
    }

    /// Host memory at its own address, all of it written.
    ///
    /// # Safety
    /// `size` bytes at `data`, both multiples of 8, stay valid as long as the allocation.
    pub(super) unsafe fn borrow(data: *mut u8, size: u64) -> Result<Self, MemoryError> {
        let words = words_of(size)?;
        let written = Zeroed::new(words)?;
        let allocation = Self {
            base: data as u64,
            size,
            origin: Origin::Host,
            data,
            written,
            shadow: OnceLock::new(),
            _owned: None,
        };
        // The host writes there unseen.
        allocation.set_written(0, size, true);
        Ok(allocation)
    }

    /// Who touched it; `None` where the host has no memory to note that.
    pub fn shadow(&self) -> Option<&Shadow> {
        self.shadow.get_or_init(|| Shadow::new(self.size).ok()).as_ref()
    }

    /// Forgets who touched it.
    pub(super) fn clear_shadow(&self) {
        if let Some(Some(shadow)) = self.shadow.get() {
            shadow.clear();
        }
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

    #[inline(always)]
    fn place(&self, offset: u64, bytes: u64) -> *mut u8 {
        assert!(offset.is_multiple_of(bytes) && offset + bytes <= self.size.next_multiple_of(8), "unchecked access");
        // SAFETY: inside the allocation, whose buffer is whole words.
        unsafe { self.data.add(offset as usize) }
    }

    /// Where the notes of the byte at `offset` are.
    #[inline(always)]
    fn notes(&self, offset: u64) -> *mut u8 {
        // Read and written through atomics alone, which `AtomicU64::as_ptr` allows.
        self.written.as_ptr().cast_mut().cast::<u8>().wrapping_add(offset as usize)
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

    /// Writes `new` to the word at `offset`, which must be aligned and inside, if it is `old`.
    ///
    /// # Errors
    /// The word that it is.
    pub fn exchange<T: Word>(&self, offset: u64, old: T, new: T) -> Result<(), T> {
        let place = self.place(offset, T::BYTES);
        // SAFETY: as in `load`.
        unsafe { T::exchange(place, old, new) }
    }

    /// Replaces the word at `offset`, aligned and inside, by `change` of it, at once for all threads; returns the old one.
    #[inline]
    pub fn update<T: Word>(&self, offset: u64, change: impl FnMut(T) -> T) -> T {
        let place = self.place(offset, T::BYTES);
        // SAFETY: as in `load`.
        unsafe { T::update(place, change) }
    }

    /// The 16 bytes at `offset`, aligned and inside, in one piece.
    pub fn load_wide(&self, offset: u64) -> u128 {
        // SAFETY: aligned and inside, as `place` checks.
        unsafe { super::b128::load(self.place(offset, 16)) }
    }

    /// Writes the 16 bytes at `offset`, aligned and inside, in one piece.
    pub fn store_wide(&self, offset: u64, value: u128) {
        // SAFETY: as in `load_wide`.
        unsafe { super::b128::store(self.place(offset, 16), value) }
    }

    /// Replaces the 16 bytes at `offset`, aligned and inside, by `change` of them, in one piece; returns the old ones.
    pub fn update_wide(&self, offset: u64, change: impl FnMut(u128) -> u128) -> u128 {
        // SAFETY: as in `load_wide`.
        unsafe { super::b128::update(self.place(offset, 16), change) }
    }

    /// Whether all these addresses are multiples of `bytes` and `bytes` at each are inside.
    #[inline(always)]
    pub fn holds(&self, addresses: &[u64; 32], bytes: u64) -> bool {
        if self.size < bytes {
            return false;
        }
        let last = self.size - bytes;
        let (mut outside, mut odd) = (0, 0);
        for &address in addresses {
            let offset = address.wrapping_sub(self.base);
            // The sign bit of one of them where the offset is negative or behind the last.
            outside |= offset | last.wrapping_sub(offset);
            odd |= address;
        }
        outside >> 63 == 0 && odd & (bytes - 1) == 0
    }

    /// Loads `N` words at each of these addresses, which [`Allocation::holds`] holds with their `N * T::BYTES` bytes.
    /// Returns whether all of it was ever written.
    #[inline(always)]
    pub fn gather<T: Word, const N: usize>(&self, addresses: &[u64; 32], into: &mut [[T; 32]; N]) -> bool {
        assert!(self.holds(addresses, N as u64 * T::BYTES), "unchecked access");
        let mut unwritten = 0;
        for lane in 0..32 {
            let offset = addresses[lane].wrapping_sub(self.base) as usize;
            for (part, values) in into.iter_mut().enumerate() {
                let at = offset + part * T::BYTES as usize;
                // SAFETY: `holds` has just said that the words are aligned and inside the bytes, and so inside their notes.
                unsafe {
                    values[lane] = T::load(self.data.add(at));
                    unwritten |= T::load(self.notes(at as u64)).into() ^ T::WRITTEN.into();
                }
            }
        }
        unwritten == 0
    }

    /// Stores `N` words at each of these addresses whose lane is in `mask`, the lowest lane first; as in
    /// [`Allocation::gather`].
    #[inline(always)]
    pub fn scatter<T: Word, const N: usize>(&self, addresses: &[u64; 32], mask: u32, from: &[[T; 32]; N]) {
        assert!(self.holds(addresses, N as u64 * T::BYTES), "unchecked access");
        for lane in 0..32 {
            if mask >> lane & 1 == 0 {
                continue;
            }
            let offset = addresses[lane].wrapping_sub(self.base) as usize;
            for (part, values) in from.iter().enumerate() {
                let at = offset + part * T::BYTES as usize;
                // SAFETY: as in `gather`.
                unsafe {
                    T::store(self.data.add(at), values[lane]);
                    T::store(self.notes(at as u64), T::WRITTEN);
                }
            }
        }
    }

    /// Whether every byte of a range was written.
    pub fn is_written(&self, offset: u64, bytes: u64) -> bool {
        let mut all = true;
        self.each(offset, bytes, |at, whole| {
            // SAFETY: `each` stays inside, and whole words are aligned.
            all &= unsafe {
                match whole {
                    true => u64::load(self.notes(at)) == u64::WRITTEN,
                    false => u8::load(self.notes(at)) == u8::WRITTEN,
                }
            };
        });
        all
    }

    /// Notes whether a range holds values.
    pub fn set_written(&self, offset: u64, bytes: u64, written: bool) {
        self.each(offset, bytes, |at, whole| {
            // SAFETY: `each` stays inside, and whole words are aligned.
            unsafe {
                match whole {
                    true => u64::store(self.notes(at), u64::WRITTEN * u64::from(written)),
                    false => u8::store(self.notes(at), written.into()),
                }
            }
        });
    }

    /// Calls for each aligned word of a range, and for each byte at its ends; `true` for a word.
    fn each(&self, offset: u64, bytes: u64, mut f: impl FnMut(u64, bool)) {
        assert!(offset.checked_add(bytes).is_some_and(|end| end <= self.size), "unchecked access");
        let end = offset + bytes;
        let mut at = offset;
        while at < end {
            let whole = at.is_multiple_of(8) && end - at >= 8;
            f(at, whole);
            at += if whole { 8 } else { 1 };
        }
    }

    /// Copies a range to the host.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) {
        self.each(offset, into.len() as u64, |at, whole| {
            let place = (at - offset) as usize;
            match whole {
                true => into[place..place + 8].copy_from_slice(&self.load::<u64>(at).to_le_bytes()),
                false => into[place] = self.load(at),
            }
        });
    }

    /// Copies a range from the host.
    pub(super) fn write(&self, offset: u64, from: &[u8]) {
        self.each(offset, from.len() as u64, |at, whole| {
            let place = (at - offset) as usize;
            match whole {
                true => self.store(at, u64::from_slice(&from[place..])),
                false => self.store(at, from[place]),
            }
        });
        self.set_written(offset, from.len() as u64, true);
    }

    /// Repeats a pattern of 1, 2, 4 or 8 bytes over a range, which starts at a multiple of its length.
    pub(super) fn fill(&self, offset: u64, bytes: u64, pattern: &[u8]) {
        let eight: [u8; 8] = std::array::from_fn(|byte| pattern[byte % pattern.len()]);
        self.each(offset, bytes, |at, whole| match whole {
            // The range starts where the pattern does, so every multiple of 8 does too.
            true => self.store(at, u64::from_le_bytes(eight)),
            false => self.store(at, pattern[(at - offset) as usize % pattern.len()]),
        });
        self.set_written(offset, bytes, true);
    }

    /// Copies a range of another allocation (or this one), and which of its bytes are written.
    pub(super) fn copy_from(&self, to: u64, source: &Self, from: u64, bytes: u64) {
        // Through a piece of the host's memory: ranges may overlap, but then backwards where the target is behind.
        const PIECE: u64 = 1 << 16;
        let backwards = std::ptr::eq(self, source) && to > from;
        let (mut values, mut notes) = (vec![0; PIECE.min(bytes) as usize], vec![0; PIECE.min(bytes) as usize]);

        let pieces = bytes.div_ceil(PIECE);
        for number in 0..pieces {
            let start = PIECE * if backwards { pieces - 1 - number } else { number };
            let count = PIECE.min(bytes - start);
            let (values, notes) = (&mut values[..count as usize], &mut notes[..count as usize]);

            // From the source to the host: values, and which of them were written.
            source.read(from + start, values);
            source.each(from + start, count, |at, whole| {
                let place = (at - from - start) as usize;
                // SAFETY: `each` stays inside, and whole words are aligned.
                unsafe {
                    match whole {
                        true => u64::load(source.notes(at)).to_slice(&mut notes[place..]),
                        false => notes[place] = u8::load(source.notes(at)),
                    }
                }
            });

            // From the host to the target.
            self.write(to + start, values);
            self.each(to + start, count, |at, whole| {
                let place = (at - to - start) as usize;
                // SAFETY: as above.
                unsafe {
                    match whole {
                        true => u64::store(self.notes(at), u64::from_slice(&notes[place..])),
                        false => u8::store(self.notes(at), notes[place]),
                    }
                }
            });
        }
    }
}

fn words_of(size: u64) -> Result<usize, MemoryError> {
    usize::try_from(size.div_ceil(8)).map_err(|_| MemoryError::OutOfMemory)
}

impl fmt::Display for Allocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, &self.origin, self.size, self.base)
    }
}

/// `allocation 3 of 400 bytes at 0x2000000000000`
pub(super) fn describe(f: &mut fmt::Formatter<'_>, origin: &Origin, size: u64, base: u64) -> fmt::Result {
    match origin {
        Origin::Allocated(number) => write!(f, "allocation {number}")?,
        Origin::Variable(name) => write!(f, "variable {name}")?,
        Origin::Host => write!(f, "host memory")?,
    }
    write!(f, " of {size} bytes at {base:#x}")
}
