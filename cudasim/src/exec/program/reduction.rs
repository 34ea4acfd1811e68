//! The reductions of bulk and tensor copies and of `red.async`.

use crate::numerics::fp16x2::{self, Half};
use crate::numerics::minmax::{self, Select};
use crate::numerics::{Mode, Rounding, rounding};
use crate::ptx::form::Form;
use crate::ptx::opcode::Modifier;
use crate::ptx::types::ScalarType;
use crate::tensor_map::Element;

/// An operation over words of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reduction {
    op: Op,
    ty: ScalarType,
}

/// What it does with the old value and the operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    And,
    Or,
    Xor,
    Add,
    Inc,
    Dec,
    Min,
    Max,
}

impl Reduction {
    /// That of an instruction with one of `.and` to `.max`, of elements of type `ty`; `None` for an operation that the type
    /// does not have.
    pub fn new(form: &Form, ty: ScalarType) -> Option<Self> {
        use ScalarType::*;
        let ops = [
            (Modifier::And, Op::And),
            (Modifier::Or, Op::Or),
            (Modifier::Xor, Op::Xor),
            (Modifier::Add, Op::Add),
            (Modifier::Inc, Op::Inc),
            (Modifier::Dec, Op::Dec),
            (Modifier::Min, Op::Min),
            (Modifier::Max, Op::Max),
        ];

        let op = ops.into_iter().find(|(modifier, _)| form.has(*modifier))?.1;
        let fits = match op {
            Op::And | Op::Or | Op::Xor => matches!(ty, B32 | B64 | U32 | S32 | U64 | S64),
            Op::Add => matches!(ty, U32 | S32 | U64 | S64 | F16 | Bf16 | F32 | F64),
            Op::Inc | Op::Dec => ty == U32,
            Op::Min | Op::Max => matches!(ty, U32 | S32 | U64 | S64 | F16 | Bf16),
        };

        fits.then_some(Self { op, ty })
    }

    /// The same operation on the elements of a tensor.
    pub fn of_elements(form: &Form, element: Element) -> Option<Self> {
        let ty = match element {
            Element::U8 | Element::U16 => return None,
            Element::U32 => ScalarType::U32,
            Element::S32 => ScalarType::S32,
            Element::U64 => ScalarType::U64,
            Element::S64 => ScalarType::S64,
            Element::F16 => ScalarType::F16,
            Element::Bf16 => ScalarType::Bf16,
            Element::F64 => ScalarType::F64,
            Element::F32 | Element::F32Ftz | Element::Tf32 | Element::Tf32Ftz => ScalarType::F32,
        };
        Self::new(form, ty)
    }

    /// Bytes of a word.
    pub fn width(self) -> usize {
        self.ty.bytes() as usize
    }

    /// The new value, from the old one and the operand; zero-extended.
    pub fn apply(self, old: u64, operand: u64) -> u64 {
        use ScalarType::*;
        let (a, b) = (old as u32, operand as u32);
        let mask = if self.ty.bits() == 64 { u64::MAX } else { (1 << self.ty.bits()) - 1 };
        let select = |max| if max { Select::MAX } else { Select::MIN };
        let half = Half { ftz: false, ..Half::default() };

        let value = match (self.op, self.ty) {
            (Op::And, _) => old & operand,
            (Op::Or, _) => old | operand,
            (Op::Xor, _) => old ^ operand,
            (Op::Inc, _) => u64::from(if a >= b { 0 } else { a + 1 }),
            (Op::Dec, _) => u64::from(if a == 0 || a > b { b } else { a - 1 }),
            (Op::Add, F32) => rounding::add_f32(Mode::RN, f32::from_bits(a), f32::from_bits(b)).to_bits().into(),
            (Op::Add, F64) => rounding::add_f64(Rounding::Rn, f64::from_bits(old), f64::from_bits(operand)).to_bits(),
            (Op::Add, F16) => fp16x2::add_f16(half, a as u16, b as u16).into(),
            (Op::Add, Bf16) => fp16x2::add_bf16(a as u16, b as u16).into(),
            (Op::Add, _) => old.wrapping_add(operand),
            (op, F16) => minmax::select_f16(select(op == Op::Max), a as u16, b as u16).into(),
            (op, Bf16) => minmax::select_bf16(select(op == Op::Max), a as u16, b as u16).into(),
            (Op::Min, S32) => u64::from((a as i32).min(b as i32) as u32),
            (_, S32) => u64::from((a as i32).max(b as i32) as u32),
            (Op::Min, S64) => (old as i64).min(operand as i64) as u64,
            (_, S64) => (old as i64).max(operand as i64) as u64,
            (Op::Min, _) => old.min(operand),
            _ => old.max(operand),
        };

        value & mask
    }

    /// Reduces into bytes, word by word.
    pub fn into_bytes(self, into: &mut [u8], from: &[u8]) {
        let width = self.width();
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |word, &byte| word << 8 | u64::from(byte));
        for (old, operand) in into.chunks_exact_mut(width).zip(from.chunks_exact(width)) {
            let new = self.apply(word(old), word(operand));
            old.copy_from_slice(&new.to_le_bytes()[..width]);
        }
    }
}
