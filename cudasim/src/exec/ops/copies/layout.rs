//! Which bytes of global and of shared memory a box or an im2col column of a tensor is.
//!
//! # Interleaved tensors
//! The public documentation says that the channels (dimension 0) lie in slices of 16 or 32 bytes, NC/8DHWC8 and NC/16HWC16
//! with elements of 2 bytes, of which the last one is padded. It gives neither the way from slice to slice, for which a map
//! has no stride, nor the order in shared memory. Taken here, and said in the README:
//!
//! * the slices of one outermost element (N) follow one another without a gap, each as large as the dimensions between
//!   channels and N: `size of dimension rank - 2 · its stride` bytes (a map that gives slices a dimension of their own, and
//!   dimension 0 the channels of one, does not depend on this);
//! * shared memory has the same order: N, slices, the dimensions between, the channels of a slice; every row is a whole slice,
//!   and the swizzle permutes the addresses that come out;
//! * what lies behind the last channel is outside the tensor: it reads as the fill and is not written.
//!
//! Refused, as nothing says what would happen: boxes and coordinates that cut a slice, strides over channels, and im2col
//! columns of more than one slice.

use crate::tensor_map::{Interleave, Kind, MAX_RANK, TensorMap};

/// A copy's shape in shared memory: rows along the innermost dimension, one behind another.
pub(super) struct Layout {
    /// Elements of a row: of the box's innermost dimension, or of a slice.
    row: u64,
    /// Slices of the innermost dimension that a copy takes; 1 without an interleave.
    slices: u64,
    /// Of the other dimensions: how many rows; of im2col only the first, the pixels.
    rows: [u64; MAX_RANK - 1],
    /// Bytes of an element.
    element: u64,
    /// Bytes from a slice to the next; `None` without an interleave.
    slice_stride: Option<u64>,
}

impl Layout {
    /// Of a copy that starts at channel `first`.
    ///
    /// # Errors
    /// In words: what the documentation of interleaved tensors leaves open.
    pub fn new(map: &TensorMap, first: i64) -> Result<Self, String> {
        let mut rows = [1; MAX_RANK - 1];
        let row = match map.kind {
            Kind::Im2col { channels, pixels, .. } => {
                rows[0] = pixels.into();
                channels
            }
            Kind::Tiled { extent } => {
                for axis in 1..map.rank as usize {
                    rows[axis - 1] = u64::from(extent[axis].div_ceil(map.element_strides[axis]));
                }
                // The element stride of the innermost dimension counts only with an interleave.
                extent[0]
            }
        };

        let element = map.element.bytes();
        let plain = Self { row: row.into(), slices: 1, rows, element, slice_stride: None };

        let slice = match map.interleave {
            Interleave::None => return Ok(plain),
            Interleave::B16 => 16 / element,
            Interleave::B32 => 32 / element,
        };

        let open = |what: String| Err(format!("{what}, and the documentation does not say what the copy would do"));
        if !plain.row.is_multiple_of(slice) || !first.unsigned_abs().is_multiple_of(slice) {
            let taken = format!("{row} channels from channel {first} of a tensor that is interleaved by {slice}");
            return open(format!("{taken} cut a slice"));
        }
        if map.element_strides[0] != 1 {
            return open(format!("an element stride of {} over interleaved channels", map.element_strides[0]));
        }
        if plain.row != slice && matches!(map.kind, Kind::Im2col { .. }) {
            return open(format!("{row} channels for each pixel are more than one slice of {slice}"));
        }

        // An interleave comes with a rank of 3 at least.
        let between = map.rank as usize - 2;
        let slice_stride = Some(map.dims[between].saturating_mul(map.strides[between - 1]));
        Ok(Self { row: slice, slices: plain.row / slice, slice_stride, ..plain })
    }

    /// Bytes that are copied, filled ones included.
    pub fn bytes(&self) -> u64 {
        self.row * self.slices * self.element * self.rows.iter().product::<u64>()
    }

    /// Bytes of shared memory in which the swizzle moves them about.
    pub fn room(&self, map: &TensorMap) -> u64 {
        match map.swizzle.span() {
            u64::MAX => self.bytes(),
            span => self.bytes().next_multiple_of(span),
        }
    }

    /// Where in global memory a row starts that begins with element `first` of dimension 0, wherever `outer` the others put
    /// it.
    fn start(&self, first: i64, outer: u64) -> u64 {
        match self.slice_stride {
            None => outer.wrapping_add_signed(first.wrapping_mul(self.element as i64)),
            Some(stride) => outer.wrapping_add_signed((first / self.row as i64).wrapping_mul(stride as i64)),
        }
    }

