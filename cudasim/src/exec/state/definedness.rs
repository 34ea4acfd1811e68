//! Values that are missing: looked for before a step, found by loads, handed on by stores and shuffles, reported where they
//! count.

use crate::exec::program::definedness::{Origin, Place};
use crate::exec::program::flow::{Lack, Rule};
use crate::exec::program::registers::Slot;
use crate::exec::program::step::{ALWAYS, Action as StepAction};
use crate::exec::state::context::{Context, Step};
use crate::exec::state::worker::Missing;
use crate::mask::{Mask, lanes};
use crate::report::{Fault, FaultKind};

/// Looks at step `pc`, which is about to be run by the lanes `active` of `mask`.
///
/// # Errors
/// `UninitialisedRegister` or `UninitialisedMemory`: something without a value is used where that counts.
pub(in crate::exec) fn check(
    context: &mut Context<'_>,
    step: &Step,
    pc: u32,
    mask: Mask,
    active: Mask,
) -> Result<(), Fault> {
    let (kernel, warp) = (context.grid.kernel, &mut *context.warp);
    if warp.undefined.is_empty() {
        warp.watching &= !ALWAYS;
        return Ok(());
    }
    let flow = &kernel.flows[pc as usize];
    let compute = match &step.action {
        StepAction::Compute(function) => Some((*function, &step.operands)),
        _ => flow.computes.as_ref().map(|(function, operands)| (*function, operands)),
    };

    // What a shuffle or a store hands on must be looked after from then on, wherever it goes.
    if flow.rule == Rule::Carries && flow.lacking(&warp.undefined, active).is_some() {
        warp.watching |= ALWAYS;
        context.worker.carried = flow.reads.iter().map(|&place| (place, warp.undefined.get(place))).collect();
    }
    let outcome = flow.apply(compute, &mut warp.registers, &mut warp.undefined, mask, active);
    if warp.undefined.carry != 0 {
        // No register tells where a carry goes.
        warp.watching |= ALWAYS;
    }
    let Err(lack) = outcome else { return Ok(()) };
    let fault = context.lacks(pc, lack);
    match (&step.action, flow.guard) {
        // Either way is taken; what comes of it may be thrown away, as rows past the end of a tile are.
        (StepAction::Control(_), Some(guard)) if guard == lack.place => {
            context.pc = pc;
            context.warn(fault)
        }
        _ => Err(fault),
    }
}

impl Context<'_> {
    /// The fault of a lack that counts at step `pc`.
    #[cold]
    fn lacks(&self, pc: u32, lack: Lack) -> Fault {
        let (kernel, lane) = (self.grid.kernel, lack.lane());
        let origin = self.warp.undefined.get(lack.place).map_or(0, |(_, origin)| origin);
        match self.warp.undefined.origin(origin) {
            Origin::Register => {
                let name = kernel.register_name(pc as usize, lack.place.register);
                let message = format!("register {name} is used, but nothing was written to it");
                Fault::new(FaultKind::UninitialisedRegister, message).lane(lane)
            }
            Origin::Memory { step, space, addresses } => {
                let message = format!("{space} memory is read that nothing was written to");
                let fault = Fault::new(FaultKind::UninitialisedMemory, message).lane(lane).at(addresses[lane]);
                if *step == pc { fault } else { fault.begun_at(*step) }
            }
        }
    }

    /// A load has found bytes without a value: what it writes to registers lacks them. `targets`: slots of the words of a
    /// lane, and their registers' widths; `extends`: the sign goes into the rest of a wider register.
    #[cold]
    pub(in crate::exec) fn take_missing(
        &mut self,
        addresses: &[u64; 32],
        targets: &[(Slot, u32)],
        bytes: u64,
        extends: bool,
    ) {
        let missing = std::mem::take(&mut self.worker.missing);
        let Some(&Missing { space, .. }) = missing.first() else { return };

        let mut from = *addresses;
        let mut lacks = vec![[0_u64; 32]; targets.len()];
        let mut touched = 0;
        for Missing { lane, address, full, bits, .. } in missing {
            let part = (address.wrapping_sub(addresses[lane]) / bytes) as usize % targets.len();
            let top = bits >> (8 * bytes - 1) & 1 != 0 && extends && bytes < 8;
            lacks[part][lane] |= bits | if top { u64::MAX << (8 * bytes) } else { 0 };
            // The first word that lacks something is the one to name.
            from[lane] = if touched >> lane & 1 == 0 { full } else { from[lane] };
            touched |= 1 << lane;
        }

        self.lack(space, from, touched, targets.iter().map(|&(slot, _)| slot).zip(&lacks));
    }

    /// Results of the step that runs lack bits, in the lanes of a mask; each lane's come from memory at an address.
    #[cold]
    pub(in crate::exec) fn lack<'a>(
        &mut self,
        space: &'static str,
        addresses: [u64; 32],
        mask: Mask,
        targets: impl Iterator<Item = (Slot, &'a [u64; 32])>,
    ) {
        let flow = &self.grid.kernel.flows[self.pc as usize];
        let addresses = Box::new(addresses);
        let origin = self.warp.undefined.add_origin(Origin::Memory { step: self.pc, space, addresses });
        for (slot, lacks) in targets {
            // A result that nobody reads has no place.
            if let Some(&place) = flow.writes.iter().find(|place| place.slot == slot && place.bits > 1) {
                self.warp.undefined.set(place, mask, lacks, origin);
            }
        }
        self.warp.watching |= ALWAYS;
    }

    /// What the register in a slot lacked when the step began, of those that it hands on.
    pub(in crate::exec) fn carried(&self, slot: Slot) -> Option<[u64; 32]> {
        let found = self.worker.carried.iter().find(|(place, _)| place.slot == slot && place.bits > 1);
        found.and_then(|(_, lacks)| lacks.as_ref().map(|(bits, _)| *bits))
    }

    /// A shuffle: lanes of `ready` have taken a value of their `sources`.
    #[cold]
    pub(in crate::exec) fn carry_lanes(&mut self, slot: Slot, sources: &[usize; 32], ready: Mask) {
        let carried = std::mem::take(&mut self.worker.carried);
        let flow = &self.grid.kernel.flows[self.pc as usize];
        let find = |places: &[Place]| places.iter().copied().find(|place| place.bits > 1);
        let (Some(to), Some((bits, origin))) =
            (find(&flow.writes).filter(|place| place.slot == slot), carried.into_iter().find_map(|(_, lacks)| lacks))
        else {
            return;
        };
        let moved = std::array::from_fn(|lane| bits[sources[lane]]);
        self.warp.undefined.set(to, ready, &moved, origin);
    }

    /// That a store to global memory has all of its data: others may read it, or the host.
    ///
    /// # Errors
    /// As [`check`].
    #[cold]
    pub(in crate::exec) fn check_stored(&self, active: Mask) -> Result<(), Fault> {
        let flow = &self.grid.kernel.flows[self.pc as usize];
        match flow.lacking(&self.warp.undefined, active) {
            Some(lack) => Err(self.lacks(self.pc, lack)),
            None => Ok(()),
        }
    }

    /// The lanes of a mask in which data of a step that hands them on lack something.
    pub(in crate::exec) fn lanes_carried(&self, mask: Mask) -> Mask {
        let lacks = self.worker.carried.iter().filter_map(|(_, lacks)| lacks.as_ref());
        lacks.fold(0, |all, (bits, _)| {
            all | lanes(mask).filter(|&lane| bits[lane] != 0).fold(0, |m, lane| m | 1 << lane)
        })
    }
}
