//! What a warp notes about registers that may lack a value (found by [`decode`](crate::exec::decode)).

use crate::exec::program::registers::{Predicate, Registers};
use crate::mask::Mask;
use crate::report::{Fault, FaultKind};

/// What a warp does about a step that reads or writes registers which may lack a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// The guard, where it may lack one.
    pub guard: Option<usize>,
    /// Operands that may lack one: indices of watched registers.
    pub reads: Vec<usize>,
    /// Of `selp`, where it is watched: the predicate's index among the warp's, and the watched registers it selects from.
    pub select: Option<Select>,
    /// Results that are watched.
    pub writes: Vec<usize>,
    /// Whether the results lack a value where an operand does; else that is reported.
    pub hands_on: bool,
}

/// `selp`: only the operand that is taken counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Select {
    /// The predicate.
    pub predicate: Predicate,
    /// The watched register taken where it holds, and where it does not.
    pub operands: [Option<usize>; 2],
    /// The predicate as a watched register.
    pub by: Option<usize>,
}

impl Note {
    /// Looks at the operands of a step that is about to be run by the lanes `active` of `mask`, and notes its results.
    /// `defined`: for each watched register the lanes that hold a value. `names`: theirs.
    ///
    /// # Errors
    /// `UninitialisedRegister`.
    pub fn apply(
        &self,
        registers: &Registers,
        defined: &mut [Mask],
        names: &[String],
        mask: Mask,
        active: Mask,
    ) -> Result<(), Fault> {
        let lacking = |watched: usize, lanes: Mask| lanes & !defined[watched];
        let report = |watched: usize, lacks: Mask| {
            let message = format!("register {} is used, but nothing was written to it", names[watched]);
            Err(Fault::new(FaultKind::UninitialisedRegister, message).lane(lacks.trailing_zeros() as usize & 31))
        };

        if let Some(guard) = self.guard {
            let lacks = lacking(guard, mask);
            if lacks != 0 {
                return report(guard, lacks);
            }
        }

        let lacks = match &self.select {
            Some(Select { predicate, operands: [yes, no], by }) => {
                let taken = registers.holds(*predicate);
                let of = |watched: &Option<usize>, lanes| watched.map_or(0, |watched| lacking(watched, lanes));
                of(yes, active & taken) | of(no, active & !taken) | of(by, active)
            }
            None => {
                let mut all = 0;
                for &watched in &self.reads {
                    let lacks = lacking(watched, active);
                    if lacks != 0 && !self.hands_on {
                        return report(watched, lacks);
                    }
                    all |= lacks;
                }
                all
            }
        };

        for &watched in &self.writes {
            defined[watched] = defined[watched] & !active | active & !lacks;
        }
        Ok(())
    }
}
