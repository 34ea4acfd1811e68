//! What lanes of a warp say to one another: `shfl`, `vote`, `match`, `redux`, `elect`, `activemask`.

use crate::exec::decode::{Decode, Decoder};
use crate::ptx::module::Instruction;

pub(super) fn decode(_decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    Err(super::unsupported(instruction))
}
