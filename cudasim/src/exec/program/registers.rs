//! The registers of a warp: 32 lanes side by side, so that an instruction is a loop that compiles to vector code.
//!
//! Every operand of an instruction is a *slot*: registers, and also constants, addresses of symbols and special registers,
//! which are written into slots of their own before the warp starts. A slot is a number of units of 128 bytes; values of
//! up to 32 bits take one unit, of 64 bits two, of 128 bits four (the low half, then the high one). Values narrower than
//! 32 bits lie zero-extended in their lane. Predicates are bits of a `u32`, one for each lane.
use crate::mask::{FULL, Mask};
use crate::numerics::approx_error::Approx;
use std::ops::Range;

/// Where a value of the warp lies: index of its first unit.
pub type Slot = u32;

/// A predicate operand: a predicate register, maybe negated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predicate {
    /// Index of the predicate register.
    pub index: u32,
    /// Whether it counts where it is false.
    pub negated: bool,
}

#[derive(Clone)]
#[repr(C, align(128))]
struct Unit([u32; 32]);

/// The registers of one warp.
#[derive(Clone)]
pub struct Registers {
    units: Vec<Unit>,
    predicates: Vec<Mask>,
    /// How approximations err.
    pub approx: Approx,
    /// Of the carry that `add.cc` and its kin leave for the next instruction.
    pub carry: Mask,
}

impl Registers {
    /// `units` units and `predicates` predicates, all zero.
    pub fn new(units: usize, predicates: usize) -> Self {
        Self { units: vec![Unit([0; 32]); units], predicates: vec![0; predicates], approx: Approx::Exact, carry: 0 }
    }

    /// A copy of some units and predicates.
    pub fn cut(&self, units: &Range<usize>, predicates: &Range<usize>) -> Self {
        let (units, predicates) = (self.units[units.clone()].to_vec(), self.predicates[predicates.clone()].to_vec());
        Self { units, predicates, approx: self.approx, carry: self.carry }
    }

    /// Where a predicate register is true.
    #[inline(always)]
    pub fn predicate(&self, index: u32) -> Mask {
        self.predicates[index as usize]
    }

    /// Where a predicate operand holds.
    #[inline(always)]
    pub fn holds(&self, predicate: Predicate) -> Mask {
        let value = self.predicate(predicate.index);
        if predicate.negated { !value } else { value }
    }

    /// Sets a predicate register in the lanes of `mask`.
    #[inline(always)]
    pub fn set_predicate(&mut self, index: u32, mask: Mask, value: Mask) {
        let place = &mut self.predicates[index as usize];
        *place = *place & !mask | value & mask;
    }

    /// The lanes of a slot.
    #[inline(always)]
    pub fn get<T: Lane>(&self, slot: Slot) -> [T; 32] {
        T::load(self, slot)
    }

    /// Writes the lanes of `mask` of a slot.
    #[inline(always)]
    pub fn set<T: Lane>(&mut self, slot: Slot, mask: Mask, values: &[T; 32]) {
        T::store(self, slot, mask, values);
    }

    /// One lane of a slot.
    #[inline(always)]
    pub fn get_lane<T: Lane>(&self, slot: Slot, lane: usize) -> T {
        self.get::<T>(slot)[lane]
    }

    /// Writes one lane of a slot.
    #[inline(always)]
    pub fn set_lane<T: Lane>(&mut self, slot: Slot, lane: usize, value: T) {
        self.set(slot, 1 << lane, &[value; 32]);
    }

    #[inline(always)]
    fn words(&self, slot: Slot) -> &[u32; 32] {
        &self.units[slot as usize].0
    }

    #[inline(always)]
    fn words_mut(&mut self, slot: Slot) -> &mut [u32; 32] {
        &mut self.units[slot as usize].0
    }

    #[inline(always)]
    fn doubles(&self, slot: Slot) -> &[u64; 32] {
        let units: &[Unit; 2] = self.units[slot as usize..].first_chunk().expect("a slot of 64 bits has two units");
        // SAFETY: two units are 256 bytes, aligned to 128, without padding, and any bits are a u64.
        unsafe { &*std::ptr::from_ref(units).cast() }
    }

    #[inline(always)]
    fn doubles_mut(&mut self, slot: Slot) -> &mut [u64; 32] {
        let units: &mut [Unit; 2] =
            self.units[slot as usize..].first_chunk_mut().expect("a slot of 64 bits has two units");
        // SAFETY: as in `doubles`; the borrow is unique.
        unsafe { &mut *std::ptr::from_mut(units).cast() }
    }
}

