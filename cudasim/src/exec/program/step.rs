//! A decoded instruction, and what comes of running one.

use crate::exec::program::definedness::Place;
use crate::exec::program::registers::{Predicate, Registers, Slot};
use crate::mask::Mask;
use std::ops::Range;
use std::sync::Arc;

/// An instruction that only reads and writes registers: a loop over lanes, from [`compute!`](crate::exec::program::lanes).
///
/// # Safety
/// The processor has the features that the function was compiled for; [`crate::exec::program::lanes::select`] sees to it.
pub type Compute = unsafe fn(&mut Registers, &Operands, Mask);

/// What becomes of a warp's lanes after an [`Effect`](Action::Effect).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// They go on with the next instruction.
    Next,
    /// They go on with the next instruction, but others should have a turn first (a failed `try_wait`, `nanosleep`).
    Yield,
    /// They stay at this instruction, which is run again when others have had a turn. Effects are re-run, so they must be
    /// idempotent.
    Wait,
    /// These lanes go on with the next instruction; the others stay as with [`Flow::Wait`].
    Part(Mask),
}

impl Flow {
    /// Which of the lanes that ran it are done with it.
    #[inline]
    pub fn done(self, active: Mask) -> Mask {
        match self {
            Self::Next | Self::Yield => active,
            Self::Wait => 0,
            Self::Part(done) => done & active,
        }
    }
}

/// The operands of a [`Compute`] step: slots in the order of PTX (results first), and a small constant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Operands {
    /// Slots, or indices of predicate registers, as the instruction has them.
    pub slots: [Slot; 6],
    /// What the instruction wants: a mode, a table, a rounding.
    pub constant: u64,
}

/// One decoded instruction.
pub struct Step<E> {
    /// What it does.
    pub action: Action<E>,
    /// Operands of a [`Action::Compute`].
    pub operands: Operands,
    /// `@p` or `@!p`.
    pub guard: Option<Predicate>,
    /// Which warps look at its [`DataFlow`](crate::exec::program::flow::DataFlow) before it runs: [`ALWAYS`], and
    /// [`FROM_START`] where it reads or writes registers that may lack a value.
    pub watch: u8,
}

/// A warp that has read memory without a value looks at every step.
pub const ALWAYS: u8 = 1;
/// A warp whose registers are looked after looks at some steps.
pub const FROM_START: u8 = 2;

/// What an instruction does.
pub enum Action<E> {
    /// Registers to registers.
    Compute(Compute),
    /// Anything with an effect outside the registers.
    Effect(E),
    /// Goes elsewhere.
    Control(Control),
}

/// Where control goes. Targets are indices of steps.
pub enum Control {
    /// `bra`
    Branch(u32),
    /// `brx.idx`: by the value of a 32-bit slot.
    Table(Slot, Vec<u32>),
    /// `call` of a function that is known.
    Call(Box<Call>),
    /// `call` through a register of 64 bits: any of the functions, by their index.
    CallIndirect(Slot, Vec<Option<Box<Call>>>),
    /// `ret` of a function: its return addresses, and what it keeps of the activation before.
    Return(Slot, Option<Arc<Activation>>),
    /// `exit`, and `ret` of a kernel.
    Exit,
}

/// A call: what to copy into the callee's parameters, where to go, and where the results lie afterwards.
pub struct Call {
    /// Index of the callee in the module.
    pub function: usize,
    /// Its first step.
    pub target: u32,
    /// The callee's slot of return addresses (0 where it is not running).
    pub return_slot: Slot,
    /// Bytes of local memory to copy on the way in: from, to, length.
    pub arguments: Vec<(u64, u64, u64)>,
    /// Name of the callee.
    pub name: String,
    /// Of a callee that may be running already, or takes memory from the stack.
    pub activation: Option<Arc<Activation>>,
}

/// What belongs to one activation of a function that may call itself.
#[derive(Debug, Default)]
pub struct Activation {
    /// Index of the function in the module.
    pub function: usize,
    /// Units that hold its registers.
    pub units: Range<usize>,
    /// Its registers: slots and bits.
    pub registers: Vec<(Slot, u32)>,
    /// Its predicates.
    pub predicates: Range<usize>,
    /// Its registers among those that may lack a value.
    pub watched: Vec<Place>,
    /// Slots with the address of a `.local` variable, their bits, and the address in the first activation.
    pub addresses: Vec<(Slot, u32, u64)>,
    /// Where its `.local` variables lie in the first activation.
    pub variables: Range<u64>,
    /// Its parameters and `.param` variables in local memory: start and length.
    pub parameters: Vec<(u64, u64)>,
}
