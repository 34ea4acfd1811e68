//! Tensor copies: which bytes of global and of shared memory a box or an im2col column of a tensor is.

use super::bulk::{Destination, Store, StorePiece, launch_store, read_words};
use super::bytes::check_global;
use super::flights::{self, Copy, From, Piece};
use super::reduce::Reduction;
use crate::exec::context::Context;
use crate::exec::decode::{Address, Decode, Decoded, Decoder};
use crate::exec::ops::places;
use crate::exec::registers::{Slot, lanes};
use crate::exec::step::Flow;
use crate::ptx::module::Instruction;
use crate::ptx::opcode::Modifier;
use crate::ptx::operand::Operand;
use crate::ptx::types::{ScalarType, StateSpace};
use crate::report::{Fault, FaultKind};
use crate::tensor_map::{Element, Interleave, Kind, MAX_RANK, TensorMap};

/// Alignment of what a tensor copy reads or writes in shared memory.
const ALIGN: u64 = 128;

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let o = &instruction.operands;
    let has = |modifier| form.has(modifier);
    let dims = [Modifier::D1, Modifier::D2, Modifier::D3, Modifier::D4, Modifier::D5];
    let rank = dims.into_iter().position(&has).ok_or("a tensor copy without its dimensions")? + 1;
    let stores = form.spaces[0] == StateSpace::Global;
    let tensor = &o[if stores { 0 } else { 1 }];
    let Operand::Tensor(_, coordinates) = tensor else { return Err("an operand that is not a tensor".into()) };
    if coordinates.len() != rank {
        return Err(format!("{} coordinates of a tensor of rank {rank}", coordinates.len()));
    }
    let coordinates =
        coordinates.iter().map(|operand| decoder.value(operand, ScalarType::B32)).collect::<Result<Vec<_>, _>>()?;
    let im2col = has(Modifier::Im2col) || has(Modifier::Im2colNoOffs);
    let mut access = Access { map: decoder.address(tensor, None)?, coordinates, im2col, offsets: Vec::new() };
    if stores {
        let from = decoder.address(&o[1], Some(StateSpace::SharedCta))?;
        let reduces = has(Modifier::Reduce);
        let form = std::sync::Arc::clone(&instruction.form);
        return Ok(Decoded::effect(move |context, mask| {
            let sources = context.addresses(&from);
            for lane in lanes(mask) {
                let map = access.map(context, lane)?;
                let reduction = match reduces {
                    false => None,
                    true => Some(Reduction::of_elements(&form, map.element).ok_or_else(|| {
                        let message = format!("this reduction of elements of type {:?}", map.element);
                        Fault::new(FaultKind::InvalidUse, message).lane(lane)
                    })?),
                };
                let layout = Layout::new(&map);
                let place = places::shared(context, from.space, lane, sources[lane], layout.room(&map), ALIGN)?;
                if place.rank != context.rank {
                    let message = "a tensor copy reads the shared memory of its own block only";
                    return Err(Fault::new(FaultKind::InvalidUse, message).lane(lane).at(sources[lane]));
                }
                super::check_fenced(context, lane, place, layout.bytes())?;
                let mut pieces = Vec::new();
                let (coordinates, offsets) = access.values(context, lane);
                layout.visit(&map, &coordinates, &offsets, place.address, |to, from, bytes| {
                    if let Some(address) = from {
                        pieces.push(StorePiece { from: shared_offset(to), to: address, bytes });
                    }
                });
                for piece in &pieces {
                    check_global(context, lane, piece.to, piece.bytes.into())?;
                }
                launch_store(context, lane, Store { pieces, reduction })?;
            }
            Ok(Flow::Next)
        }));
    }
    let mut next = 3;
    if has(Modifier::Im2col) {
        access.offsets = decoder.values(&o[next], ScalarType::B16)?;
        if access.offsets.len() + 2 != rank {
            return Err(format!("{} im2col offsets of a tensor of rank {rank}", access.offsets.len()));
        }
        next += 1;
    }
    let multicast = match has(Modifier::MulticastCluster) {
        true => Some(decoder.value(&o[next], ScalarType::B16)?),
        false => None,
    };
    let to = decoder.address(&o[0], Some(form.spaces[0]))?;
    let mbarrier = decoder.address(&o[2], Some(StateSpace::SharedCluster))?;
    let destination = Destination { to, mbarrier, multicast };
    Ok(Decoded::effect(move |context, mask| {
        for lane in lanes(mask) {
            let map = access.map(context, lane)?;
            let layout = Layout::new(&map);
            let places = destination.places(context, lane, layout.room(&map), ALIGN)?;
            let (coordinates, offsets) = access.values(context, lane);
            let fill = fill(&map);
            for (to, mbarrier) in places {
                let mut pieces = Vec::new();
                layout.visit(&map, &coordinates, &offsets, to.address, |to, from, bytes| {
                    let from = from.map_or(fill, From::Global);
                    pieces.push(Piece { from, to: shared_offset(to), bytes });
                });
                for piece in &pieces {
                    if let From::Global(address) = piece.from {
                        check_global(context, lane, address, piece.bytes.into())?;
                    }
                }
                let bytes = layout.bytes() as u32;
                let flush = matches!(map.element, Element::F32Ftz | Element::Tf32Ftz);
                let copy = Copy { pieces, bytes, reduction: None, flush };
                flights::launch(context, mbarrier, copy).map_err(|fault| fault.lane(lane))?;
            }
        }
        Ok(Flow::Next)
    }))
}