/// Where a predicate operand holds, or everywhere where there is none.
#[inline(always)]
pub fn holds(registers: &Registers, predicate: Option<Predicate>) -> Mask {
    predicate.map_or(FULL, |predicate| registers.holds(predicate))
}

/// A type that a lane of a slot is read or written as.
pub trait Lane: Copy + Default {
    /// The lanes of `slot`.
    fn load(registers: &Registers, slot: Slot) -> [Self; 32];
    /// Writes `values` to the lanes of `mask`.
    fn store(registers: &mut Registers, slot: Slot, mask: Mask, values: &[Self; 32]);
}

macro_rules! lane_types {
    ($($ty:ty, $bits:ident $read:ident $write:ident, |$from:ident| $decode:expr, |$to:ident| $encode:expr;)*) => {$(
        impl Lane for $ty {
            #[inline(always)]
            fn load(registers: &Registers, slot: Slot) -> [Self; 32] {
                let lanes = registers.$read(slot);
                std::array::from_fn(|lane| { let $from = lanes[lane]; $decode })
            }

            #[inline(always)]
            fn store(registers: &mut Registers, slot: Slot, mask: Mask, values: &[Self; 32]) {
                let lanes = registers.$write(slot);
                let encode = |$to: $ty| -> $bits { $encode };
                if mask == FULL {
                    for (place, &value) in lanes.iter_mut().zip(values) {
                        *place = encode(value);
                    }
                } else {
                    for (lane, (place, &value)) in lanes.iter_mut().zip(values).enumerate() {
                        *place = if mask >> lane & 1 != 0 { encode(value) } else { *place };
                    }
                }
            }
        }
    )*};
}

lane_types! {
    u32, u32 words words_mut, |x| x, |x| x;
    i32, u32 words words_mut, |x| x as i32, |x| x as u32;
    f32, u32 words words_mut, |x| f32::from_bits(x), |x| x.to_bits();
    u16, u32 words words_mut, |x| x as u16, |x| x.into();
    i16, u32 words words_mut, |x| x as i16, |x| (x as u16).into();
    u8, u32 words words_mut, |x| x as u8, |x| x.into();
    i8, u32 words words_mut, |x| x as i8, |x| (x as u8).into();
    u64, u64 doubles doubles_mut, |x| x, |x| x;
    i64, u64 doubles doubles_mut, |x| x as i64, |x| x as u64;
    f64, u64 doubles doubles_mut, |x| f64::from_bits(x), |x| x.to_bits();
}

/// The two halves of a slot of 128 bits.
impl Lane for u128 {
    fn load(registers: &Registers, slot: Slot) -> [Self; 32] {
        let (low, high) = (registers.doubles(slot), registers.doubles(slot + 2));
        std::array::from_fn(|lane| u128::from(high[lane]) << 64 | u128::from(low[lane]))
    }

    fn store(registers: &mut Registers, slot: Slot, mask: Mask, values: &[Self; 32]) {
        u64::store(registers, slot, mask, &values.map(|value| value as u64));
        u64::store(registers, slot + 2, mask, &values.map(|value| (value >> 64) as u64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::lanes;

    #[test]
    fn only_the_lanes_of_the_mask_are_written() {
        let mut registers = Registers::new(8, 2);
        registers.set::<u64>(2, FULL, &std::array::from_fn(|lane| lane as u64 + (1 << 40)));
        registers.set::<u64>(2, 0b101, &[7; 32]);
        assert_eq!(registers.get::<u64>(2)[..4], [7, (1 << 40) + 1, 7, (1 << 40) + 3]);
        registers.set::<i16>(0, 0b10, &[-1; 32]);
        assert_eq!(registers.get::<u32>(0)[..3], [0, 0xffff, 0]);
        registers.set_predicate(1, 0xff, 0x0f);
        registers.set_predicate(1, 0x1, 0);
        assert_eq!(registers.holds(Predicate { index: 1, negated: false }), 0x0e);
        assert_eq!(registers.holds(Predicate { index: 1, negated: true }), !0x0e);
        registers.set_lane(4, 31, 1_u128 << 100 | 5);
        assert_eq!(registers.get_lane::<u128>(4, 31), 1 << 100 | 5);
        assert_eq!(lanes(0x8000_0005).collect::<Vec<_>>(), [0, 2, 31]);
    }
}
