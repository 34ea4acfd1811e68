//! Registers, parameters and variables of the functions of a kernel.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::exec::operands::accumulators::AccumulatorRegisters;
use crate::exec::operands::reach;
use crate::exec::program::registers::Slot;
use crate::exec::program::step::Control;
use crate::ptx::module::{Body, Linkage, Module, Parameter, Symbol, Variable};
use crate::ptx::operand::SpecialRegister;
use crate::ptx::types::{ScalarType, StateSpace};

/// Registers, parameters and variables of one function of the kernel.
pub(in crate::exec) struct Frame {
    /// Slot of each register; index of each predicate.
    pub(super) registers: Vec<Slot>,
    /// Places of the function's `.local` and `.param` variables in local memory.
    pub(super) variables: Vec<u64>,
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
    /// Functions that may be entered while they run, or take memory from the stack.
    pub(in crate::exec) recursive: HashSet<usize>,
    /// Slots with the address of a `.local` variable of such a function: by function, bits and address.
    pub(in crate::exec) local_addresses: HashMap<(usize, u32, u64), Slot>,
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
            recursive: HashSet::new(),
            local_addresses: HashMap::new(),
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

    pub(super) fn frame(&self) -> &Frame {
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
        self.frame().return_slot.map_or(Control::Exit, |slot| Control::Return(slot, None))
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
