//! How a lack of values travels through a step, and where it is reported.
//!
//! Bit by bit where an instruction only moves bits, as memcheck has it: what matters is whether a bit that lacks a value can
//! change the result. Of instructions that move and select bits this is tried, with several values for the bits that are
//! missing; of arithmetic it is assumed, from the lowest missing bit upwards or for the whole result. Nothing of this runs
//! while nothing is missing.

use crate::exec::program::definedness::{OriginId, Place, Undefined};
use crate::exec::program::fragments::Fragments;
use crate::exec::program::registers::Registers;
use crate::exec::program::step::{Compute, Operands};
use crate::mask::{Mask, lanes};

/// How the results of a step depend on the bits of its operands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// It has an effect: an operand that lacks anything is reported.
    #[default]
    Counts,
    /// An effect that hands on what its data lack itself.
    Carries,
    /// Found by trying: a result lacks the bits that change, in groups of so many.
    Tried(u32),
    /// The lowest missing bit of any operand and all above it: sums and products.
    Upwards,
    /// Halves of 16 bits on their own.
    Halves,
    /// Everything, where anything is missing.
    Whole,
    /// A product of matrices: by rows and columns.
    Matrix(Fragments),
}

/// What a step reads and writes.
#[derive(Clone, Debug, Default)]
pub struct DataFlow {
    /// The predicate that guards it.
    pub guard: Option<Place>,
    /// Registers that are data.
    pub reads: Box<[Place]>,
    /// Registers that are addresses.
    pub addresses: Box<[Place]>,
    /// Registers that are written.
    pub writes: Box<[Place]>,
    /// How they depend on each other.
    pub rule: Rule,
    /// It takes the carry of the step before.
    pub takes_carry: bool,
    /// It leaves a carry.
    pub leaves_carry: bool,
    /// Of an effect that is a check before something that only reads and writes registers: the latter.
    pub computes: Option<(Compute, Operands)>,
}

/// Something without a value is used where that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lack {
    /// The operand.
    pub place: Place,
    /// Lanes that lack some of it.
    pub lanes: Mask,
}

/// With how many values missing bits are tried: none, all, and noise.
const TRIALS: u64 = 8;

impl DataFlow {
    /// Looks at a step that is about to be run by the lanes `active` of `mask`, and notes what its results lack. `compute`:
    /// the step, where it only reads and writes registers.
    ///
    /// # Errors
    /// A lack that counts.
    pub fn apply(
        &self,
        compute: Option<(Compute, &Operands)>,
        registers: &mut Registers,
        undefined: &mut Undefined,
        mask: Mask,
        active: Mask,
    ) -> Result<(), Lack> {
        if undefined.is_empty() {
            return Ok(());
        }
        let lack = |undefined: &Undefined, place: Place, mask: Mask| match undefined.lanes(place) & mask {
            0 => Ok(()),
            lanes => Err(Lack { place, lanes }),
        };
        self.guard.map_or(Ok(()), |guard| lack(undefined, guard, mask))?;
        for &address in &self.addresses {
            lack(undefined, address, active)?;
        }

        let carry = if self.takes_carry { undefined.carry & active } else { 0 };
        let missing = |undefined: &Undefined| self.reads.iter().any(|&read| undefined.lanes(read) & active != 0);
        if carry == 0 && !missing(undefined) {
            self.writes.iter().for_each(|&write| undefined.clear(write, active));
            undefined.carry &= if self.leaves_carry { !active } else { Mask::MAX };
            return Ok(());
        }

        let rule = if carry != 0 { Rule::Whole } else { self.rule };
        match (rule, compute) {
            (Rule::Carries, _) => {
                self.writes.iter().for_each(|&write| undefined.clear(write, active));
                return Ok(());
            }
            (Rule::Matrix(fragments), _) => {
                let lacks = fragments.lacks(&self.reads, &self.writes, undefined);
                self.note(undefined, active, &lacks);
            }
            (Rule::Counts, _) | (_, None) => {
                self.reads.iter().try_for_each(|&read| lack(undefined, read, active))?;
            }
            (rule, Some((function, operands))) => {
                let any = self.reads.iter().fold(carry, |any, &read| any | undefined.lanes(read)) & active;
                let lacks = match rule {
                    Rule::Tried(unit) => self.tried(function, operands, registers, undefined, active, unit),
                    rule => self.assumed(rule, undefined, carry),
                };
                self.note(undefined, active, &lacks);
                if self.leaves_carry {
                    undefined.carry = undefined.carry & !active | any;
                }
            }
        }
        Ok(())
    }

