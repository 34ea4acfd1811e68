//! Shared memory of a block, with what is known of each byte.

use crate::memory::{SHARED_RESERVED, Word};
use crate::report::{Fault, FaultKind};

/// What is known of a byte of shared memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ByteState {
    /// Nothing was written to it.
    #[default]
    Unwritten,
    /// It holds a value.
    Written,
    /// An asynchronous copy into it has been issued and was not waited for.
    InFlight,
}

/// Shared memory of one block. Addresses are shared addresses without a cluster rank: they start at [`SHARED_RESERVED`].
pub struct SharedMemory {
    bytes: Vec<u8>,
    states: Vec<ByteState>,
}

impl SharedMemory {
    /// `bytes` bytes, not yet written.
    pub fn new(bytes: usize) -> Self {
        Self { bytes: vec![0; bytes], states: vec![ByteState::Unwritten; bytes] }
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
        self.states[offset..][..bytes].fill(state);
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
}
