//! The registers that the wgmma instructions of a function name.

use std::collections::HashMap;

use crate::exec::program::registers::Slot;
use crate::ptx::opcode::Shape;

/// The registers that wgmma names, by slot, and what else is known of its accumulators.
#[derive(Default)]
pub struct AccumulatorRegisters {
    /// Their numbers.
    pub(in crate::exec) numbers: HashMap<Slot, u32>,
    /// Accumulators and shapes so far.
    pub(in crate::exec) families: Vec<(Vec<Slot>, Shape)>,
    /// Whether the function that is being decoded has any.
    pub(in crate::exec) active: bool,
}
