//! Operands to slots and addresses.

use std::collections::HashMap;
use std::sync::Arc;

use crate::exec::operands::accumulators::AccumulatorRegisters;
use crate::exec::operands::reach;
use crate::exec::program::address::{Address, Space};
use crate::exec::program::registers::{Predicate, Slot};
use crate::exec::program::step::Control;
use crate::memory::FUNCTION_WINDOW;
use crate::ptx::module::{Body, Guard, Linkage, Module, Parameter, RegisterId, Symbol, Variable};
use crate::ptx::operand::{AddressBase, Immediate, Operand, SpecialRegister};
use crate::ptx::types::{ScalarType, StateSpace};

/// Registers, parameters and variables of one function of the kernel.
pub(in crate::exec) struct Frame {
    /// Slot of each register; index of each predicate.
    registers: Vec<Slot>,
    /// Places of the function's `.local` and `.param` variables in local memory.
    variables: Vec<u64>,
    /// Places of parameters and results in local memory; of a kernel, in its parameter block.
    pub(in crate::exec) parameters: Vec<u64>,
    pub(in crate::exec) results: Vec<u64>,
    /// Slot of return addresses; `None` for the kernel.
    pub(in crate::exec) return_slot: Option<Slot>,
}

/// What is known while a kernel is decoded.
pub struct Decoder<'a> {
    pub(in crate::exec) placement: &'a Placement<'a>,
    pub(in crate::exec) frames: HashMap<usize, Frame>,
    pub(in crate::exec) current: usize,
    pub(in crate::exec) units: usize,
    pub(in crate::exec) predicates: usize,
    pub(in crate::exec) constants: HashMap<(u32, u64), Slot>,
    pub(in crate::exec) specials: HashMap<SpecialRegister, Slot>,
    pub(in crate::exec) local_bytes: u64,
    pub(in crate::exec) shared_globals: HashMap<u32, u64>,
    pub(in crate::exec) shared_locals: HashMap<(usize, u32), u64>,
    pub(in crate::exec) shared_variables: Vec<(String, u64, u64)>,
    pub(in crate::exec) shared_start: u64,
    pub(in crate::exec) dynamic_shared: u64,
    /// Registers of wgmma.
    pub(in crate::exec) watch: AccumulatorRegisters,
}

impl<'a> Decoder<'a> {
    pub(in crate::exec) fn new(placement: &'a Placement<'a>, shared_start: u64) -> Self {
        Self {
            placement,
            frames: HashMap::new(),
            current: 0,
            units: 0,
            // Predicate 0 is never written: false.
            predicates: 1,
            constants: HashMap::new(),
            specials: HashMap::new(),
            local_bytes: 0,
            shared_globals: HashMap::new(),
            shared_locals: HashMap::new(),
            shared_variables: Vec::new(),
            shared_start,
            dynamic_shared: shared_start,
            watch: AccumulatorRegisters::default(),
        }
    }

