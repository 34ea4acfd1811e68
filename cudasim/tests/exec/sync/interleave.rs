//! Tensor copies of interleaved tensors: NC/8HWC8 and its kin, whose channels lie in slices of 16 or 32 bytes.

use super::tensor::{START, TILE, WAIT, declarations, dump, list, load_im2col, swizzled};
use super::{Case, completion, every_way};
use cudasim::options::{Completion, Options};
use cudasim::report::FaultKind;
use cudasim::tensor_map::{Arguments, Im2colArguments, TensorMap};

/// A tensor [N][C / slice][H][W][slice] (H and W as the rank has them) whose elements say where they are; the last slice of
/// each N is padded with a value that no copy may bring.
#[derive(Clone, Debug)]
struct Tensor {
    /// C, W, H, N.
    dims: Vec<u64>,
    /// Channels of a slice.
    slice: u64,
    /// Bytes of an element: 2 or 4.
    element: u64,
    interleave: u32,
    swizzle: u32,
    nan: bool,
}

const PADDING: u32 = 0x5555_5555;

impl Tensor {
    fn halves(dims: &[u64], interleave: u32, swizzle: u32) -> Self {
        Self { dims: dims.to_vec(), slice: 8 << (interleave - 1), element: 2, interleave, swizzle, nan: false }
    }

    fn floats(dims: &[u64], interleave: u32, swizzle: u32) -> Self {
        Self { slice: 4 << (interleave - 1), element: 4, ..Self::halves(dims, interleave, swizzle) }
    }

    fn rank(&self) -> usize {
        self.dims.len()
    }

    fn slices(&self) -> u64 {
        self.dims[0].div_ceil(self.slice)
    }

    /// Bytes of one N, with a gap behind it.
    fn outermost_stride(&self) -> u64 {
        let between: u64 = self.dims[1..self.rank() - 1].iter().product();
        self.slices() * between * self.slice * self.element + 64
    }

    fn strides(&self) -> Vec<u64> {
        let mut strides = vec![self.slice * self.element];
        for axis in 1..self.rank() - 2 {
            strides.push(strides[axis - 1] * self.dims[axis]);
        }
        strides.push(self.outermost_stride());
        strides
    }

    /// The value at coordinates: a number for each place, in both halves of its word.
    fn value(coordinates: &[i64]) -> u32 {
        let sizes = [48, 8, 6, 5, 4];
        let places = coordinates.iter().zip(sizes).rev();
        0x1_0001 * (1 + places.fold(0, |value, (&x, size)| value * size + x as u32))
    }

    fn cut(&self, value: u32) -> u32 {
        if self.element == 2 { value & 0xffff } else { value }
    }