    /// Notes what each result lacks.
    fn note(&self, undefined: &mut Undefined, active: Mask, lacks: &[[u64; 32]]) {
        let origin = self.origin(undefined, active);
        for (&write, lacks) in self.writes.iter().zip(lacks) {
            undefined.set(write, active, lacks, origin);
        }
    }

    /// Where the first of the lacks came from.
    fn origin(&self, undefined: &Undefined, active: Mask) -> OriginId {
        let found = self.reads.iter().filter(|&&read| undefined.lanes(read) & active != 0);
        found.filter_map(|&read| undefined.get(read)).map(|(_, origin)| origin).next().unwrap_or(0)
    }

    /// What each result lacks by a rule that looks at no values.
    fn assumed(&self, rule: Rule, undefined: &Undefined, carry: Mask) -> Vec<[u64; 32]> {
        let mut any = [0; 32];
        for (bits, _) in self.reads.iter().filter_map(|&read| undefined.get(read)) {
            any.iter_mut().zip(bits).for_each(|(any, bits)| *any |= bits);
        }
        let of = |lane: usize, write: Place| match (rule, any[lane]) {
            _ if carry >> lane & 1 != 0 => write.all(),
            (_, 0) => 0,
            (Rule::Upwards, bits) => u64::MAX << bits.trailing_zeros() & write.all(),
            (Rule::Halves, bits) => grouped(bits, 16) & write.all(),
            _ => write.all(),
        };
        self.writes.iter().map(|&write| std::array::from_fn(|lane| of(lane, write))).collect()
    }

    /// Which bits of each result change with the bits that are missing.
    fn tried(
        &self,
        function: Compute,
        operands: &Operands,
        registers: &mut Registers,
        undefined: &Undefined,
        active: Mask,
        unit: u32,
    ) -> Vec<[u64; 32]> {
        let saved = |registers: &Registers, places: &[Place]| -> Vec<[u64; 32]> {
            places.iter().map(|place| place.get(registers)).collect()
        };
        let (reads, writes, carry) = (saved(registers, &self.reads), saved(registers, &self.writes), registers.carry);
        let restore = |registers: &mut Registers| {
            let all = self.writes.iter().zip(&writes).chain(self.reads.iter().zip(&reads));
            all.for_each(|(place, values)| place.set(registers, Mask::MAX, values));
            registers.carry = carry;
        };

        let mut first: Vec<[u64; 32]> = Vec::new();
        let mut changes = vec![[0; 32]; self.writes.len()];
        for trial in 0..TRIALS {
            for (number, &read) in self.reads.iter().enumerate() {
                if let Some((missing, _)) = undefined.get(read) {
                    // The same register twice is the same value twice.
                    let same = self.reads.iter().position(|&other| other == read).unwrap_or(number);
                    let value =
                        |lane: usize| reads[number][lane] & !missing[lane] | noise(trial, same, lane) & missing[lane];
                    read.set(registers, Mask::MAX, &std::array::from_fn(value));
                }
            }
            // SAFETY: it is the step's own function, chosen for this processor by `lanes::select`.
            unsafe { function(registers, operands, active) };
            let got = saved(registers, &self.writes);
            restore(registers);

            if trial == 0 {
                first = got;
                continue;
            }
            for ((changes, first), got) in changes.iter_mut().zip(&first).zip(&got) {
                (0..32).for_each(|lane| changes[lane] |= first[lane] ^ got[lane]);
            }
        }

        for (write, changes) in self.writes.iter().zip(&mut changes) {
            changes.iter_mut().for_each(|bits| *bits = grouped(*bits, unit) & write.all());
        }
        changes
    }

    /// Lanes of `active` in which data lack anything.
    pub fn lacking(&self, undefined: &Undefined, active: Mask) -> Option<Lack> {
        let lacks = self.reads.iter().map(|&place| Lack { place, lanes: undefined.lanes(place) & active });
        lacks.into_iter().find(|lack| lack.lanes != 0)
    }
}

/// Whole groups of `unit` bits where any of them is set.
fn grouped(bits: u64, unit: u32) -> u64 {
    if unit <= 1 || bits == 0 {
        return bits;
    }
    let group = u64::MAX >> (64 - unit.min(64));
    (0..64).step_by(unit as usize).filter(|place| bits >> place & group != 0).fold(0, |all, place| all | group << place)
}

/// What missing bits are tried with.
fn noise(trial: u64, operand: usize, lane: usize) -> u64 {
    match trial {
        0 => 0,
        1 => u64::MAX,
        _ => {
            let mut x = (trial << 32 | (operand as u64) << 8 | lane as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^ x >> 31
        }
    }
}

/// The lanes of a lack, the lowest first.
impl Lack {
    /// The lowest.
    pub fn lane(self) -> usize {
        lanes(self.lanes).next().unwrap_or(0)
    }
}
