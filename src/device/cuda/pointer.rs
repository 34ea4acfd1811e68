//! Addresses on the device.

/// An address on the device, as kernels take it.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Pointer(pub(super) u64);

/// The null pointer.
pub(super) const NULL: Pointer = Pointer(0);

impl Pointer {
    /// `bytes` further on.
    pub(super) fn offset(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}