fn shared_offset(address: u64) -> u32 {
    (address - crate::memory::SHARED_RESERVED) as u32
}

/// The tensor operand of an instruction.
struct Access {
    map: Address,
    coordinates: Vec<Slot>,
    im2col: bool,
    offsets: Vec<Slot>,
}

impl Access {
    fn map(&self, context: &mut Context<'_>, lane: usize) -> Result<TensorMap, Fault> {
        let address = context.addresses(&self.map)[lane];
        let invalid = |message: String| Fault::new(FaultKind::InvalidUse, message).lane(lane).at(address);
        if !address.is_multiple_of(64) {
            let message = format!("the tensor map's address {address:#x} is not a multiple of 64");
            return Err(Fault::new(FaultKind::Misaligned, message).lane(lane).at(address));
        }
        if context.blocks[0].state.changed_maps.contains(&address) {
            let message = "a tensor map is used that tensormap.replace has changed, without a \
                           fence.proxy.tensormap::generic.acquire after it";
            return Err(Fault::new(FaultKind::MissingFence, message).lane(lane).at(address));
        }
        let bytes = read_words(context, self.map.space, lane, address)?;
        let map = TensorMap::decode(&bytes).map_err(invalid)?;
        if map.rank as usize != self.coordinates.len() {
            return Err(invalid(format!("a tensor map of rank {} in a copy of {}d", map.rank, self.coordinates.len())));
        }
        if matches!(map.kind, Kind::Im2col { .. }) != self.im2col {
            return Err(invalid("a tiled tensor map in an im2col copy, or the other way round".into()));
        }
        if map.interleave != Interleave::None {
            return Err(invalid("the simulator does not copy interleaved tensors (NC/8HWC8, NC/16HWC16)".into()));
        }
        Ok(map)
    }

    fn values(&self, context: &mut Context<'_>, lane: usize) -> ([i64; MAX_RANK], [i64; 3]) {
        let (mut coordinates, mut offsets) = ([0; MAX_RANK], [0; 3]);
        for (value, &slot) in coordinates.iter_mut().zip(&self.coordinates) {
            *value = context.registers().get_lane::<i32>(slot, lane).into();
        }
        for (value, &slot) in offsets.iter_mut().zip(&self.offsets) {
            *value = context.registers().get_lane::<u16>(slot, lane).into();
        }
        (coordinates, offsets)
    }
}