    /// The module.
    pub fn module(&self) -> &'a Module {
        self.placement.module
    }

    /// The body of the function that is being decoded.
    pub fn body(&self) -> &'a Body {
        // Only functions with a body have a frame that is entered.
        self.module().functions[self.current].body.as_ref().expect("a function with code")
    }

    fn frame(&self) -> &Frame {
        &self.frames[&self.current]
    }

    pub(in crate::exec) fn units(&self) -> usize {
        self.units
    }

    pub(in crate::exec) fn local_bytes(&self) -> u64 {
        self.local_bytes
    }

    /// A slot of `bits` that nothing else uses.
    pub fn new_slot(&mut self, bits: u32) -> Slot {
        let slot = self.units;
        self.units += match bits {
            0..=32 => 1,
            33..=64 => 2,
            _ => 4,
        };
        slot as Slot
    }

    /// A predicate register that nothing else uses.
    pub fn new_predicate(&mut self) -> u32 {
        self.predicates += 1;
        self.predicates as u32 - 1
    }

    pub(in crate::exec) fn place_shared(&mut self, functions: &[usize]) -> Result<(), String> {
        let module = self.module();
        let mut next = self.shared_start;
        let mut dynamic_align = 16;
        let mut dynamic = Vec::new();

        for &function in functions {
            let Some(body) = &module.functions[function].body else { continue };
            for symbol in reach::symbols(body) {
                let variable = match symbol {
                    Symbol::Global(id) => module.variables.get(id as usize),
                    Symbol::Local(id) => body.variables.get(id as usize),
                    _ => None,
                };
                let Some(variable) = variable.filter(|variable| variable.space == StateSpace::Shared) else { continue };
                let known = match symbol {
                    Symbol::Global(id) => self.shared_globals.contains_key(&id) || dynamic.contains(&id),
                    Symbol::Local(id) => self.shared_locals.contains_key(&(function, id)),
                    _ => true,
                };
                if known {
                    continue;
                }
                if let Symbol::Global(id) = symbol
                    && (variable.linkage == Linkage::Extern || variable.size == 0)
                {
                    dynamic.push(id);
                    dynamic_align = dynamic_align.max(variable.align);
                    continue;
                }
                let place = next.next_multiple_of(variable.align.max(1));
                next = place.checked_add(variable.size).filter(|&end| end < 1 << 24).ok_or("too much shared memory")?;
                self.shared_variables.push((variable.name.clone(), place, variable.size));
                match symbol {
                    Symbol::Global(id) => self.shared_globals.insert(id, place),
                    Symbol::Local(id) => self.shared_locals.insert((function, id), place),
                    _ => None,
                };
            }
        }

        self.dynamic_shared = next.next_multiple_of(dynamic_align);
        for id in dynamic {
            self.shared_globals.insert(id, self.dynamic_shared);
        }
        Ok(())
    }

    /// Gives a function its registers and its piece of local memory.
    pub(in crate::exec) fn add_frame(&mut self, index: usize, is_kernel: bool) {
        let function = &self.module().functions[index];
        let Some(body) = &function.body else { return };

        let mut registers = Vec::with_capacity(body.register_count());
        for range in &body.registers {
            for _ in 0..range.count {
                registers.push(match range.ty {
                    ScalarType::Pred => self.new_predicate(),
                    ty => self.new_slot(ty.bits()),
                });
            }
        }

        let (variables, next) = lay_out(self.local_bytes.next_multiple_of(16), of_variables(&body.variables));
        let (parameters, next) = match is_kernel {
            true => (function.parameters.iter().map(|parameter| parameter.offset).collect(), next),
            false => lay_out(next, of_parameters(&function.parameters)),
        };
        let (results, next) = lay_out(next, of_parameters(&function.results));
        self.local_bytes = next.next_multiple_of(16);
        let return_slot = (!is_kernel).then(|| self.new_slot(32));
        self.frames.insert(index, Frame { registers, variables, parameters, results, return_slot });
    }

    pub(in crate::exec) fn enter_frame(&mut self, index: usize) {
        self.current = index;
    }

    /// What `ret` does here.
    pub(in crate::exec) fn leave(&self) -> Control {
        self.frame().return_slot.map_or(Control::Exit, Control::Return)
    }

    // Operands.

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
            Operand::Register(id) => self.register(*id),
            Operand::Immediate(immediate) => {
                let bits = immediate_bits(*immediate, ty);
                if ty.bits() > 64 {
                    return Err("a constant of 128 bits".into());
                }
                self.constant(ty.bits(), bits)
            }
            Operand::Symbol(symbol, offset) => {
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
            Operand::Register(id) => Ok(self.register(*id)),
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
                let place = self.symbol(symbol)?;
                (self.constant(64, place), true)
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

/// A module whose variables have addresses.
pub struct Placement<'a> {
    /// The module.
    pub module: &'a Arc<Module>,
    /// Address of each of its variables; 0 for shared ones.
    pub addresses: &'a [u64],
}

/// Where a parameter or variable ends.
pub(in crate::exec) fn end(offset: u64, size: u64) -> u64 {
    offset + size.max(1)
}

/// Lays out variables one behind another from `start`; returns their places and the end.
pub(in crate::exec) fn lay_out<'v>(start: u64, pieces: impl Iterator<Item = (u64, u64)> + 'v) -> (Vec<u64>, u64) {
    let mut next = start;
    let places = pieces
        .map(|(size, align)| {
            let place = next.next_multiple_of(align.max(1));
            next = end(place, size);
            place
        })
        .collect();
    (places, next)
}

pub(in crate::exec) fn of_parameters(parameters: &[Parameter]) -> impl Iterator<Item = (u64, u64)> {
    parameters.iter().map(|parameter| (parameter.size, parameter.align))
}

pub(in crate::exec) fn of_variables(variables: &[Variable]) -> impl Iterator<Item = (u64, u64)> {
    variables.iter().map(|variable| match variable.space {
        StateSpace::Local | StateSpace::Param => (variable.size, variable.align),
        _ => (0, 1),
    })
}
