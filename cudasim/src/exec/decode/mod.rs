//! From a checked module to a kernel that runs: places for registers and variables, and a step for each instruction.
//!
//! The kernel's code is followed by that of every function that it may call, each with registers and local memory of its
//! own. A call copies its arguments into the callee's parameters and its return address into a slot of the callee, so lanes
//! may be in different functions. Functions that may call themselves have an [`Activation`], which is put aside when they do.

mod calls;
mod flows;
pub mod program;
mod undefined;

use flows::Facts;

use std::collections::HashMap;
use std::sync::Arc;

use crate::exec::operands::decoded::Decoded;
use crate::exec::operands::decoder::{Decoder, Placement};
use crate::exec::operands::reach;
use crate::exec::ops::{self, clock};
use crate::exec::program::definedness::Place;
use crate::exec::program::flow::DataFlow;
use crate::exec::program::kernel::StepOrigin;
use crate::exec::program::step::{ALWAYS, Action, Activation, Compute, Control, FROM_START, Operands};
use crate::exec::state::context::{Kernel, Step};
use crate::memory::SHARED_RESERVED;
use crate::ptx::PtxError;
use crate::ptx::module::{Body, Instruction, LabelId};
use crate::ptx::opcode::Opcode;
use crate::ptx::operand::Operand;

/// Limits of what one kernel may take, so that hostile text is refused and not obeyed.
const MAX_UNITS: usize = 1 << 16;
const MAX_LOCAL_BYTES: u64 = 512 << 10;

/// Decodes the kernel that is function `entry` of the module.
///
/// # Errors
/// The first instruction that the simulator does not execute, by name and line.
pub fn kernel(placement: &Placement<'_>, entry: usize) -> Result<Kernel, PtxError> {
    let module = placement.module;
    let function = &module.functions[entry];
    let reached = reach::functions(module, entry);
    let mut decoder = Decoder::new(placement, SHARED_RESERVED);
    decoder.find_recursion(&reached);
    decoder.place_shared(&reached).map_err(|message| PtxError::new(function.line, 0, message))?;

    // Frames first: a call must know where the parameters of a function lie that comes later.
    for &index in &reached {
        decoder.add_frame(index, index == entry);
    }
    if decoder.local_bytes() > MAX_LOCAL_BYTES {
        let message = format!("local memory of {} bytes is over the limit of {MAX_LOCAL_BYTES}", decoder.local_bytes());
        return Err(PtxError::new(function.line, 0, message));
    }

    let mut code = Code::default();
    for &index in &reached {
        let body = module.functions[index].body.as_ref();
        let Some(body) = body else { continue };
        decoder.enter_frame(index);
        decoder.find_watched();
        let watched = code.watched.len();
        code.function(&mut decoder, index, body)?;
        if index != entry
            && let Some(mut activation) = decoder.activation(index)
        {
            activation.watched = code.watched[watched..].to_vec();
            code.activations.insert(index, Arc::new(activation));
        }
    }

    if decoder.units() > MAX_UNITS {
        return Err(PtxError::new(function.line, 0, "too many registers"));
    }
    code.link();
    Ok(finish(decoder, entry, code))
}

/// The kernel that is function `entry`, of what has been decoded.
fn finish(decoder: Decoder<'_>, entry: usize, code: Code) -> Kernel {
    let module = decoder.placement.module;
    let function = &module.functions[entry];
    let mut constants: Vec<_> = decoder.constants.iter().map(|(&(bits, value), &slot)| (slot, bits, value)).collect();
    constants.extend(decoder.local_addresses.iter().map(|(&(_, bits, place), &slot)| (slot, bits, place)));
    constants.sort_unstable();
    let mut specials: Vec<_> = decoder.specials.iter().map(|(&special, &slot)| (slot, special)).collect();
    specials.sort_unstable_by_key(|&(slot, _)| slot);
    let static_end = decoder.shared_variables.iter().map(|(_, start, bytes)| start + bytes).max();

    Kernel {
        name: function.name.clone(),
        parameters: function.parameters.clone(),
        parameter_bytes: function.parameter_bytes(),
        bounds: function.launch.clone(),
        steps: code.steps,
        flows: code.flows,
        watched: code.watched,
        origins: code.origins,
        units: decoder.units.max(1),
        predicates: decoder.predicates,
        constants,
        specials,
        local_bytes: decoder.local_bytes,
        workspace: decoder.placement.addresses.get(module.variables.len()).copied().unwrap_or(0),
        dynamic_shared: decoder.dynamic_shared,
        static_shared: static_end.unwrap_or(decoder.shared_start) - decoder.shared_start,
        shared_variables: decoder.shared_variables,
        module: Arc::clone(module),
    }
}

/// The steps so far.
#[derive(Default)]
struct Code {
    steps: Vec<Step>,
    origins: Vec<StepOrigin>,
    /// What each step reads and writes.
    flows: Vec<DataFlow>,
    /// Registers that may lack a value.
    watched: Vec<Place>,
    /// First step of each function.
    starts: HashMap<usize, u32>,
    /// What belongs to one activation, of functions that may call themselves.
    activations: HashMap<usize, Arc<Activation>>,
    /// Of each instruction of the function that is being decoded: its first step.
    places: Vec<u32>,
    /// What steps compute that check something before.
    checked: HashMap<usize, (Compute, Operands)>,
}