/// What lies outside the tensor: zeros, or the NaN that arithmetic gives.
fn fill(map: &TensorMap) -> From {
    if !map.nan_fill {
        return From::Value([0; 16]);
    }
    let nan: &[u8] = match map.element.bytes() {
        2 => &[0xff, 0x7f],
        4 => &[0xff, 0xff, 0xff, 0x7f],
        _ => &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
    };
    From::Value(std::array::from_fn(|index| nan[index % nan.len()]))
}

/// A copy's shape in shared memory: rows of the innermost dimension, one behind another.
struct Layout {
    /// Elements of a row.
    row: u64,
    /// Of the other dimensions: how many rows; of im2col only the first, the pixels.
    rows: [u64; MAX_RANK - 1],
    element: u64,
}

impl Layout {
    fn new(map: &TensorMap) -> Self {
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
        Self { row: row.into(), rows, element: map.element.bytes() }
    }

    /// Bytes that are copied, filled ones included.
    fn bytes(&self) -> u64 {
        self.row * self.element * self.rows.iter().product::<u64>()
    }

    /// Bytes of shared memory in which the swizzle moves them about.
    fn room(&self, map: &TensorMap) -> u64 {
        match map.swizzle.span() {
            u64::MAX => self.bytes(),
            span => self.bytes().next_multiple_of(span),
        }
    }

    /// Calls `piece` with the shared address, the global address (`None` outside the tensor) and the length of each piece.
    fn visit(
        &self,
        map: &TensorMap,
        coordinates: &[i64; MAX_RANK],
        offsets: &[i64; 3],
        base: u64,
        mut piece: impl FnMut(u64, Option<u64>, u32),
    ) {
        let mut at = base;
        let mut row = |inside: bool, outer: u64| {
            let first = coordinates[0];
            // Elements of the row before, in and behind the tensor.
            let clamp = |x: i64| x.clamp(0, self.row as i64) as u64;
            let (start, end) = match inside {
                true => (clamp(-first), clamp(map.dims[0] as i64 - first)),
                false => (self.row, self.row),
            };
            let end = end.max(start);
            let address = outer.wrapping_add_signed((first + start as i64) * self.element as i64);
            for (from, elements) in [(None, start), (Some(address), end - start), (None, self.row - end)] {
                let bytes = elements * self.element;
                swizzled(map, at, from, bytes, &mut piece);
                at += bytes;
            }
        };
        match map.kind {
            Kind::Tiled { .. } => {
                let [n1, n2, n3, n4] = self.rows;
                for index in 0..n1 * n2 * n3 * n4 {
                    let indices = [index % n1, index / n1 % n2, index / (n1 * n2) % n3, index / (n1 * n2 * n3)];
                    let (mut inside, mut outer) = (true, map.address);
                    for axis in 1..map.rank as usize {
                        let stride = i64::from(map.element_strides[axis]);
                        let x = coordinates[axis] + indices[axis - 1] as i64 * stride;
                        inside &= (0..map.dims[axis] as i64).contains(&x);
                        outer = outer.wrapping_add_signed(x.wrapping_mul(map.strides[axis - 1] as i64));
                    }
                    row(inside, outer);
                }
            }
            Kind::Im2col { lower, upper, .. } => {
                let pixel = map.rank as usize - 2;
                let mut position = *coordinates;
                for _ in 0..self.rows[0] {
                    let (mut inside, mut outer) = (true, map.address);
                    for axis in 1..=pixel + 1 {
                        let x = position[axis] + if axis <= pixel { offsets[axis - 1] } else { 0 };
                        inside &= (0..map.dims[axis] as i64).contains(&x);
                        outer = outer.wrapping_add_signed(x.wrapping_mul(map.strides[axis - 1] as i64));
                    }
                    row(inside, outer);
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
