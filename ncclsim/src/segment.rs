//! The memory that the ranks of a communicator share.

use std::ffi::CString;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::order::Notes;

/// Ranks of a communicator at most.
pub const RANKS: usize = 16;
/// Bytes of a part that are exchanged at once.
pub const CHUNK: usize = 1 << 20;
/// Bytes before the slots.
const HEAD: usize = 128 << 10;
const _: () = assert!(size_of::<Head>() <= HEAD);

/// What each rank tells the others.
#[repr(C)]
pub struct Member {
    /// Rounds whose numbers are in its slot.
    pub arrived: AtomicU64,
    /// Rounds that it has read all slots of.
    pub done: AtomicU64,
    /// What it called in the round, and which chunk of it this is.
    pub call: [AtomicU64; 4],
    /// Colour and key of a split, and how many splits it has called.
    pub split: [AtomicU64; 3],
    /// What it had called before each of its last collectives.
    pub notes: Notes,
}

/// What stands before the slots.
#[repr(C)]
pub struct Head {
    /// Ranks that have the memory open.
    pub joined: AtomicU32,
    /// Set where ranks disagree: nothing is exchanged any more.
    pub broken: AtomicU32,
    /// By rank.
    pub members: [Member; RANKS],
}

/// The memory, mapped into this process. A slot has one part per rank.
pub struct Segment {
    map: *mut u8,
    bytes: usize,
    ranks: usize,
}

// SAFETY: shared between processes anyway; the head is atomic, and slots are written and read in the order of its counters.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

impl Segment {
    /// Opens or makes the memory of this name, zeros at first.
    pub fn open(name: &str, ranks: usize) -> Option<Self> {
        let bytes = HEAD + ranks * ranks * CHUNK;
        let name = CString::new(name).ok()?;
        // SAFETY: a C string, flags and a mode.
        let file = unsafe { libc::shm_open(name.as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600) };
        if file < 0 {
            return None;
        }
        // SAFETY: an open file, which is at least as large as the map before it is mapped, and closed once.
        let map = unsafe {
            let grown = libc::ftruncate(file, bytes as libc::off_t) == 0;
            let (access, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
            let map =
                if grown { libc::mmap(std::ptr::null_mut(), bytes, access, shared, file, 0) } else { libc::MAP_FAILED };
            libc::close(file);
            map
        };
        (map != libc::MAP_FAILED).then(|| Self { map: map.cast(), bytes, ranks })
    }

    /// Removes the name: those who have the memory open keep it.
    pub fn unlink(name: &str) {
        if let Ok(name) = CString::new(name) {
            // SAFETY: a C string.
            unsafe { libc::shm_unlink(name.as_ptr()) };
        }
    }

    /// What stands before the slots.
    pub fn head(&self) -> &Head {
        // SAFETY: the map is larger, starts on a page, and zeros are a head.
        unsafe { &*self.map.cast::<Head>() }
    }

    /// Part `part` of the slot of `rank`, [`CHUNK`] bytes.
    pub fn part(&self, rank: usize, part: usize) -> *mut u8 {
        assert!(rank < self.ranks && part < self.ranks, "a part that no slot has");
        // SAFETY: inside the map.
        unsafe { self.map.add(HEAD + (rank * self.ranks + part) * CHUNK) }
    }

    /// Whether all ranks have come as far as `so far` says.
    pub fn all(&self, so_far: impl Fn(&Member) -> bool) -> bool {
        self.head().members[..self.ranks].iter().all(so_far)
    }

    /// Whether ranks disagree.
    pub fn is_broken(&self) -> bool {
        self.head().broken.load(SeqCst) != 0
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: mapped once, and nothing refers to it any more.
        unsafe { libc::munmap(self.map.cast(), self.bytes) };
    }
}