    fn at(&self, coordinates: &[i64]) -> u32 {
        let inside = coordinates.iter().zip(&self.dims).all(|(&x, &size)| (0..size as i64).contains(&x));
        match (inside, self.nan, self.element) {
            (true, ..) => self.cut(Self::value(coordinates)),
            (_, false, _) => 0,
            (_, _, 2) => 0x7fff,
            _ => 0x7fff_ffff,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let outermost = self.dims[self.rank() - 1];
        let mut bytes = vec![0x55; (self.outermost_stride() * outermost) as usize];
        let between = &self.dims[1..self.rank() - 1];
        for n in 0..outermost {
            for index in 0..self.slices() * self.slice * between.iter().product::<u64>() {
                // From the innermost: channel of the slice, W, H, slice.
                let mut rest = index / self.slice;
                let mut coordinates = vec![0];
                for &size in between {
                    coordinates.push((rest % size) as i64);
                    rest /= size;
                }
                coordinates.push(n as i64);
                coordinates[0] = (rest * self.slice + index % self.slice) as i64;

                let padded = coordinates[0] >= self.dims[0] as i64;
                let value = if padded { PADDING } else { self.cut(Self::value(&coordinates)) };
                let at = (n * self.outermost_stride() + index * self.element) as usize;
                bytes[at..at + self.element as usize].copy_from_slice(&value.to_le_bytes()[..self.element as usize]);
            }
        }
        bytes
    }

    fn map(&self, address: u64, extent: &[u32]) -> TensorMap {
        let (strides, ones) = (self.strides(), vec![1; self.rank()]);
        TensorMap::tiled(&self.arguments(address, &strides, &ones), extent).unwrap()
    }

    fn arguments<'a>(&'a self, address: u64, strides: &'a [u64], ones: &'a [u32]) -> Arguments<'a> {
        Arguments {
            element: if self.element == 2 { 6 } else { 7 },
            rank: self.rank() as u32,
            address,
            dims: &self.dims,
            strides,
            element_strides: ones,
            interleave: self.interleave,
            swizzle: self.swizzle,
            l2_promotion: 0,
            fill: self.nan.into(),
        }
    }

    /// Coordinates of the elements of a box in the order of shared memory: N, slices, H, W, channels of a slice.
    fn order(&self, extent: &[u32], start: &[i64]) -> Vec<Vec<i64>> {
        let last = self.rank() - 1;
        let between: u64 = extent[1..last].iter().map(|&size| u64::from(size)).product();
        let slices = u64::from(extent[0]) / self.slice;
        let mut order = Vec::new();

        for n in 0..i64::from(extent[last]) {
            for slice in 0..slices {
                for pixel in 0..between {
                    for channel in 0..self.slice {
                        let mut place = vec![start[0] + (slice * self.slice + channel) as i64];
                        let mut rest = pixel;
                        for axis in 1..last {
                            place.push(start[axis] + (rest % u64::from(extent[axis])) as i64);
                            rest /= u64::from(extent[axis]);
                        }
                        place.push(start[last] + n);
                        order.push(place);
                    }
                }
            }
        }

        order
    }

    /// Values in the order of shared memory, put where they lie there.
    fn laid_out(&self, values: &[u32]) -> Vec<u32> {
        let width = self.element as usize;
        let mut bytes = vec![0; (values.len() * width).next_multiple_of(128)];
        for (index, value) in values.iter().enumerate() {
            for byte in 0..width {
                bytes[swizzled(self.swizzle, index * width + byte)] = value.to_le_bytes()[byte];
            }
        }
        super::words(&bytes[..values.len() * width])
    }

    fn loads(&self, extent: &[u32], start: &[i64], options: Options) {
        let bytes = extent.iter().product::<u32>() as usize * self.element as usize;
        assert!(bytes <= TILE, "the tile holds {TILE} bytes");

        let rank = self.rank();
        let body = format!(
            "{START} @%p9 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], {bytes};
             @%p9 cp.async.bulk.prefetch.tensor.{rank}d.L2.global.tile [%map, {{{0}}}];
             @%p9 cp.async.bulk.tensor.{rank}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [tile], [%map, {{{0}}}], [bar];
             {WAIT}{1}",
            list(start),
            dump(bytes)
        );

        let declarations = declarations();
        let case = Case {
            body: &body,
            declarations: &declarations,
            input: self.bytes(),
            output: vec![0; bytes],
            options,
            ..Case::default()
        };

        let got = case.run_with(|address, _| self.map(address, extent).encode().to_vec());
        let got = got.unwrap_or_else(|report| panic!("{report}"));
        let values: Vec<u32> = self.order(extent, start).iter().map(|place| self.at(place)).collect();
        assert_eq!(got[..bytes / 4], self.laid_out(&values)[..], "{self:?}: {extent:?} at {start:?}");
    }
}

#[test]
fn slices_of_16_bytes_with_every_swizzle() {
    for swizzle in 0..4 {
        // Five slices and half a sixth, 7 by 5 pixels, 4 images.
        let tensor = Tensor::halves(&[44, 7, 5, 4], 1, swizzle);
        tensor.loads(&[8, 6, 4, 1], &[0, 0, 0, 0], Options::default());
        tensor.loads(&[8, 4, 2, 2], &[16, 2, 1, 1], Options::default());
        tensor.loads(&[24, 4, 3, 2], &[8, 2, 1, 2], Options::default());
        let floats = Tensor::floats(&[15, 6, 3], 1, swizzle);
        floats.loads(&[4, 4, 2], &[0, 0, 0], Options::default());
        floats.loads(&[16, 3, 2], &[0, 2, 1], Options::default());
    }
    for options in every_way() {
        Tensor::halves(&[44, 7, 5, 4], 1, 3).loads(&[16, 4, 3, 2], &[8, 2, 1, 2], options);
    }
}

