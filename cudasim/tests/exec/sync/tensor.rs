//! Tensor copies, element by element against the ISA's description.

use super::{Case, completion, every_way};
use cudasim::options::{Completion, Options};
use cudasim::report::FaultKind;
use cudasim::tensor_map::{Arguments, Im2colArguments, TensorMap};

/// Bytes of the tile in shared memory.
pub const TILE: usize = 8192;

/// The tile, its mbarrier and what addresses them.
pub fn declarations() -> String {
    format!(".shared .align 1024 .b8 tile[{TILE}]; .shared .align 8 .b64 bar; .reg .b64 %map; .reg .b32 %to;")
}

/// What makes the mbarrier, and `%map` and `%p9` (thread 0).
pub const START: &str = "mov.b64 %map, map; cvta.param.u64 %map, %map; setp.eq.u32 %p9, %thread, 0;
    @%p9 mbarrier.init.shared::cta.b64 [bar], 1; @%p9 fence.proxy.async; bar.sync 0; mov.b16 %h0, 0;\n";
/// Until the copy is complete.
pub const WAIT: &str = "W: mbarrier.try_wait.parity.shared::cta.b64 %p0, [bar], 0; @!%p0 bra W;\n";

/// Writes `bytes` of the tile to `%out`.
pub fn dump(bytes: usize) -> String {
    format!(
        "mov.u32 %r0, tile; mov.u32 %r1, %thread;
         D: setp.ge.u32 %p1, %r1, {}; @%p1 bra E;
         mad.lo.u32 %r2, %r1, 4, %r0; ld.shared.u32 %r3, [%r2]; mad.wide.u32 %rd0, %r1, 4, %out; st.global.u32 [%rd0], %r3;
         add.u32 %r1, %r1, 32; bra D; E:",
        bytes / 4
    )
}

/// A tensor of u16 (or of f32) whose elements say where they are.
#[derive(Clone)]
struct Tensor {
    dims: Vec<u64>,
    strides: Vec<u64>,
    swizzle: u32,
    fill: u32,
    element_strides: Vec<u32>,
}

impl Tensor {
    fn new(dims: &[u64], swizzle: u32) -> Self {
        let mut strides = vec![(dims[0] * 2).next_multiple_of(16) + 16];
        for axis in 1..dims.len() {
            strides.push(strides[axis - 1] * dims[axis] + 32);
        }
        Self { dims: dims.to_vec(), strides, swizzle, fill: 0, element_strides: vec![1; dims.len()] }
    }

    fn bytes(&self) -> Vec<u8> {
        let size = *self.strides.last().unwrap() as usize;
        (0..size / 2).flat_map(|index| (index as u16).wrapping_mul(7).wrapping_add(3).to_le_bytes()).collect()
    }

    /// The element at coordinates; what is outside.
    fn at(&self, coordinates: &[i64]) -> u16 {
        let outside = if self.fill == 1 { 0x7fff } else { 0 };
        if coordinates.iter().zip(&self.dims).any(|(&x, &size)| x < 0 || x >= size as i64) {
            return outside;
        }
        let mut offset = coordinates[0] as u64 * 2;
        for (x, stride) in coordinates[1..].iter().zip(&self.strides) {
            offset += *x as u64 * stride;
        }
        ((offset / 2) as u16).wrapping_mul(7).wrapping_add(3)
    }

    fn arguments(&self, address: u64) -> Arguments<'_> {
        Arguments {
            element: 6,
            rank: self.dims.len() as u32,
            address,
            dims: &self.dims,
            strides: &self.strides[..self.dims.len() - 1],
            element_strides: &self.element_strides,
            interleave: 0,
            swizzle: self.swizzle,
            l2_promotion: 0,
            fill: self.fill,
        }
    }
}

/// Where the ISA's tables put byte `offset` of a tile at a multiple of 1024.
pub fn swizzled(swizzle: u32, offset: usize) -> usize {
    let (row, piece, byte) = (offset / 128 % 8, offset / 16 % 8, offset % 16);
    let moved = match swizzle {
        0 => piece,
        1 => piece ^ (row % 2),
        2 => piece ^ (row % 4),
        _ => piece ^ row,
    };
    offset / 128 * 128 + moved * 16 + byte
}

