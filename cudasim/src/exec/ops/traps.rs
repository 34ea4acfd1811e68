//! `trap`, `brkpt`, `nanosleep`, `pmevent`, `setmaxnreg`, and calls of the system: `vprintf`, `__assertfail`.

use crate::exec::decode::{Decode, Decoder};
use crate::ptx::module::Instruction;

pub(super) fn decode(_decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    Err(super::unsupported(instruction))
}

pub(super) fn system_call(name: &str, _arguments: &[(u64, u64)], _results: &[(u64, u64)]) -> Decode {
    Err(format!("a call of {name}, which is only declared and which the system does not have"))
}
