//! Arrays whose first axis runs fastest, brought into C order in memory.

use std::sync::Arc;

use super::Npy;
use crate::data::error::{DataError, Result};
use crate::data::files::bytes::Bytes;

/// Values read at a time.
const PIECE: usize = 1 << 18;

impl Npy {
    /// The same array with its values in C order. They are held in memory once: read piece by piece and put in their places.
    pub(super) fn into_c_order(self) -> Result<Self> {
        // With one axis of more than one value, both orders are one.
        if self.shape.iter().filter(|&&side| side != 1).count() < 2 || self.elements == 0 {
            return Ok(self);
        }

        // Steps between neighbours along each axis, in values of C order.
        let size = self.dtype.size();
        let mut steps = vec![1; self.shape.len()];
        for axis in (1..self.shape.len()).rev() {
            steps[axis - 1] = steps[axis] * self.shape[axis];
        }

        let mut placed = Vec::new();
        placed.try_reserve_exact(self.elements * size).map_err(|_| DataError::Npy {
            path: self.path.clone(),
            problem: format!(
                "is in Fortran order, and there are not {} bytes of memory to turn it round in; save it with \
                 numpy.save(path, numpy.ascontiguousarray(array))",
                self.elements * size
            ),
        })?;
        placed.resize(self.elements * size, 0);

        // The file's order counts the first axis up first.
        let mut position = vec![0; self.shape.len()];
        let mut to = 0;
        for first in (0..self.elements).step_by(PIECE) {
            for value in self.raw(first..first + PIECE)?.chunks_exact(size) {
                placed[to * size..][..size].copy_from_slice(value);
                for (axis, at) in position.iter_mut().enumerate() {
                    (*at, to) = (*at + 1, to + steps[axis]);
                    if *at < self.shape[axis] {
                        break;
                    }
                    (*at, to) = (0, to - steps[axis] * self.shape[axis]);
                }
            }
        }
        // `raw` gave little-endian values.
        Ok(Npy { bytes: Bytes::Owned(Arc::new(placed)), big_endian: false, start: 0, ..self })
    }
}