    /// Calls `piece` with the shared address, the global address (`None` outside the tensor) and the length of each piece.
    pub fn visit(
        &self,
        map: &TensorMap,
        coordinates: &[i64; MAX_RANK],
        offsets: &[i64; 3],
        base: u64,
        mut piece: impl FnMut(u64, Option<u64>, u32),
    ) {
        let mut at = base;
        let mut row = |inside: bool, first: i64, outer: u64| {
            // Elements of the row before, in and behind the tensor.
            let clamp = |x: i64| x.clamp(0, self.row as i64) as u64;
            let (start, end) = match inside {
                true => (clamp(-first), clamp(map.dims[0] as i64 - first)),
                false => (self.row, self.row),
            };
            let end = end.max(start);

            let address = self.start(first, outer).wrapping_add(start * self.element);
            for (from, elements) in [(None, start), (Some(address), end - start), (None, self.row - end)] {
                let bytes = elements * self.element;
                swizzled(map, at, from, bytes, &mut piece);
                at += bytes;
            }
        };

        match map.kind {
            Kind::Tiled { .. } => self.visit_box(map, coordinates, &mut row),
            Kind::Im2col { lower, upper, .. } => {
                self.visit_im2col(map, coordinates, offsets, (&lower[..], &upper[..]), &mut row);
            }
        }
    }

    /// Calls `row` for each row of a box with whether it is inside the tensor, its first element and its global address.
    fn visit_box(&self, map: &TensorMap, coordinates: &[i64; MAX_RANK], row: &mut impl FnMut(bool, i64, u64)) {
        // Slices lie between the outermost dimension and the others.
        let outermost = (map.rank as usize).saturating_sub(2);
        let inner: u64 = self.rows[..outermost].iter().product();
        let per_outer = inner * self.slices;

        for index in 0..per_outer * self.rows[outermost] {
            let slice = index / inner % self.slices;
            let first = coordinates[0] + (slice * self.row) as i64;
            let mut rest = index % inner;
            let (mut inside, mut outer) = (true, map.address);

            for (axis, &start) in coordinates.iter().enumerate().take(map.rank as usize).skip(1) {
                let step = if axis - 1 == outermost { index / per_outer } else { rest % self.rows[axis - 1] };
                rest /= self.rows[axis - 1];
                let x = start + step as i64 * i64::from(map.element_strides[axis]);
                inside &= (0..map.dims[axis] as i64).contains(&x);
                outer = outer.wrapping_add_signed(x.wrapping_mul(map.strides[axis - 1] as i64));
            }

            row(inside, first, outer);
        }
    }

    /// The same for the pixels of an im2col column, in a bounding box that begins `lower` and ends `upper` off the tensor's.
    fn visit_im2col(
        &self,
        map: &TensorMap,
        coordinates: &[i64; MAX_RANK],
        offsets: &[i64; 3],
        (lower, upper): (&[i32], &[i32]),
        row: &mut impl FnMut(bool, i64, u64),
    ) {
        let pixel = map.rank as usize - 2;
        let mut position = *coordinates;

        for _ in 0..self.rows[0] {
            let (mut inside, mut outer) = (true, map.address);
            for axis in 1..=pixel + 1 {
                let x = position[axis] + if axis <= pixel { offsets[axis - 1] } else { 0 };
                inside &= (0..map.dims[axis] as i64).contains(&x);
                outer = outer.wrapping_add_signed(x.wrapping_mul(map.strides[axis - 1] as i64));
            }

            row(inside, coordinates[0], outer);

            // The next pixel of the bounding box; behind its last one, the next image.
            let mut axis = 1;
            loop {
                if axis > pixel {
                    position[axis] += 1;
                    break;
                }
                position[axis] += i64::from(map.element_strides[axis]);
                if position[axis] < map.dims[axis] as i64 + i64::from(upper[axis - 1]) {
                    break;
                }
                position[axis] = lower[axis - 1].into();
                axis += 1;
            }
        }
    }
}

/// One run of bytes, cut where the swizzle cuts it.
fn swizzled(
    map: &TensorMap,
    mut at: u64,
    mut from: Option<u64>,
    mut bytes: u64,
    piece: &mut impl FnMut(u64, Option<u64>, u32),
) {
    if map.swizzle.span() == u64::MAX {
        if bytes != 0 {
            piece(at, from, bytes as u32);
        }
        return;
    }

    while bytes != 0 {
        let count = bytes.min(16 - at % 16);
        piece(map.swizzle.apply(at), from, count as u32);
        (at, bytes) = (at + count, bytes - count);
        from = from.map(|address| address + count);
    }
}
