//! What the epilogue of a GEMM reads and writes (`gemm/epilogue.cuh`).

use super::pointer::{NULL, Pointer};

/// What the epilogue of a GEMM reads and writes; [`NULL`] for what it does without. `out`, `hidden` and `activated` are
/// `[m, n]` in the device's precision, `bias` `[n]` and `total` `[m, n]` are f32.
#[derive(Clone, Copy)]
pub(super) struct Outputs {
    pub out: Pointer,
    pub bias: Pointer,
    pub hidden: Pointer,
    pub activated: Pointer,
    pub total: Pointer,
    pub activation: i32,
    pub add: bool,
}

impl Outputs {
    /// Just a result.
    pub(super) fn to(out: Pointer) -> Self {
        Self { out, bias: NULL, hidden: NULL, activated: NULL, total: NULL, activation: 0, add: false }
    }
}