/// Puts elements, in the order of the box, where they lie in shared memory.
fn laid_out(swizzle: u32, elements: &[u16]) -> Vec<u32> {
    let mut bytes = vec![0; (elements.len() * 2).next_multiple_of(128)];
    for (index, element) in elements.iter().enumerate() {
        for (half, byte) in element.to_le_bytes().into_iter().enumerate() {
            bytes[swizzled(swizzle, index * 2 + half)] = byte;
        }
    }
    super::words(&bytes[..elements.len() * 2])
}

/// Loads an im2col column of `bytes` from `start` on with these offsets, and dumps it.
pub fn load_im2col(start: &[i64], offsets: [i64; 2], bytes: usize) -> String {
    format!(
        "{START} mov.u16 %h0, {}; mov.u16 %h1, {}; @%p9 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], {bytes};
         @%p9 cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [tile], [%map, {{{}}}], [bar], {{%h0, %h1}};
         {WAIT}{}",
        offsets[0],
        offsets[1],
        list(start),
        dump(bytes)
    )
}

pub fn list<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn load(tensor: &Tensor, extent: &[u32], coordinates: &[i64], options: Options) -> Vec<u32> {
    let counts: Vec<usize> =
        (0..extent.len())
            .map(|axis| {
                if axis == 0 {
                    extent[0] as usize
                } else {
                    extent[axis].div_ceil(tensor.element_strides[axis]) as usize
                }
            })
            .collect();

    let bytes = counts.iter().product::<usize>() * 2;
    let rank = extent.len();
    let body = format!(
        "{START} @%p9 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], {bytes};
         @%p9 cp.async.bulk.tensor.{rank}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [tile], [%map, {{{}}}], [bar];
         {WAIT}{}",
        list(coordinates),
        dump(bytes)
    );

    let declarations = declarations();
    let case = Case {
        body: &body,
        declarations: &declarations,
        input: tensor.bytes(),
        output: vec![0; bytes],
        options,
        ..Case::default()
    };
    let got = case
        .run_with(|address, _| TensorMap::tiled(&tensor.arguments(address), extent).unwrap().encode().to_vec())
        .unwrap_or_else(|report| panic!("{report}"));

    let mut elements = Vec::new();
    for index in 0..counts.iter().product::<usize>() {
        let mut rest = index;
        let place: Vec<i64> = (0..rank)
            .map(|axis| {
                let step = if axis == 0 { 1 } else { i64::from(tensor.element_strides[axis]) };
                let x = coordinates[axis] + (rest % counts[axis]) as i64 * step;
                rest /= counts[axis];
                x
            })
            .collect();
        elements.push(tensor.at(&place));
    }
    assert_eq!(got[..bytes / 4], laid_out(tensor.swizzle, &elements)[..], "{extent:?} at {coordinates:?}");
    got
}

#[test]
fn boxes_of_every_rank_and_swizzle() {
    for swizzle in 0..4 {
        let inner = [64, 16, 32, 64][swizzle as usize];
        let tensor = |dims: &[u64]| Tensor::new(dims, swizzle);
        load(&tensor(&[200]), &[inner], &[8], Options::default());
        load(&tensor(&[100, 40]), &[inner, 16], &[24, 3], Options::default());
        load(&tensor(&[70, 9, 6]), &[inner, 4, 5], &[0, 2, 1], Options::default());
        load(&tensor(&[70, 5, 4, 6]), &[inner, 2, 3, 4], &[5, 1, 1, 2], Options::default());
        load(&tensor(&[70, 4, 3, 3, 4]), &[inner, 2, 2, 3, 2], &[6, 1, 1, 0, 2], Options::default());
    }
    for options in every_way() {
        load(&Tensor::new(&[100, 40], 3), &[64, 32], &[8, 4], options);
    }
}

#[test]
fn what_is_outside_is_filled() {
    for fill in 0..2 {
        let tensor = Tensor { fill, ..Tensor::new(&[50, 10, 4], 2) };
        for coordinates in [[-3, -2, -1], [40, 6, 2], [-40, 0, 0], [60, 0, 0], [1, 11, 0], [0, 0, -9]] {
            load(&tensor, &[32, 8, 3], &coordinates, Options::default());
        }
    }
}

#[test]
fn element_strides_thin_a_box_out() {
    let tensor = Tensor { element_strides: vec![1, 3, 2], ..Tensor::new(&[40, 20, 12], 1) };
    load(&tensor, &[16, 8, 5], &[3, 2, 1], Options::default());
    load(&tensor, &[16, 9, 6], &[30, 14, 7], Options::default());
}

