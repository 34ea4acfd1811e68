//! A kernel, ready to run: its code with that of every function it may call, and what a launch must know.

use std::sync::Arc;

use crate::exec::program::definedness::Place;
use crate::exec::program::flow::DataFlow;
use crate::exec::program::registers::Slot;
use crate::exec::program::step::Step;
use crate::ptx::form::Form;
use crate::ptx::module::{LaunchBounds, Module, Parameter, RegisterId, SourceId};
use crate::ptx::operand::SpecialRegister;
use crate::report::SourceLine;

/// A decoded entry.
pub struct Kernel<E> {
    /// Its name.
    pub name: String,
    /// Its parameters, with their places in the parameter block.
    pub parameters: Vec<Parameter>,
    /// Bytes of the parameter block.
    pub parameter_bytes: u64,
    /// Launch bounds.
    pub bounds: LaunchBounds,
    /// The code; the kernel's own comes first.
    pub steps: Vec<Step<E>>,
    /// What each step reads and writes.
    pub flows: Vec<DataFlow>,
    /// Registers that some way through the code leaves without a value.
    pub watched: Vec<Place>,
    /// What each step was decoded from.
    pub origins: Vec<StepOrigin>,
    /// Units of registers of a warp.
    pub units: usize,
    /// Predicate registers of a warp.
    pub predicates: usize,
    /// Slots that hold constants, with their width in bits.
    pub constants: Vec<(Slot, u32, u64)>,
    /// Slots that hold special registers that do not change while a warp runs.
    pub specials: Vec<(Slot, SpecialRegister)>,
    /// Bytes of local memory of a thread, parameters of calls included.
    pub local_bytes: u64,
    /// Address of what the blocks of a cooperative launch meet at; 0 for none.
    pub workspace: u64,
    /// First shared address after the static variables: where dynamic shared memory starts.
    pub dynamic_shared: u64,
    /// Bytes of static shared memory.
    pub static_shared: u64,
    /// Names of static shared variables with their shared addresses and sizes, for reports.
    pub shared_variables: Vec<(String, u64, u64)>,
    /// The module, for names and positions.
    pub module: Arc<Module>,
}

/// What a step was decoded from.
#[derive(Clone)]
pub struct StepOrigin {
    /// The instruction's form.
    pub form: Arc<Form>,
    /// Its PTX line.
    pub line: u32,
    /// Its source position, in the body of `function`.
    pub source: Option<SourceId>,
    /// Index of its function in the module.
    pub function: u32,
}

impl<E> Kernel<E> {
    /// The name of a register of the function that a step is in.
    pub fn register_name(&self, pc: usize, register: RegisterId) -> String {
        let function = self.origins.get(pc).and_then(|origin| self.module.functions.get(origin.function as usize));
        let body = function.and_then(|function| function.body.as_ref());
        body.and_then(|body| body.register_name(register)).unwrap_or_default()
    }

    /// The source lines of a step, innermost first.
    pub fn source_lines(&self, pc: usize) -> Vec<SourceLine> {
        let Some(origin) = self.origins.get(pc) else { return Vec::new() };
        let body = self.module.functions.get(origin.function as usize).and_then(|function| function.body.as_ref());
        let Some(body) = body else { return Vec::new() };
        let mut lines = Vec::new();
        let mut next = origin.source;
        while let Some(source) = next.and_then(|id| body.sources.get(id.index())) {
            let file = self.module.file(source.file).unwrap_or("?").to_owned();
            lines.push(SourceLine { file, line: source.line });
            // Positions name earlier ones only, but a text may say anything.
            next = source.inlined_at.filter(|_| lines.len() < 32);
        }
        lines
    }
}

impl<E> crate::counters::Code for Kernel<E> {
    fn forms(&self) -> impl Iterator<Item = &Form> {
        self.origins.iter().map(|origin| &*origin.form)
    }
}

impl<T: crate::counters::Code> crate::counters::Code for Arc<T> {
    fn forms(&self) -> impl Iterator<Item = &Form> {
        (**self).forms()
    }
}
