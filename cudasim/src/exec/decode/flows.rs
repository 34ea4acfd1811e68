//! What each instruction reads and writes, and how a lack of values travels through it.

use crate::exec::operands::decoder::Decoder;
use crate::exec::program::definedness::Place;
use crate::exec::program::flow::{DataFlow, Rule};
use crate::exec::program::fragments::Fragments;
use crate::ptx::Access;
use crate::ptx::form::Form;
use crate::ptx::module::{Instruction, RegisterId};
use crate::ptx::opcode::{Modifier, Opcode};
use crate::ptx::operand::{AddressBase, Operand};
use crate::ptx::types::ScalarType;

/// What an instruction does to registers.
pub(super) struct Facts {
    pub(super) guard: Option<RegisterId>,
    /// Data.
    pub(super) reads: Vec<RegisterId>,
    /// Addresses.
    pub(super) addresses: Vec<RegisterId>,
    pub(super) writes: Vec<RegisterId>,
    pub(super) rule: Rule,
}

impl Facts {
    /// `computes`: it only reads and writes registers.
    pub(super) fn new(instruction: &Instruction, computes: bool) -> Self {
        let form = &instruction.form;
        let mut facts = Self {
            guard: instruction.guard.map(|guard| guard.register),
            reads: Vec::new(),
            addresses: Vec::new(),
            writes: Vec::new(),
            rule: rule(form, computes),
        };

        for (operand, rule) in instruction.operands.iter().zip(instruction.rules()) {
            match rule.access {
                Access::Write => facts.visit(operand, true),
                // The accumulators of wgmma are not read where its scale is 0.
                Access::ReadWrite if form.opcode == Opcode::Wgmma => facts.visit(operand, true),
                Access::ReadWrite => {
                    facts.visit(operand, false);
                    facts.visit(operand, true);
                }
                Access::Read => facts.visit(operand, false),
            }
        }

        // Whose value, from which lane: the first operand is handed on, the others count.
        if form.opcode == Opcode::Shfl && facts.reads.len() > 1 {
            let data = matches!(instruction.operands.get(1), Some(Operand::Register(_)));
            facts.addresses.extend(facts.reads.drain(usize::from(data)..));
        }
        facts
    }

    /// Every register that it reads.
    pub(super) fn all_reads(&self) -> impl Iterator<Item = &RegisterId> {
        self.reads.iter().chain(&self.addresses).chain(&self.guard)
    }

    /// Whether a lack of its data becomes one of its results, and is not reported.
    pub(super) fn hands_on(&self) -> bool {
        self.rule != Rule::Counts
    }

    fn visit(&mut self, operand: &Operand, write: bool) {
        let place = if write { &mut self.writes } else { &mut self.reads };
        match operand {
            Operand::Register(register) | Operand::Not(register) | Operand::Part(register, _) => place.push(*register),
            Operand::Pair(a, b) => place.extend(a.iter().chain(b)),
            Operand::Vector(elements) | Operand::List(elements) => {
                elements.iter().for_each(|element| self.visit(element, write));
            }
            Operand::Address(address) | Operand::Tensor(address, _) => {
                if let AddressBase::Register(register) = address.base {
                    self.addresses.push(register);
                }
                if let Operand::Tensor(_, coordinates) = operand {
                    coordinates.iter().for_each(|coordinate| self.visit(coordinate, false));
                }
            }
            _ => {}
        }
    }

    /// The same with slots, for the function that is being decoded.
    pub(super) fn flow(&self, decoder: &Decoder<'_>, form: &Form) -> DataFlow {
        let places = |registers: &[RegisterId]| registers.iter().flat_map(|&id| places(decoder, id)).collect();
        let carry = |opcodes: &[Opcode]| opcodes.contains(&form.opcode);
        let mut reads: Box<[Place]> = places(&self.reads);
        if form.opcode == Opcode::St {
            // Of a register that is wider than what is stored only the low bits count.
            let bits = form.types.first().map_or(64, |ty| ty.bits());
            reads.iter_mut().for_each(|place| place.bits = place.bits.min(bits));
        }
        DataFlow {
            guard: self.guard.and_then(|guard| places_of(decoder, guard)),
            reads,
            addresses: places(&self.addresses),
            writes: places(&self.writes),
            rule: self.rule,
            takes_carry: carry(&[Opcode::Addc, Opcode::Subc, Opcode::Madc]),
            leaves_carry: form.has(Modifier::Cc),
            computes: None,
        }
    }
}

fn places_of(decoder: &Decoder<'_>, id: RegisterId) -> Option<Place> {
    places(decoder, id).next()
}

/// Where a register lies: in two places, where it has 128 bits.
pub(super) fn places(decoder: &Decoder<'_>, id: RegisterId) -> impl Iterator<Item = Place> {
    let ty = decoder.body().register_type(id).unwrap_or(ScalarType::B32);
    let slot = decoder.slot_of(id);
    let bits = if ty == ScalarType::Pred { 1 } else { ty.bits().min(64) };
    let count = if ty.bits() > 64 { 2 } else { 1 };
    (0..count).map(move |half| Place { slot: slot + 2 * half, bits, register: id })
}

/// How the results of a form depend on its operands.
fn rule(form: &Form, computes: bool) -> Rule {
    use Opcode::*;
    let integer = |ty: &ScalarType| !is_float(*ty);
    match form.opcode {
        Ld | Ldu | St if !form.has(Modifier::Async) => Rule::Carries,
        Shfl | Stmatrix => Rule::Carries,
        Mma => Fragments::of(form).map_or(Rule::Counts, Rule::Matrix),
        _ if !computes => Rule::Counts,

        // Bits that move, and arithmetic bit by bit.
        And | Or | Xor | Not | Cnot | Lop3 | Shl | Shr | Shf | Prmt | Bfe | Bfi | Bmsk | Brev | Mov | Selp | Szext => {
            Rule::Tried(1)
        }
        // Of a pair each half comes from an operand or half of its own.
        Cvt => match form.types.as_slice() {
            [d, a, ..] if integer(d) && integer(a) => Rule::Tried(1),
            [d, ..] if is_pair(*d) => Rule::Tried(d.bits() / 2),
            _ => Rule::Whole,
        },

        // Arithmetic of halves, and of integers, whose bits hang on those below them.
        Abs | Neg | Min | Max | Add | Sub | Mul | Fma | Ex2 | Tanh
            if form.types.first().is_some_and(|ty| is_pair(*ty)) =>
        {
            Rule::Halves
        }
        Add | Sub | Mul | Mad | Addc | Subc | Madc
            if !form.has(Modifier::Hi) && !form.has(Modifier::Sat) && form.types.first().is_some_and(integer) =>
        {
            Rule::Upwards
        }
        _ => Rule::Whole,
    }
}

fn is_pair(ty: ScalarType) -> bool {
    use ScalarType::*;
    matches!(ty, U16x2 | S16x2 | F16x2 | Bf16x2 | E4m3x2 | E5m2x2)
}

fn is_float(ty: ScalarType) -> bool {
    use ScalarType::*;
    matches!(ty, F16 | F16x2 | Bf16 | Bf16x2 | Tf32 | F32 | F64 | E4m3 | E5m2 | E4m3x2 | E5m2x2)
}