#[test]
fn im2col_takes_the_pixels_of_a_bounding_box_with_offsets() {
    // C, W, H, N; a filter of 3 by 3 with padding 1, so the box is one pixel larger than the image where the filter starts.
    let tensor = Tensor::new(&[40, 7, 5, 3], 2);
    for (start, offsets, strides) in [
        ([8, -1, -1, 0], [0, 0], [1, 1, 1, 1]),
        ([0, 2, 3, 1], [2, 1], [1, 1, 1, 1]),
        ([16, -1, 1, 2], [1, 2], [1, 2, 2, 1]),
    ] {
        let tensor = Tensor { element_strides: strides.to_vec(), ..tensor.clone() };
        let (channels, pixels) = (32, 48);
        let corners = Im2colArguments { lower: &[-1, -1], upper: &[-1, -1], channels, pixels };
        let bytes = (channels * pixels * 2) as usize;
        let body = load_im2col(&start, offsets, bytes);
        let declarations = declarations();
        let case = Case {
            body: &body,
            declarations: &declarations,
            input: tensor.bytes(),
            output: vec![0; bytes],
            ..Case::default()
        };

        let got = case
            .run_with(|address, _| TensorMap::im2col(&tensor.arguments(address), &corners).unwrap().encode().to_vec());
        let got = got.unwrap_or_else(|report| panic!("{report}"));

        // All pixels of the box in the order of N, H, W, from the first one on.
        let (sw, sh) = (i64::from(strides[1]), i64::from(strides[2]));
        let mut elements = Vec::new();
        let (mut w, mut h, mut n) = (start[1], start[2], start[3]);
        for _ in 0..pixels {
            for c in 0..i64::from(channels) {
                elements.push(tensor.at(&[start[0] + c, w + offsets[0], h + offsets[1], n]));
            }
            w += sw;
            if w > 7 - 1 - 1 {
                w = -1;
                h += sh;
            }
            if h > 5 - 1 - 1 {
                h = -1;
                n += 1;
            }
        }

        assert_eq!(got[..bytes / 4], laid_out(2, &elements)[..], "{start:?}");
    }
}

/// Fills the tile with values that say where they are, in the order of the box.
fn fill_tile(swizzle: u32, elements: usize) -> String {
    let values: Vec<u16> = (0..elements as u16).map(|index| index * 3 + 1).collect();
    let words = laid_out(swizzle, &values);
    let mut text = String::from("mov.u32 %r0, tile;\n");
    for (index, word) in words.iter().enumerate() {
        text += &format!("@%p9 st.shared.u32 [tile+{}], {word};\n", index * 4);
    }
    text
}

fn store_case(
    tensor: &Tensor,
    extent: &[u32],
    coordinates: &[i64],
    how: &str,
    options: Options,
) -> (String, Vec<u8>, Options) {
    let elements = extent.iter().product::<u32>() as usize;
    let body = format!(
        "{START}{} @%p9 fence.proxy.async.shared::cta; bar.sync 0;
         @%p9 cp.{how} [%map, {{{}}}], [tile]; @%p9 cp.async.bulk.commit_group; @%p9 cp.async.bulk.wait_group 0;",
        fill_tile(tensor.swizzle, elements),
        list(coordinates)
    );
    (body, tensor.bytes(), options)
}

#[test]
fn boxes_are_stored_and_reduced_and_what_is_outside_is_dropped() {
    let tensor = Tensor::new(&[50, 10], 3);
    for (how, reduces) in [
        ("async.bulk.tensor.2d.global.shared::cta.tile.bulk_group", false),
        ("async.bulk.tensor.2d.global.shared::cta.bulk_group", false),
        ("reduce.async.bulk.tensor.2d.global.shared::cta.max.tile.bulk_group", true),
    ] {
        for (coordinates, options) in [[0, 0], [-5, 6], [30, -3], [8, 2]].into_iter().zip(every_way().step_by(15)) {
            let (body, output, options) = store_case(&tensor, &[64, 8], &coordinates, how, options);
            let declarations = declarations();
            let case =
                Case { body: &body, declarations: &declarations, output: output.clone(), options, ..Case::default() };
            let got = case.run_with(|_, address| {
                TensorMap::tiled(&tensor.arguments(address), &[64, 8]).unwrap().encode().to_vec()
            });
            let got = super::bytes(&got.unwrap_or_else(|report| panic!("{report}")));
            let mut expected = output;
            for index in 0..512_i64 {
                let (x, y) = (coordinates[0] + index % 64, coordinates[1] + index / 64);
                if (0..50).contains(&x) && (0..10).contains(&y) {
                    let at = (y as u64 * tensor.strides[0]) as usize + x as usize * 2;
                    let old = u16::from_le_bytes([expected[at], expected[at + 1]]);
                    let new = (index * 3 + 1) as u16;
                    // Of f16; these are positive numbers below infinity, which order as their bits.
                    let value = if reduces && old & 0x8000 == 0 && old > new && old <= 0x7c00 { old } else { new };
                    let negative = reduces && old & 0x8000 != 0 && old & 0x7fff <= 0x7c00;
                    let value = if negative { new } else { value };
                    expected[at..at + 2].copy_from_slice(&value.to_le_bytes());
                }
            }
            assert_eq!(got[..expected.len() / 4 * 4], expected[..expected.len() / 4 * 4], "{how} at {coordinates:?}");
        }
    }
}

