//! Shared memory of a block, with what is known of each byte.

use super::SHARED_RESERVED;
use super::shadow::Shadow;
use super::word::Word;
use crate::report::{Fault, FaultKind};

/// What is known of a byte of shared memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum ByteState {
    /// Nothing was written to it.
    #[default]
    Unwritten = 0,
    /// It holds a value.
    Written = 1,
    /// An asynchronous copy into it has been issued and was not waited for.
    InFlight = 2,
    /// It holds a value that an asynchronous copy out of it may still read.
    Source = 5,
}

/// Shared memory of one block. Addresses are shared addresses without a cluster rank: they start at [`SHARED_RESERVED`].
pub struct SharedMemory {
    bytes: Vec<u8>,
    states: Vec<ByteState>,
    /// Bytes that asynchronous copies read or write.
    guarded: usize,
    /// Who touched it; `None` before the first access that is checked for races.
    shadow: Option<Shadow>,
}

impl SharedMemory {
    /// `bytes` bytes, not yet written.
    pub fn new(bytes: usize) -> Self {
        Self { bytes: vec![0; bytes], states: vec![ByteState::Unwritten; bytes], guarded: 0, shadow: None }
    }

    /// Who touched it.
    pub fn shadow(&mut self) -> Option<&Shadow> {
        if self.shadow.is_none() {
            self.shadow = Shadow::new(self.size()).ok();
        }
        self.shadow.as_ref()
    }

    /// The same with its bytes.
    #[inline]
    pub fn shadow_and_bytes(&mut self) -> Option<(&Shadow, &[u8])> {
        self.shadow()?;
        self.shadow.as_ref().map(|shadow| (shadow, self.bytes.as_slice()))
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Offset of an access of `bytes` at `address`.
    ///
    /// # Errors
    /// It leaves the block's shared memory.
    pub fn offset(&self, address: u64, bytes: u64) -> Result<usize, Fault> {
        let offset = address.checked_sub(SHARED_RESERVED);
        match offset.filter(|offset| offset.checked_add(bytes).is_some_and(|end| end <= self.size())) {
            Some(offset) => Ok(offset as usize),
            None => {
                let message = format!(
                    "{bytes} bytes at shared address {address:#x}; the block has {SHARED_RESERVED:#x} to {:#x}",
                    SHARED_RESERVED + self.size()
                );
                Err(Fault::new(FaultKind::OutOfBounds, message))
            }
        }
    }

    /// The bytes of a range, unchecked but for its bounds.
    pub fn bytes(&self, offset: usize, bytes: usize) -> &[u8] {
        &self.bytes[offset..][..bytes]
    }

    /// The states of a range.
    pub fn states(&self, offset: usize, bytes: usize) -> &[ByteState] {
        &self.states[offset..][..bytes]
    }

    /// Marks a range.
    pub fn mark(&mut self, offset: usize, bytes: usize, state: ByteState) {
        let guards = |state: ByteState| matches!(state, ByteState::InFlight | ByteState::Source);
        let states = &mut self.states[offset..][..bytes];
        if self.guarded != 0 {
            self.guarded -= states.iter().filter(|&&state| guards(state)).count();
        }
        if guards(state) {
            self.guarded += bytes;
        }
        states.fill(state);
    }

    /// Whether an asynchronous copy reads or writes any of it, so that stores must look where they go.
    pub fn is_guarded(&self) -> bool {
        self.guarded != 0
    }

    /// Writes bytes and marks them as written.
    pub fn put(&mut self, offset: usize, from: &[u8]) {
        self.bytes[offset..][..from.len()].copy_from_slice(from);
        self.mark(offset, from.len(), ByteState::Written);
    }

    /// The word at an offset.
    pub fn word<T: Word>(&self, offset: usize) -> T {
        let mut word = [0; 8];
        word[..T::BYTES as usize].copy_from_slice(self.bytes(offset, T::BYTES as usize));
        T::cut(u64::from_le_bytes(word))
    }

    /// Whether all these addresses are multiples of `bytes` and `bytes` at each are inside.
    #[inline(always)]
    pub fn holds(&self, addresses: &[u64; 32], bytes: u64) -> bool {
        let Some(last) = (SHARED_RESERVED + self.size()).checked_sub(bytes) else { return false };
        let (mut outside, mut odd) = (0, 0);
        for &address in addresses {
            // The sign bit of one of them where the address is below the first or behind the last.
            outside |= address.wrapping_sub(SHARED_RESERVED) | last.wrapping_sub(address);
            odd |= address;
        }
        outside >> 63 == 0 && odd & (bytes - 1) == 0
    }

    /// Loads `N` words at each of these addresses, which [`SharedMemory::holds`] holds. `false` where some of it is in
    /// flight, or was never written and `written` asks for that.
    #[inline(always)]
    pub fn gather<T: Word, const N: usize>(
        &self,
        addresses: &[u64; 32],
        into: &mut [[T; 32]; N],
        written: bool,
    ) -> bool {
        let states = as_bytes(&self.states);
        let mut wrong = 0;
        for lane in 0..32 {
            let offset = (addresses[lane] - SHARED_RESERVED) as usize;
            for (part, values) in into.iter_mut().enumerate() {
                let at = offset + part * T::BYTES as usize;
                values[lane] = T::from_slice(&self.bytes[at..]);
                wrong |= T::from_slice(&states[at..]).into() ^ T::WRITTEN.into();
            }
        }

        // Of `InFlight` and `Unwritten`; bytes that a copy reads may be read by others.
        let asked: u64 = if written { 0x0303_0303_0303_0303 } else { 0x0202_0202_0202_0202 };
        wrong & asked == 0
    }

    /// Stores `N` words at each of these addresses whose lane is in `mask`, the lowest lane first; as in
    /// [`SharedMemory::gather`].
    #[inline(always)]
    pub fn scatter<T: Word, const N: usize>(&mut self, addresses: &[u64; 32], mask: u32, from: &[[T; 32]; N]) {
        for lane in 0..32 {
            if mask >> lane & 1 == 0 {
                continue;
            }
            let offset = (addresses[lane] - SHARED_RESERVED) as usize;
            for (part, values) in from.iter().enumerate() {
                let at = offset + part * T::BYTES as usize;
                values[lane].to_slice(&mut self.bytes[at..]);
                self.states[at..][..T::BYTES as usize].fill(ByteState::Written);
            }
        }
    }
}

fn as_bytes(states: &[ByteState]) -> &[u8] {
    // SAFETY: `ByteState` is one byte (`repr(u8)`) without padding.
    unsafe { std::slice::from_raw_parts(states.as_ptr().cast(), states.len()) }
}
