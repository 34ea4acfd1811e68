//! Tensor copies: their operands, and what they do with the pieces that a box or an im2col column consists of.

use super::bulk::{Destination, launch_store, read_words};
use super::bytes::check_global;
use super::layout::Layout;
use super::traffic::count_store;
use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::ops::copies::in_flight;
use crate::exec::ops::shared_address;
use crate::exec::program::address::{Address, Space};
use crate::exec::program::reduction::Reduction;
use crate::exec::program::registers::Slot;
use crate::exec::program::step::Flow;
use crate::exec::state::context::Context;
use crate::exec::state::copies::{Copy, From, Piece, Store, StorePiece};
use crate::mask::lanes;
use crate::ptx::form::Form;
use crate::ptx::module::Instruction;
use crate::ptx::opcode::Modifier;
use crate::ptx::operand::Operand;
use crate::ptx::types::{ScalarType, StateSpace};
use crate::report::{Fault, FaultKind};
use crate::tensor_map::{Element, Kind, MAX_RANK, TensorMap};

/// Alignment of what a tensor copy reads or writes in shared memory.
const ALIGN: u64 = 128;

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let o = &instruction.operands;
    let has = |modifier| form.has(modifier);

    // The tensor operand: a tensor map and as many coordinates as the tensor has dimensions.
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

    // Shared -> global.
    if stores {
        let from = decoder.address(&o[1], Some(StateSpace::SharedCta))?;
        let reduces = has(Modifier::Reduce);
        let form = std::sync::Arc::clone(&instruction.form);
        return Ok(Decoded::effect(move |context, mask| {
            let sources = context.addresses(&from);
            let maps = context.addresses(&access.map);
            let mut before = None;
            for lane in lanes(mask) {
                let reduction = if reduces { Some(&*form) } else { None };
                let store = prepared(context, &access, lane, from.space, sources[lane], reduction)?;
                // The machine's instruction is a warp's, and moves once what all of its lanes ask for.
                let asked = (maps[lane], sources[lane], access.values(context, lane));
                if reduces || before.replace(asked) != Some(asked) {
                    count_store(context, &store);
                }
                launch_store(context, lane, store)?;
            }
            Ok(Flow::Next)
        }));
    }

    // Global -> shared: im2col offsets, then the mask of a multicast.
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
        lanes(mask).try_for_each(|lane| load(context, &access, lane, &destination))?;
        Ok(Flow::Next)
    }))
}

/// One lane's copy from shared to global memory; `reduction`: the form of a `cp.reduce`.
///
/// # Errors
/// Bounds, fences, and what a tensor map must be.
fn prepared(
    context: &mut Context<'_>,
    access: &Access,
    lane: usize,
    space: Space,
    source: u64,
    reduction: Option<&Form>,
) -> Result<Store, Fault> {
    let map = access.map(context, lane)?;
    let reduction = match reduction {
        None => None,
        Some(form) => Some(Reduction::of_elements(form, map.element).ok_or_else(|| {
            let message = format!("this reduction of elements of type {:?}", map.element);
            Fault::new(FaultKind::InvalidUse, message).lane(lane)
        })?),
    };

    // The source, which a proxy fence must have made visible.
    let layout = access.layout(context, lane, &map)?;
    let place = shared_address::shared(context, space, lane, source, layout.room(&map), ALIGN)?;
    if place.rank != context.rank {
        let message = "a tensor copy reads the shared memory of its own block only";
        return Err(Fault::new(FaultKind::InvalidUse, message).lane(lane).at(source));
    }
    super::check_fenced(context, lane, place, layout.bytes())?;

    // The pieces inside the tensor.
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
    Ok(Store { pieces, reduction })
}

/// One lane's copy from global memory to shared memory of one or more blocks.
///
/// # Errors
/// As [`prepared`], and what an mbarrier must be.
fn load(context: &mut Context<'_>, access: &Access, lane: usize, destination: &Destination) -> Result<(), Fault> {
    let map = access.map(context, lane)?;
    let layout = access.layout(context, lane, &map)?;
    let places = destination.places(context, lane, layout.room(&map), ALIGN)?;
    let (coordinates, offsets) = access.values(context, lane);
    let fill = fill(&map);

    for (index, (to, mbarrier)) in places.into_iter().enumerate() {
        // What lies outside the tensor is filled.
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
        super::check_overwritten(context, lane, to.rank, &copy)?;
        super::traffic::count_copy(context, &copy, index != 0);
        in_flight::launch(context, mbarrier, copy).map_err(|fault| fault.lane(lane))?;
    }
    Ok(())
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
        Ok(map)
    }

    /// The shape of a copy through `map`.
    ///
    /// # Errors
    /// `InvalidUse` where the public documentation does not say what the copy would do: see [`Layout::new`].
    fn layout(&self, context: &Context<'_>, lane: usize, map: &TensorMap) -> Result<Layout, Fault> {
        let first = context.warp.registers.get_lane::<i32>(self.coordinates[0], lane);
        Layout::new(map, first.into()).map_err(|why| Fault::new(FaultKind::InvalidUse, why).lane(lane))
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