#[test]
fn tensor_maps_are_replaced_field_by_field() {
    // The map lies in global memory: the input, whose first 128 bytes it is; the tensor is behind it.
    let tensor = Tensor::new(&[64, 8], 0);
    let body = |fence: &str| {
        format!(
            "{START} add.u64 %rd1, %in, 128; 
             @%p9 tensormap.replace.tile.global_address.global.b1024.b64 [%in], %rd1;
             @%p9 tensormap.replace.tile.global_dim.global.b1024.b32 [%in], 1, 4;
             {fence}
             @%p9 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 1024;
             @%p9 cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [tile], [%in, {{0, 0}}], [bar];
             {WAIT}{}",
            dump(1024)
        )
    };

    let map = TensorMap::tiled(&tensor.arguments(0), &[64, 8]).unwrap();
    let input = [map.encode().to_vec(), tensor.bytes()].concat();
    let declarations = declarations();
    let good = body(
        "@%p9 fence.proxy.tensormap::generic.release.gpu; @%p9 fence.proxy.tensormap::generic.acquire.gpu [%in], 128;",
    );

    let case = Case { body: &good, declarations: &declarations, input, output: vec![0; 1024], ..Case::default() };
    let got = case.run().unwrap_or_else(|report| panic!("{report}"));
    let elements: Vec<u16> =
        (0..512).map(|index| if index < 256 { tensor.at(&[index % 64, index / 64]) } else { 0 }).collect();
    assert_eq!(got, laid_out(0, &elements));
    Case { body: &body(""), input: case.input.clone(), ..Case { declarations: &declarations, ..Case::default() } }
        .fails(FaultKind::MissingFence, "tensormap");
}

#[test]
fn a_map_made_in_shared_memory_is_copied_by_a_warp_with_a_fence() {
    // As grouped products do it: a template is copied to shared memory and changed there by one thread, then by a warp to
    // where the map of this group lies, which is the output's first 128 bytes.
    let tensor = Tensor::new(&[64, 8], 0);
    let declarations = declarations() + ".shared .align 128 .b8 made[128]; .reg .b64 %v; .reg .b32 %made;";
    let body = |copy: &str, acquire: &str| {
        format!(
            "{START} mov.u32 %made, made;
             setp.lt.u32 %p8, %thread, 16; mul.lo.u32 %r20, %thread, 8; add.u32 %r21, %made, %r20;
             cvt.u64.u32 %rd20, %r20; add.u64 %rd20, %in, %rd20;
             @%p8 ld.global.u64 %v, [%rd20]; @%p8 st.shared.u64 [%r21], %v; bar.sync 0;
             add.u64 %rd1, %in, 128;
             @%p9 tensormap.replace.tile.global_address.shared::cta.b1024.b64 [%made], %rd1;
             @%p9 tensormap.replace.tile.rank.shared::cta.b1024.b32 [%made], 1;
             @%p9 tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [%made], 0, 64;
             @%p9 tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [%made], 1, 3;
             @%p9 tensormap.replace.tile.global_stride.shared::cta.b1024.b64 [%made], 0, {};
             bar.warp.sync 0xffffffff; {copy} {acquire}
             @%p9 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 1024;
             @%p9 cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [tile], [%out, {{0, 0}}], [bar];
             {WAIT} add.u64 %out, %out, 128; {}",
            tensor.strides[0],
            dump(1024)
        )
    };

    // The template has another shape.
    let template = TensorMap::tiled(&Tensor::new(&[32, 2], 0).arguments(0), &[64, 8]).unwrap();
    let input = [template.encode().to_vec(), tensor.bytes()].concat();
    let copy =
        "tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%out], [%made], 128;";
    let acquire = "@%p9 fence.proxy.tensormap::generic.acquire.gpu [%out], 128;";
    let case = |body: &str, options| {
        let case = Case { body, declarations: &declarations, input: input.clone(), options, ..Case::default() };
        Case { output: vec![0; 1152], ..case }.run()
    };

    let elements: Vec<u16> =
        (0..512).map(|index| if index < 192 { tensor.at(&[index % 64, index / 64]) } else { 0 }).collect();
    for options in every_way() {
        let got = case(&body(copy, acquire), options.clone()).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(got[32..], laid_out(0, &elements));
        let unfenced = case(&body(copy, ""), options).unwrap_err();
        assert_eq!(unfenced.fault.kind, FaultKind::MissingFence, "{unfenced}");
    }
    let options = completion(Completion::Late);
    let some = case(&body(&format!("@%p9 {copy}"), acquire), options.clone()).unwrap_err();
    assert_eq!(some.fault.kind, FaultKind::DivergentBarrier, "{some}");
    let odd = case(&body(&copy.replace("[%made]", "[%made+64]"), acquire), options).unwrap_err();
    assert_eq!(odd.fault.kind, FaultKind::Misaligned, "{odd}");
}

