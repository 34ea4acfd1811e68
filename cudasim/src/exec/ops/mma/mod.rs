//! `mma`: a warp multiplies matrices that lie in its registers.

mod quads;

use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::ops::matrix_warp::whole_warp;
use crate::exec::program::registers::{Registers, Slot};
use crate::exec::program::step::Flow;
use crate::exec::tensor::fragment::{gather_a, gather_b, gather_c, scatter_d};
use crate::exec::tensor::product::{Accumulators, Columns, Kind, Multiplicands, double};
use crate::numerics::Rounding;
use crate::ptx::form::OperandKind;
use crate::ptx::module::Instruction;
use crate::ptx::opcode::Shape;
use crate::ptx::types::ScalarType;

/// Words of the largest A (m16n8k256 of bits) and B.
const A_WORDS: usize = 16 * 8;
const B_WORDS: usize = 8 * 8;

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let (Some(shape), Some(kind)) = (form.shape, Kind::of(form)) else { return Err(super::unsupported(instruction)) };
    let [d, a, b, c] = instruction.operands.as_slice() else { return Err("mma takes four operands".into()) };
    let ty = |operand: usize| match instruction.rules().get(operand) {
        Some(rule) => match rule.kind {
            OperandKind::Vector { ty, .. } => Ok(ty),
            _ => Err("an operand of mma that is not a fragment"),
        },
        None => Err("an operand of mma without a rule"),
    };
    let d = decoder.targets(d, ty(0)?)?;
    let (a, b, c) = (decoder.values(a, ty(1)?)?, decoder.values(b, ty(2)?)?, decoder.values(c, ty(3)?)?);
    if form.types[1] == ScalarType::F16 && (shape.m, shape.k) == (8, 4) {
        return quads::decode(form, d, a, b, c);
    }
    if let Kind::Double(rounding) = kind {
        return Ok(doubles(rounding, shape, d, a, b, c));
    }
    let words = (shape.k * form.types[1].bits() / 32) as usize;
    let tile = Accumulators { kind, m: shape.m as usize, n: shape.n as usize, words, warpgroup: false, d, c };
    if tile.m * words > A_WORDS || tile.n * words > B_WORDS {
        return Err(super::unsupported(instruction));
    }

    Ok(Decoded::effect(move |context, mask| {
        if whole_warp(context, mask)? == Flow::Wait {
            return Ok(Flow::Wait);
        }
        let sums = context.grid.options.mma;
        let warp = &mut *context.warp;
        let (mut packed_a, mut packed_b) = ([0; A_WORDS], [0; B_WORDS]);
        gather_a(&warp.registers, &a, tile.m, words, &mut packed_a);
        gather_b(&warp.registers, &b, words, &mut packed_b);
        let from = Multiplicands {
            a: &packed_a,
            b: Columns::Whole(&packed_b[..tile.n * words]),
            negate_a: false,
            negate_b: false,
        };
        tile.multiply(&mut warp.registers, &from, false, sums, &mut warp.state.tensor);
        Ok(Flow::Next)
    }))
}

fn doubles(rounding: Rounding, shape: Shape, d: Vec<Slot>, a: Vec<Slot>, b: Vec<Slot>, c: Vec<Slot>) -> Decoded {
    let (m, n, k) = (shape.m as usize, shape.n as usize, shape.k as usize);
    let product = move |registers: &mut Registers| {
        let (mut wide_a, mut wide_b, mut tile) = ([0.0; 16 * 16], [0.0; 8 * 16], [0.0; 16 * 8]);
        gather_a::<f64>(registers, &a, m, k, &mut wide_a);
        gather_b::<f64>(registers, &b, k, &mut wide_b);
        gather_c::<f64>(registers, &c, m, n, &mut tile);
        double(rounding, &mut tile[..m * n], &wide_a, &wide_b, n, k);
        scatter_d(registers, &d, m, n, &tile);
    };
    Decoded::effect(move |context, mask| {
        if whole_warp(context, mask)? == Flow::Wait {
            return Ok(Flow::Wait);
        }
        product(context.registers());
        Ok(Flow::Next)
    })
}
