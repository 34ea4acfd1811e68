//! Lists of tensors that one launch goes through (`tensor_list.cuh`).

use super::kernel::{Argument, Kind};
use super::tensor::int;
use crate::device::Result;

/// Elements of a block: `CHUNK` of `tensor_list.cuh`. Sums are cut by it, and by nothing else.
pub(super) const CHUNK: usize = 16_384;

/// A tensor of a list, as a kernel reads it; its elements and, last, where its chunks end.
pub(super) trait Entry: Copy {
    /// In the places behind the last tensor: ends where no block is.
    const NONE: Self;
    /// Elements.
    fn count(&self) -> u32;
    /// The same with its chunks and those of the tensors before it.
    fn ending(self, end: u32) -> Self;
}

/// Tensors of one launch, which takes them by value: a captured graph holds them, and nothing has to be kept for it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct TensorList<E, const CAPACITY: usize>([E; CAPACITY]);

impl<E: Entry, const CAPACITY: usize> Argument for TensorList<E, CAPACITY> {
    // Parameters of a kernel are at most 4 KB.
    const KIND: Kind = {
        assert!(size_of::<Self>() <= 3840, "a list with its kernel's other parameters must fit 4 KB");
        Kind::structure::<Self>()
    };
}

/// Calls `launch` with as many lists as `tensors` make, and the blocks of each.
pub(super) fn launches<E: Entry, const CAPACITY: usize>(
    tensors: &[E],
    mut launch: impl FnMut(TensorList<E, CAPACITY>, usize) -> Result<()>,
) -> Result<()> {
    for part in tensors.chunks(CAPACITY) {
        let mut list = TensorList([E::NONE; CAPACITY]);
        let mut end = 0;
        for (place, tensor) in list.0.iter_mut().zip(part) {
            end += chunks(tensor.count() as usize);
            *place = tensor.ending(int(end)? as u32);
        }
        launch(list, end)?;
    }
    Ok(())
}

/// Chunks of a tensor of `count` elements.
pub(super) fn chunks(count: usize) -> usize {
    count.div_ceil(CHUNK)
}