#[test]
fn a_tensor_copy_over_ordinary_stores_needs_a_fence() {
    let tensor = Tensor::new(&[64, 8], 3);
    let declarations = declarations();

    // One word, in the last row.
    let body = |fence: &str| {
        format!(
            "{START} @%p9 st.shared.u32 [tile+1020], 5; {fence} bar.sync 0;
             @%p9 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 1024;
             @%p9 cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [tile], [%map, {{0, 0}}], [bar];
             {WAIT}"
        )
    };

    let map = |address| TensorMap::tiled(&tensor.arguments(address), &[64, 8]).unwrap().encode().to_vec();
    for options in every_way() {
        let run = |body: &str| {
            let options = options.clone();
            Case { body, declarations: &declarations, input: tensor.bytes(), options, ..Case::default() }
                .run_with(|address, _| map(address))
        };
        assert!(run(&body("@%p9 fence.proxy.async;")).is_ok());
        let report = run(&body("")).unwrap_err();
        assert_eq!(report.fault.kind, FaultKind::MissingFence, "{report}");
        assert!(report.to_string().contains("byte 1020 of shared tile"), "{report}");
    }
}

#[test]
fn wrong_tensor_copies_are_reported() {
    let tensor = Tensor::new(&[64, 8], 3);
    let declarations = declarations();
    let check = |copy: &str, map: &dyn Fn(u64) -> Vec<u8>, kind, part: &str| {
        let body = format!("{START} @%p9 mbarrier.expect_tx.shared::cta.b64 [bar], 1024; @%p9 {copy}");
        let case = Case {
            body: &body,
            declarations: &declarations,
            input: tensor.bytes(),
            options: completion(Completion::Early),
            ..Case::default()
        };
        let report = case.run_with(|address, _| map(address)).unwrap_err();
        assert_eq!(report.fault.kind, kind, "{report}");
        assert!(report.to_string().contains(part), "{report} lacks {part}");
    };

    let right = |address| TensorMap::tiled(&tensor.arguments(address), &[64, 8]).unwrap().encode().to_vec();
    let load = "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [tile], [%map, {0, 0}], [bar];";
    check(load, &|_| vec![0; 128], FaultKind::InvalidUse, "not a tensor map");
    check(&load.replace("[tile]", "[tile+64]"), &right, FaultKind::Misaligned, "128");
    check(&load.replace("[%map,", "[%map+8,"), &right, FaultKind::Misaligned, "64");
    check(&load.replace("2d", "3d").replace("{0, 0}", "{0, 0, 0}"), &right, FaultKind::InvalidUse, "rank 2");
    check(load, &|address| right(address + (1 << 20)), FaultKind::OutOfBounds, "no allocation");
    let im2col = "cp.async.bulk.tensor.3d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [tile], [%map, {0, 0, 0}], [bar], {%h0};";
    let three = Tensor::new(&[64, 4, 4], 3);
    let tiled = |address| TensorMap::tiled(&three.arguments(address), &[64, 2, 2]).unwrap().encode().to_vec();
    check(im2col, &tiled, FaultKind::InvalidUse, "im2col");
}