impl Code {
    fn push(&mut self, decoded: Decoded, decoder: &Decoder<'_>, instruction: &Instruction, function: usize) {
        let guard = instruction.guard.map(|guard| decoder.guard(guard));
        self.steps.push(Step { action: decoded.action, operands: decoded.operands, guard, watch: ALWAYS });
        self.flows.push(DataFlow::default());
        self.origins.push(StepOrigin {
            form: Arc::clone(&instruction.form),
            line: instruction.line,
            source: instruction.source,
            function: function as u32,
        });
    }

    fn function(&mut self, decoder: &mut Decoder<'_>, index: usize, body: &Body) -> Result<(), PtxError> {
        let first = self.steps.len();
        self.starts.insert(index, first as u32);
        self.places.clear();

        for instruction in &body.instructions {
            self.places.push(self.steps.len() as u32);
            self.instruction(decoder, index, instruction)
                .map_err(|message| PtxError::new(instruction.line, 0, message))?;
        }

        self.places.push(self.steps.len() as u32);

        // A body that ends without `ret` returns.
        if let Some(last) = body.instructions.last() {
            let end = Instruction { guard: None, ..last.clone() };
            self.push(decoder.leave().into(), decoder, &end, index);
        }

        // Labels are known only now.
        let places = &self.places;
        let place = |label: u32| -> u32 {
            let target = body.labels.get(label as usize).map_or(0, |label| label.target);
            places.get(target).copied().unwrap_or(0)
        };

        for step in &mut self.steps[first..] {
            match &mut step.action {
                Action::Control(Control::Branch(target)) => *target = place(*target),
                Action::Control(Control::Table(_, targets)) => targets.iter_mut().for_each(|t| *t = place(*t)),
                _ => {}
            }
        }

        self.note(decoder, body);
        Ok(())
    }

    /// Says what each step reads and writes, and finds uses of registers that may lack a value.
    fn note(&mut self, decoder: &Decoder<'_>, body: &Body) {
        // What an instruction does is its last step; what comes before reads clocks.
        let last = |at: usize| self.places.get(at + 1).map_or(0, |&next| next as usize).wrapping_sub(1);
        let computes = |at: usize| {
            let step = self.steps.get(last(at));
            step.is_some_and(|step| undefined::computes(&step.action)) || self.checked.contains_key(&last(at))
        };
        let instructions = body.instructions.iter().enumerate();
        let facts: Vec<Facts> = instructions.map(|(at, i)| Facts::new(i, computes(at))).collect();
        let (watched, touching) = undefined::watch(body, &facts);

        // Of a call the first step counts, which jumps.
        let step_of = |at: usize| match body.instructions[at].form.opcode {
            Opcode::Call => self.places[at] as usize,
            _ => last(at),
        };
        let steps: Vec<usize> = (0..facts.len()).map(step_of).collect();
        for ((facts, instruction), &step) in facts.iter().zip(&body.instructions).zip(&steps) {
            if let Some(place) = self.flows.get_mut(step) {
                *place = facts.flow(decoder, &instruction.form);
                place.computes = self.checked.get(&step).copied();
            }
        }
        for at in touching {
            if let Some(step) = self.steps.get_mut(steps[at]) {
                step.watch |= FROM_START;
            }
        }
        self.watched.extend(watched.into_iter().flat_map(|register| flows::places(decoder, register)));
    }

    fn instruction(
        &mut self,
        decoder: &mut Decoder<'_>,
        index: usize,
        instruction: &Instruction,
    ) -> Result<(), String> {
        // Times are read anew before whatever reads them.
        for special in instruction.operands.iter().filter_map(clock::named) {
            let slot = decoder.clock_slot(special);
            self.push(clock::read(slot, special), decoder, instruction, index);
        }
        let decoded = match instruction.form.opcode {
            Opcode::Bra => match instruction.operands.first() {
                Some(Operand::Label(LabelId(label))) => Control::Branch(*label).into(),
                _ => return Err("a branch without a label".into()),
            },
            Opcode::Brx => match instruction.operands.as_slice() {
                [selector, Operand::Targets(table)] => {
                    let slot = decoder.value(selector, crate::ptx::ScalarType::B32)?;
                    let labels = decoder.body().branch_tables.get(*table as usize);
                    let labels = labels.ok_or("an unknown branch table")?.iter().map(|label| label.0).collect();
                    Control::Table(slot, labels).into()
                }
                _ => return Err("an indexed branch without a table".into()),
            },
            Opcode::Call => return self.call(decoder, index, instruction),
            Opcode::Ret => decoder.leave().into(),
            Opcode::Exit => Control::Exit.into(),
            _ => {
                let decoded = ops::decode(decoder, instruction)?;
                let computes = match decoded.action {
                    Action::Compute(function) => Some((function, decoded.operands)),
                    _ => None,
                };
                let watched = decoder.watch(instruction, decoded);
                if let (Some(computes), Action::Effect(_)) = (computes, &watched.action) {
                    self.checked.insert(self.steps.len(), computes);
                }
                watched
            }
        };

        self.push(decoded, decoder, instruction, index);
        Ok(())
    }
}
