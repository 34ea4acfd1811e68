//! Operands to slots and addresses.

use crate::exec::operands::decoder::Decoder;
use crate::exec::program::address::{Address, Space};
use crate::exec::program::registers::{Predicate, Slot};
use crate::memory::FUNCTION_WINDOW;
use crate::ptx::module::{Guard, RegisterId, Symbol};
use crate::ptx::operand::{AddressBase, Immediate, Operand, SpecialRegister};
use crate::ptx::types::{ScalarType, StateSpace};

impl Decoder<'_> {
    fn register(&self, id: RegisterId) -> Slot {
        self.frame().registers[id.index()]
    }

    /// The slot of a register; of a predicate its index.
    pub(in crate::exec) fn slot_of(&self, id: RegisterId) -> Slot {
        self.register(id)
    }

    pub(in crate::exec) fn guard(&self, guard: Guard) -> Predicate {
        Predicate { index: self.register(guard.register), negated: guard.negated }
    }

    /// A slot that holds the same value in all lanes.
    pub fn constant(&mut self, bits: u32, value: u64) -> Slot {
        let key = (if bits > 32 { 64 } else { 32 }, value);
        if let Some(&slot) = self.constants.get(&key) {
            return slot;
        }
        let slot = self.new_slot(key.0);
        self.constants.insert(key, slot);
        slot
    }

    /// A predicate that is true.
    pub fn always(&self) -> Predicate {
        Predicate { index: 0, negated: true }
    }

    /// The slot of a source operand of type `ty`.
    ///
    /// # Errors
    /// The operand is not a single value.
    pub fn value(&mut self, operand: &Operand, ty: ScalarType) -> Result<Slot, String> {
        Ok(match operand {
            Operand::Register(id) | Operand::Part(id, _) => self.register(*id),
            Operand::Immediate(immediate) => {
                let bits = immediate_bits(*immediate, ty);
                if ty.bits() > 64 {
                    return Err("a constant of 128 bits".into());
                }
                self.constant(ty.bits(), bits)
            }
            Operand::Symbol(symbol, offset) => {
                if let Some(slot) = self.local_address(*symbol, *offset, ty.bits().clamp(32, 64))? {
                    return Ok(slot);
                }
                let address = self.symbol(*symbol)?.wrapping_add_signed(*offset);
                let bits = ty.bits().clamp(32, 64);
                self.constant(bits, if bits == 32 { address & 0xffff_ffff } else { address })
            }
            Operand::Special(special) => self.special(*special, ty),
            _ => return Err("an operand that is not a value".into()),
        })
    }

    /// The slot of a destination; of `_` one that nobody reads.
    ///
    /// # Errors
    /// The operand is not a register.
    pub fn target(&mut self, operand: &Operand, ty: ScalarType) -> Result<Slot, String> {
        match operand {
            Operand::Register(id) | Operand::Part(id, _) => Ok(self.register(*id)),
            Operand::Sink | Operand::Pair(None, _) => Ok(self.new_slot(ty.bits())),
            Operand::Pair(Some(id), _) => Ok(self.register(*id)),
            _ => Err("a result that is not a register".into()),
        }
    }

    /// Bits of the register behind an operand; those of `ty` for anything else.
    pub fn width(&self, operand: &Operand, ty: ScalarType) -> u32 {
        match operand {
            Operand::Register(id) | Operand::Pair(Some(id), _) => {
                self.body().register_type(*id).map_or(ty.bits(), ScalarType::bits)
            }
            _ => ty.bits(),
        }
    }

    /// The index of a predicate that is written; of `_` one that nobody reads.
    ///
    /// # Errors
    /// The operand is not a predicate register.
    pub fn target_predicate(&mut self, operand: &Operand) -> Result<u32, String> {
        match operand {
            Operand::Register(id) | Operand::Pair(Some(id), _) => Ok(self.register(*id)),
            Operand::Sink | Operand::Pair(None, _) => Ok(self.new_predicate()),
            _ => Err("a result that is not a predicate".into()),
        }
    }

    /// The predicate after `|`, where there is one.
    pub fn second_predicate(&self, operand: &Operand) -> Option<u32> {
        match operand {
            Operand::Pair(_, Some(id)) => Some(self.register(*id)),
            _ => None,
        }
    }

    /// A predicate that is read.
    ///
    /// # Errors
    /// The operand is not a predicate.
    pub fn predicate(&mut self, operand: &Operand) -> Result<Predicate, String> {
        match operand {
            Operand::Register(id) => Ok(Predicate { index: self.register(*id), negated: false }),
            Operand::Not(id) => Ok(Predicate { index: self.register(*id), negated: true }),
            Operand::Immediate(Immediate::Integer(value)) => Ok(Predicate { index: 0, negated: *value != 0 }),
            _ => Err("an operand that is not a predicate".into()),
        }
    }

    /// The slots of the elements of a vector, or of a single value.
    ///
    /// # Errors
    /// As [`Decoder::value`].
    pub fn values(&mut self, operand: &Operand, ty: ScalarType) -> Result<Vec<Slot>, String> {
        match operand {
            Operand::Vector(elements) => elements.iter().map(|element| self.value(element, ty)).collect(),
            operand => Ok(vec![self.value(operand, ty)?]),
        }
    }

    /// The slots of the elements of a vector that is written, or of a single register.
    ///
    /// # Errors
    /// As [`Decoder::target`].
    pub fn targets(&mut self, operand: &Operand, ty: ScalarType) -> Result<Vec<Slot>, String> {
        match operand {
            Operand::Vector(elements) => elements.iter().map(|element| self.target(element, ty)).collect(),
            operand => Ok(vec![self.target(operand, ty)?]),
        }
    }

    /// An integer constant.
    ///
    /// # Errors
    /// The operand is not one.
    pub fn integer(&self, operand: &Operand) -> Result<i64, String> {
        match operand {
            Operand::Immediate(Immediate::Integer(value)) => Ok(*value as i64),
            _ => Err("an operand that is not an integer constant".into()),
        }
    }

    /// An address operand of an instruction that names `space` (`None`: generic).
    ///
    /// # Errors
    /// The operand is not an address, or names a space that memory instructions cannot.
    pub fn address(&mut self, operand: &Operand, space: Option<StateSpace>) -> Result<Address, String> {
        let (Operand::Address(address) | Operand::Tensor(address, _)) = operand else {
            return Err("an operand that is not an address".into());
        };
        let mut space = match space {
            None => Space::Generic,
            Some(StateSpace::Global | StateSpace::Const) => Space::Global,
            Some(StateSpace::Shared | StateSpace::SharedCta | StateSpace::SharedCluster) => Space::Shared,
            Some(StateSpace::Local | StateSpace::ParamFunc) => Space::Local,
            Some(StateSpace::Param | StateSpace::ParamEntry) => Space::Parameter,
            Some(StateSpace::Reg) => return Err("registers have no address".into()),
        };

        let (base, wide) = match address.base {
            AddressBase::Register(id) => {
                let wide = self.body().register_type(id).is_some_and(|ty| ty.bits() == 64);
                (self.register(id), wide)
            }
            AddressBase::Symbol(symbol) => {
                // Parameters of functions and of calls lie in local memory.
                if space == Space::Parameter && !(matches!(symbol, Symbol::Parameter(_)) && self.is_kernel()) {
                    space = Space::Local;
                }
                match self.local_address(symbol, 0, 64)? {
                    Some(slot) => (slot, true),
                    None => {
                        let place = self.symbol(symbol)?;
                        (self.constant(64, place), true)
                    }
                }
            }
            AddressBase::Absolute => (self.constant(64, 0), true),
        };

        Ok(Address { space, base, wide, offset: address.offset })
    }

    pub(in crate::exec) fn is_kernel(&self) -> bool {
        self.frame().return_slot.is_none()
    }

    /// The address of a symbol inside its own space.
    pub(in crate::exec) fn symbol(&self, symbol: Symbol) -> Result<u64, String> {
        let frame = self.frame();
        let place = match symbol {
            Symbol::Global(id) => match self.shared_globals.get(&id) {
                Some(&place) => Some(place),
                None => self.placement.addresses.get(id as usize).copied().filter(|&address| address != 0),
            },
            Symbol::Local(id) => match self.shared_locals.get(&(self.current, id)) {
                Some(&place) => Some(place),
                None => frame.variables.get(id as usize).copied(),
            },
            Symbol::Parameter(id) => frame.parameters.get(id as usize).copied(),
            Symbol::Result(id) => frame.results.get(id as usize).copied(),
            Symbol::Function(id) => Some(FUNCTION_WINDOW + u64::from(id)),
        };
        place.ok_or_else(|| "a symbol without a place".into())
    }

    fn special(&mut self, special: SpecialRegister, ty: ScalarType) -> Slot {
        use SpecialRegister::*;
        match special {
            WarpSize => self.constant(ty.bits(), 32),
            Clock64 | Globaltimer | CurrentGraphExec => self.clock_slot(special),
            // `mov.u16` of a 32-bit special register takes its low half, which is where it lies.
            _ => *self.specials.entry(special).or_insert_with(|| {
                self.units += 1;
                self.units as Slot - 1
            }),
        }
    }

    /// The slot of a register that is read anew each time.
    pub(in crate::exec) fn clock_slot(&mut self, special: SpecialRegister) -> Slot {
        if let Some(&slot) = self.specials.get(&special) {
            return slot;
        }
        let slot = self.new_slot(64);
        self.specials.insert(special, slot);
        slot
    }
}

/// The bits that a constant has as a value of type `ty`, zero-extended.
pub fn immediate_bits(immediate: Immediate, ty: ScalarType) -> u64 {
    let value = match (immediate, ty) {
        (Immediate::F32(bits), ScalarType::F64) => f64::from(f32::from_bits(bits)).to_bits(),
        (Immediate::F32(bits), _) => bits.into(),
        (Immediate::F64(bits), ScalarType::F32) => (f64::from_bits(bits) as f32).to_bits().into(),
        (Immediate::F64(bits), _) => bits,
        (Immediate::Integer(value), ScalarType::F32) => (value as i64 as f32).to_bits().into(),
        (Immediate::Integer(value), ScalarType::F64) => (value as i64 as f64).to_bits(),
        (Immediate::Integer(value), _) => value,
    };
    match ty.bits() {
        bits @ 1..64 => value & ((1 << bits) - 1),
        _ => value,
    }
}
