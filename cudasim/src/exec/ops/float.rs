//! Floating-point arithmetic: f32, f64, f16 and bf16, approximations.

use crate::exec::decode::{Decode, Decoder};
use crate::ptx::module::Instruction;

pub(super) fn decode(_decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    Err(super::unsupported(instruction))
}
