//! What a family makes of an instruction.

use crate::exec::program::registers::Slot;
use crate::exec::program::step::{Compute, Control, Flow, Operands};
use crate::exec::state::context::{Action, Context, Effect};
use crate::mask::Mask;
use crate::report::Fault;

/// What a family makes of an instruction.
pub type Decode = Result<Decoded, String>;

/// A decoded instruction, less its guard.
pub struct Decoded {
    /// What it does.
    pub action: Action,
    /// Operands of [`Action::Compute`].
    pub operands: Operands,
}

impl Decoded {
    /// A loop over lanes.
    pub fn compute(function: Compute, slots: &[Slot], constant: u64) -> Self {
        let mut operands = Operands { constant, ..Operands::default() };
        operands.slots[..slots.len()].copy_from_slice(slots);
        Self { action: Action::Compute(function), operands }
    }

    /// Anything else.
    pub fn effect(effect: impl Fn(&mut Context<'_>, Mask) -> Result<Flow, Fault> + Send + Sync + 'static) -> Self {
        Self { action: Action::Effect(Effect::new(effect)), operands: Operands::default() }
    }
}

impl From<Control> for Decoded {
    fn from(control: Control) -> Self {
        Self { action: Action::Control(control), operands: Operands::default() }
    }
}