#[test]
fn slices_of_32_bytes() {
    let tensor = Tensor::halves(&[44, 7, 5, 4], 2, 1);
    tensor.loads(&[16, 7, 5, 1], &[16, 0, 0, 3], Options::default());
    tensor.loads(&[48, 3, 2, 2], &[0, 2, 1, 1], Options::default());
    Tensor::floats(&[15, 6, 3], 2, 1).loads(&[16, 2, 2], &[0, 3, 1], Options::default());
    Tensor::floats(&[9, 3, 2, 3, 3], 2, 1).loads(&[8, 2, 2, 2, 2], &[8, 1, 0, 1, 1], Options::default());
}

/// Before the first and behind the last slice, behind the last channel of the last slice, beside the image.
#[test]
fn what_is_outside_is_filled_and_the_padding_of_a_slice_is_outside() {
    for nan in [false, true] {
        let tensor = Tensor { nan, ..Tensor::halves(&[44, 7, 5, 4], 1, 2) };
        for start in [[-16, -1, -2, -1], [32, 4, 3, 3], [40, 0, 0, 0], [48, 0, 0, 0], [0, 7, 0, 0], [-8, 3, 1, 4]] {
            tensor.loads(&[16, 4, 3, 2], &start, Options::default());
        }
    }
}

/// A map that gives the slices a dimension of their own says where each lies: C8, W, C / 8, N.
#[test]
fn slices_may_be_a_dimension_of_their_own() {
    let tensor = Tensor::halves(&[8, 6, 3, 2], 1, 0);
    assert_eq!(tensor.strides(), [16, 96, 352], "of W, of C / 8, of N with its gap");
    tensor.loads(&[8, 4, 2, 2], &[0, 1, 1, 0], Options::default());
}

#[test]
fn boxes_are_stored_and_reduced_slice_by_slice() {
    let tensor = Tensor::halves(&[44, 7, 5, 4], 1, 3);
    let extent = [16, 4, 3, 2];
    for (how, reduces) in [
        ("async.bulk.tensor.4d.global.shared::cta.tile.bulk_group", false),
        ("reduce.async.bulk.tensor.4d.global.shared::cta.and.tile.bulk_group", true),
    ] {
        // `and` is for integers: the elements are u32 there, 4 to a slice.
        let tensor = if reduces { Tensor::floats(&[22, 7, 5, 4], 1, 3) } else { tensor.clone() };
        for (start, options) in
            [[0, 0, 0, 0], [16, 5, -1, 1], [40, 2, 1, 3], [-8, -2, 3, 2]].iter().zip(every_way().step_by(15))
        {
            let order = tensor.order(&extent, start);
            let values: Vec<u32> =
                (0..order.len() as u32).map(|i| tensor.cut(i.wrapping_mul(0x0101_0107) ^ 0x00ff_0f0f)).collect();
            let mut fill = String::new();
            for (index, word) in tensor.laid_out(&values).iter().enumerate() {
                fill += &format!("@%p9 st.shared.u32 [tile+{}], {word};\n", index * 4);
            }
            let body = format!(
                "{START}{fill} @%p9 fence.proxy.async.shared::cta; bar.sync 0;
                 @%p9 cp.{how} [%map, {{{}}}], [tile]; @%p9 cp.async.bulk.commit_group; @%p9 cp.async.bulk.wait_group 0;",
                list(start)
            );

            let (declarations, output) = (declarations(), tensor.bytes());
            let case =
                Case { body: &body, declarations: &declarations, output: output.clone(), options, ..Case::default() };
            let got = case.run_with(|_, address| {
                let (strides, ones) = (tensor.strides(), [1; 4]);
                let arguments = tensor.arguments(address, &strides, &ones);
                let arguments = Arguments { element: if reduces { 2 } else { 6 }, ..arguments };
                TensorMap::tiled(&arguments, &extent).unwrap().encode().to_vec()
            });
            let got = super::bytes(&got.unwrap_or_else(|report| panic!("{report}")));

            let mut expected = output;
            let width = tensor.element as usize;
            for (place, value) in order.iter().zip(&values) {
                if place.iter().zip(&tensor.dims).any(|(&x, &size)| !(0..size as i64).contains(&x)) {
                    continue;
                }
                let (slice, channel) = (place[0] as u64 / tensor.slice, place[0] as u64 % tensor.slice);
                let pixel = (slice * tensor.dims[2] + place[2] as u64) * tensor.dims[1] + place[1] as u64;
                let at =
                    place[3] as u64 * tensor.outermost_stride() + (pixel * tensor.slice + channel) * tensor.element;
                for (byte, new) in expected[at as usize..][..width].iter_mut().zip(value.to_le_bytes()) {
                    *byte = if reduces { *byte & new } else { new };
                }
            }
            assert!(got == expected, "{how} at {start:?}");
        }
    }
}

