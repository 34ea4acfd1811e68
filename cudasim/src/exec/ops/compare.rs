//! `setp`, `set`, `selp`, `slct`, `testp`.

use crate::exec::decode::{Decode, Decoder};
use crate::ptx::module::Instruction;

pub(super) fn decode(_decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    Err(super::unsupported(instruction))
}
