//! Which bits of a warp's registers hold no value.
//!
//! Kept beside the registers, and only for those that lack something: as long as none does, nobody looks here. Each such
//! register has a row with a mask for each lane, and where the lack comes from.

use std::ops::Range;

use crate::exec::program::registers::{Registers, Slot};
use crate::mask::{Mask, lanes};
use crate::ptx::module::RegisterId;

/// A register, as an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its slot, or its index among the predicates.
    pub slot: Slot,
    /// Its bits, up to 64; 1 of a predicate.
    pub bits: u32,
    /// Its name, in the body of its function.
    pub register: RegisterId,
}

impl Place {
    /// All its bits.
    pub fn all(self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }

    fn is_predicate(self) -> bool {
        self.bits == 1
    }

    /// The values in all lanes.
    pub fn get(self, registers: &Registers) -> [u64; 32] {
        match self.bits {
            1 => {
                let mask = registers.predicate(self.slot);
                std::array::from_fn(|lane| u64::from(mask >> lane & 1))
            }
            64 => registers.get::<u64>(self.slot),
            _ => registers.get::<u32>(self.slot).map(u64::from),
        }
    }

    /// Sets the values of the lanes of a mask.
    pub fn set(self, registers: &mut Registers, mask: Mask, values: &[u64; 32]) {
        match self.bits {
            1 => {
                let value = (0..32).fold(0, |all, lane| all | ((values[lane] & 1) as u32) << lane);
                registers.set_predicate(self.slot, mask, value);
            }
            64 => registers.set::<u64>(self.slot, mask, values),
            _ => registers.set::<u32>(self.slot, mask, &values.map(|value| value as u32)),
        }
    }
}

/// Where a lack of a value began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a register that nothing was written to.
    Register,
    /// In memory that nothing was written to.
    Memory {
        /// Step of the load.
        step: u32,
        /// Its state space, in words.
        space: &'static str,
        /// What each lane loaded from.
        addresses: Box<[u64; 32]>,
    },
}

/// Index of an [`Origin`].
pub type OriginId = u16;

/// The bits of each lane of a register that lack a value, and why.
pub type Lacks = ([u64; 32], OriginId);

/// What one register lacks.
#[derive(Clone)]
pub struct Row {
    bits: [u64; 32],
    origin: OriginId,
}

/// What registers that were put aside lack, by their places.
pub type Cut = Vec<(usize, Row)>;

/// Which bits of the registers of a warp hold no value.
#[derive(Clone, Default)]
pub struct Undefined {
    /// Of each slot, then of each predicate: its row, from 1; 0 where it lacks nothing.
    index: Vec<u16>,
    slots: usize,
    rows: Vec<Row>,
    free: Vec<u16>,
    /// Number 0 is [`Origin::Register`].
    origins: Vec<Origin>,
    /// Lanes whose carry lacks a value.
    pub carry: Mask,
}

impl Undefined {
    /// Of registers that all hold values.
    pub fn new(slots: usize, predicates: usize) -> Self {
        Self { index: vec![0; slots + predicates], slots, origins: vec![Origin::Register], ..Self::default() }
    }

    fn place(&self, place: Place) -> usize {
        place.slot as usize + if place.is_predicate() { self.slots } else { 0 }
    }

    fn row(&self, place: Place) -> Option<&Row> {
        let row = self.index[self.place(place)];
        (row != 0).then(|| &self.rows[row as usize - 1])
    }

    /// Whether every register holds a value.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.rows.len() == self.free.len() && self.carry == 0
    }

    /// Whether a register lacks nothing in any lane.
    #[inline]
    pub fn is_whole(&self, place: Place) -> bool {
        self.index[self.place(place)] == 0
    }

    /// The bits of each lane that lack a value, and why.
    pub fn get(&self, place: Place) -> Option<Lacks> {
        self.row(place).map(|row| (row.bits.map(|bits| bits & place.all()), row.origin))
    }

    /// The lanes that lack any bit of a register.
    pub fn lanes(&self, place: Place) -> Mask {
        let Some(row) = self.row(place) else { return 0 };
        (0..32).fold(0, |mask, lane| mask | u32::from(row.bits[lane] & place.all() != 0) << lane)
    }

    /// Where a lack came from.
    pub fn origin(&self, id: OriginId) -> &Origin {
        self.origins.get(id as usize).unwrap_or(&Origin::Register)
    }

    /// Notes an origin: a load that is run again takes its own place.
    pub fn add_origin(&mut self, origin: Origin) -> OriginId {
        let step_of = |origin: &Origin| match origin {
            Origin::Register => None,
            Origin::Memory { step, .. } => Some(*step),
        };
        match self.origins.iter().position(|known| step_of(known) == step_of(&origin)) {
            Some(id) => {
                self.origins[id] = origin;
                id as OriginId
            }
            None if self.origins.len() < usize::from(OriginId::MAX) => {
                self.origins.push(origin);
                self.origins.len() as OriginId - 1
            }
            None => 0,
        }
    }

    /// The active lanes of a register lack these bits and no others.
    pub fn set(&mut self, place: Place, active: Mask, bits: &[u64; 32], origin: OriginId) {
        self.set_at(self.place(place), active, &bits.map(|bits| bits & place.all()), origin);
    }

    fn set_at(&mut self, at: usize, active: Mask, bits: &[u64; 32], origin: OriginId) {
        let lacks = lanes(active).any(|lane| bits[lane] != 0);
        if self.index[at] == 0 {
            if !lacks {
                return;
            }
            let fresh = Row { bits: [0; 32], origin };
            self.index[at] = match self.free.pop() {
                Some(row) => {
                    self.rows[row as usize - 1] = fresh;
                    row
                }
                None => {
                    self.rows.push(fresh);
                    self.rows.len() as u16
                }
            };
        }

        let row = &mut self.rows[self.index[at] as usize - 1];
        row.origin = if lacks { origin } else { row.origin };
        for lane in lanes(active) {
            row.bits[lane] = bits[lane];
        }
        if row.bits == [0; 32] {
            self.free.push(self.index[at]);
            self.index[at] = 0;
        }
    }

    fn places(&self, units: &Range<usize>, predicates: &Range<usize>) -> impl Iterator<Item = usize> + use<> {
        let slots = self.slots;
        units.clone().chain(predicates.clone().map(move |predicate| slots + predicate))
    }

    /// What the registers in some units, and some predicates, lack.
    pub fn cut(&self, units: &Range<usize>, predicates: &Range<usize>) -> Cut {
        let lacking = self.places(units, predicates).filter(|&at| self.index[at] != 0);
        lacking.map(|at| (at, self.rows[self.index[at] as usize - 1].clone())).collect()
    }

    /// Puts back what [`Undefined::cut`] gave, in the active lanes.
    pub fn put_back(&mut self, cut: &Cut, units: &Range<usize>, predicates: &Range<usize>, active: Mask) {
        if cut.is_empty() && self.is_empty() {
            return;
        }
        for at in self.places(units, predicates) {
            let then = cut.iter().find(|(place, _)| *place == at).map(|(_, row)| row);
            let (bits, origin) = then.map_or(([0; 32], 0), |row| (row.bits, row.origin));
            self.set_at(at, active, &bits, origin);
        }
    }

    /// The active lanes of a register hold values.
    #[inline]
    pub fn clear(&mut self, place: Place, active: Mask) {
        if !self.is_whole(place) {
            self.set(place, active, &[0; 32], 0);
        }
    }
}