#[test]
fn im2col_takes_a_slice_of_each_pixel() {
    let tensor = Tensor::halves(&[20, 7, 5, 3], 1, 2);
    let (pixels, offsets) = (40_u32, [2, 1]);
    let corners = Im2colArguments { lower: &[-1, -1], upper: &[-1, -1], channels: 8, pixels };
    for start in [[8, -1, -1, 0], [16, 3, 2, 1]] {
        let bytes = pixels as usize * 16;
        let body = load_im2col(&start, offsets, bytes);
        let declarations = declarations();
        let case = Case {
            body: &body,
            declarations: &declarations,
            input: tensor.bytes(),
            output: vec![0; bytes],
            ..Case::default()
        };
        let got = case.run_with(|address, _| {
            let strides = tensor.strides();
            TensorMap::im2col(&tensor.arguments(address, &strides, &[1; 4]), &corners).unwrap().encode().to_vec()
        });
        let got = got.unwrap_or_else(|report| panic!("{report}"));

        // All pixels of the box from the first one on.
        let [c, mut w, mut h, mut n] = start;
        let mut values = Vec::new();
        for _ in 0..pixels {
            values.extend((0..8).map(|channel| tensor.at(&[c + channel, w + offsets[0], h + offsets[1], n])));
            w += 1;
            if w > 5 {
                (w, h) = (-1, h + 1);
            }
            if h > 3 {
                (h, n) = (-1, n + 1);
            }
        }

        assert_eq!(got[..bytes / 4], tensor.laid_out(&values)[..], "{start:?}");
    }
}

#[test]
fn what_the_documentation_leaves_open_is_refused() {
    let tensor = Tensor::halves(&[44, 7, 5, 4], 1, 0);
    let declarations = declarations();
    let refused = |start: &[i64], strides: &[u32], extent: &[u32], part: &str| {
        let body = format!(
            "{START} @%p9 mbarrier.expect_tx.shared::cta.b64 [bar], 1024;
             @%p9 cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [tile], [%map, {{{}}}], [bar];",
            list(start)
        );
        let options = completion(Completion::Early);
        let case = Case { body: &body, declarations: &declarations, input: tensor.bytes(), options, ..Case::default() };
        let report = case.run_with(|address, _| {
            let global = tensor.strides();
            TensorMap::tiled(&tensor.arguments(address, &global, strides), extent).unwrap().encode().to_vec()
        });
        let report = report.unwrap_err();
        assert_eq!(report.fault.kind, FaultKind::InvalidUse, "{report}");
        assert!(report.to_string().contains(part), "{report} lacks {part}");
    };

    refused(&[4, 0, 0, 0], &[1; 4], &[8, 2, 2, 1], "cut a slice");
    refused(&[-12, 0, 0, 0], &[1; 4], &[8, 2, 2, 1], "cut a slice");
    refused(&[0, 0, 0, 0], &[1; 4], &[12, 2, 2, 1], "cut a slice");
    refused(&[0, 0, 0, 0], &[2, 1, 1, 1], &[16, 2, 2, 1], "element stride of 2");
}
