//! What a warp has asked of the tensor cores and not yet waited for, and the registers that this concerns.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::exec::program::registers::Slot;
use crate::exec::tensor::product::Accumulators;
use crate::report::{Fault, FaultKind};

/// A `wgmma.mma_async` that was issued.
pub struct Issued {
    /// The instruction.
    pub operation: Arc<Operation>,
    /// Its descriptors (of A: 0 where A is in registers).
    pub descriptors: [u64; 2],
    /// `scale-d`: whether D is added to.
    pub accumulate: bool,
    /// Whether its result is in D already. The kernel may not rely on that.
    pub landed: bool,
}

/// How registers that some wgmma names are used, by their number among those (see
/// [`crate::exec::ops::wgmma::accumulator_hazards`]).
#[derive(Clone, Copy, Default)]
struct Use {
    /// Operations in flight that accumulate in it.
    accumulators: u32,
    /// The family of these (same accumulators, same shape).
    family: u32,
    /// Operations in flight that read it as A.
    inputs: u32,
    /// Written since the last `wgmma.fence`.
    written: bool,
}

/// The operations of a warp that are in flight.
#[derive(Default)]
pub struct PendingGroups {
    /// The operations that were not waited for, oldest first.
    pub pending: VecDeque<Issued>,
    /// How many of the last of these are in no group yet.
    uncommitted: usize,
    /// Sizes of the committed groups, oldest first.
    groups: VecDeque<usize>,
    /// A `wgmma.fence` was run.
    fenced: bool,
    uses: Vec<Use>,
    written: Vec<u32>,
    /// Operations that were waited for.
    pub completed: u64,
}

/// A register that some wgmma names.
#[derive(Clone, Debug)]
pub struct NamedRegister {
    /// Its number among those.
    pub number: u32,
    /// Its name in the text.
    pub name: String,
}

impl PendingGroups {
    fn of(&mut self, watched: &NamedRegister) -> &mut Use {
        let place = watched.number as usize;
        if self.uses.len() <= place {
            self.uses.resize(place + 1, Use::default());
        }
        &mut self.uses[place]
    }

    /// `wgmma.fence`
    pub fn fence(&mut self) {
        self.fenced = true;
        for number in self.written.drain(..) {
            self.uses[number as usize].written = false;
        }
    }

    /// An ordinary instruction reads these registers.
    ///
    /// # Errors
    /// An operation in flight will write one.
    pub fn read(&mut self, registers: &[NamedRegister]) -> Result<(), Fault> {
        for register in registers {
            if self.of(register).accumulators != 0 {
                return Err(self.missing_wait(register, "read", "accumulates in"));
            }
        }
        Ok(())
    }

    /// An ordinary instruction writes these registers.
    ///
    /// # Errors
    /// An operation in flight will read or write one.
    pub fn write(&mut self, registers: &[NamedRegister]) -> Result<(), Fault> {
        for register in registers {
            let held = *self.of(register);
            if held.accumulators != 0 {
                return Err(self.missing_wait(register, "written", "accumulates in"));
            }
            if held.inputs != 0 {
                return Err(self.missing_wait(register, "written", "reads A from"));
            }
        }
        Ok(())
    }

    /// The registers must be fenced before the next wgmma names them.
    pub fn modify(&mut self, registers: &[NamedRegister]) {
        for register in registers {
            if !std::mem::replace(&mut self.of(register).written, true) {
                self.written.push(register.number);
            }
        }
    }

    fn missing_wait(&self, register: &NamedRegister, done: &str, how: &str) -> Fault {
        let why = match self.uncommitted {
            0 => "no wgmma.wait_group has waited for it",
            _ => "it may not even be in a group: wgmma.commit_group comes first, then wgmma.wait_group",
        };
        let message = format!("{} is {done} while a wgmma in flight {how} it; {why}", register.name);
        Fault::new(FaultKind::MissingWait, message)
    }

    /// That an operation may be issued now.
    ///
    /// # Errors
    /// A fence or a wait is missing.
    pub fn may_issue(&mut self, operation: &Operation) -> Result<(), Fault> {
        let fence = |message: String| Err(Fault::new(FaultKind::MissingFence, message));
        if !self.fenced {
            return fence("the first wgmma.mma_async comes before any wgmma.fence".into());
        }

        for register in operation.d_watched.iter().chain(&operation.a_watched) {
            if self.of(register).written {
                return fence(format!("{} was written and no wgmma.fence followed", register.name));
            }
        }

        for register in &operation.d_watched {
            let held = *self.of(register);
            if held.accumulators != 0 && held.family != operation.family {
                return fence(format!("a wgmma of another shape in flight accumulates in {}", register.name));
            }
            if held.inputs != 0 {
                return Err(self.missing_wait(register, "accumulated in", "reads A from"));
            }
        }

        for register in &operation.a_watched {
            if self.of(register).accumulators != 0 {
                return Err(self.missing_wait(register, "read as A", "accumulates in"));
            }
        }
        Ok(())
    }

    /// Notes an operation as issued.
    pub fn issue(&mut self, issued: Issued) {
        let operation = Arc::clone(&issued.operation);
        for register in &operation.d_watched {
            let held = self.of(register);
            held.accumulators += 1;
            held.family = operation.family;
        }
        for register in &operation.a_watched {
            self.of(register).inputs += 1;
        }
        self.pending.push_back(issued);
        self.uncommitted += 1;
    }

    /// `wgmma.commit_group`: an empty group counts as well.
    pub fn commit(&mut self) {
        self.groups.push_back(std::mem::take(&mut self.uncommitted));
    }

    /// How many of the oldest operations must be complete for no more than `left` groups to be in flight.
    pub fn due(&self, left: usize) -> usize {
        self.groups.iter().take(self.groups.len().saturating_sub(left)).sum()
    }

    /// Forgets the groups that `wgmma.wait_group` waited for; their operations have landed.
    pub fn complete(&mut self, left: usize) {
        while self.groups.len() > left {
            for _ in 0..self.groups.pop_front().unwrap_or(0) {
                let Some(issued) = self.pending.pop_front() else { return };
                self.completed += 1;
                for register in &issued.operation.d_watched {
                    self.of(register).accumulators -= 1;
                }
                for register in &issued.operation.a_watched {
                    self.of(register).inputs -= 1;
                }
            }
        }
    }
}

/// Where A comes from.
#[derive(Clone, Debug)]
pub enum SourceA {
    /// The warp's registers.
    Registers(Vec<Slot>),
    /// Shared memory; M-major if `true`.
    Shared(bool),
}

/// A decoded instruction.
pub struct Operation {
    /// The accumulators of one warp, 16 x N.
    pub tile: Accumulators,
    /// A.
    pub a: SourceA,
    /// B is N-major.
    pub b_rows: bool,
    /// `imm-scale-a` is -1.
    pub negate_a: bool,
    /// `imm-scale-b` is -1.
    pub negate_b: bool,
    /// Operations with the same accumulators and shape have the same number.
    pub family: u32,
    /// The registers of D.
    pub d_watched: Vec<NamedRegister>,
    /// The registers of A.
    pub a_watched: Vec<NamedRegister>,
}

/// Packed words of multiplicands, kept so that nothing is allocated while kernels run.
#[derive(Default)]
pub struct Packed {
    /// `[rows of A][words]`
    pub(in crate::exec) a: Vec<u32>,
    /// B as the instruction has it: see [`Columns`].
    pub(in crate::exec) b: Vec<u32>,
}
