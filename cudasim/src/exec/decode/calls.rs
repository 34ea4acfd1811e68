//! Calls: arguments into the callee's parameters, results back from where it leaves them.

use super::Code;
use crate::exec::operands::decoded::Decoded;
use crate::exec::operands::decoder::Decoder;
use crate::exec::ops;
use crate::exec::program::step::{Action, Call, Control, Flow};
use crate::exec::state::warp::{copy_local, mark_local};
use crate::mask::lanes;
use crate::memory::FUNCTION_WINDOW;
use crate::ptx::module::{Instruction, Parameter, Symbol};
use crate::ptx::operand::Operand;
use crate::ptx::types::ScalarType;

impl Code {
    /// `call`, direct or through a register: the jump, and behind it the copying of results.
    pub(super) fn call(
        &mut self,
        decoder: &mut Decoder<'_>,
        index: usize,
        instruction: &Instruction,
    ) -> Result<(), String> {
        let [Operand::List(results), callee, Operand::List(arguments), ..] = instruction.operands.as_slice() else {
            return Err("a call without its lists".into());
        };
        let arguments = arguments.iter().map(|operand| decoder.call_operand(operand)).collect::<Result<Vec<_>, _>>()?;
        let results = results.iter().map(|operand| decoder.call_operand(operand)).collect::<Result<Vec<_>, _>>()?;

        match callee {
            Operand::Symbol(Symbol::Function(id), 0) => {
                let function = *id as usize;
                match decoder.module().functions.get(function) {
                    Some(callee) if callee.body.is_some() => {}
                    callee => {
                        let name = callee.map_or("", |callee| callee.name.as_str()).to_owned();
                        return self.system_call(decoder, index, instruction, &name, &arguments, results);
                    }
                }
                let call = decoder.call(function, &arguments)?;
                self.push(Control::Call(Box::new(call)).into(), decoder, instruction, index);
                let back = decoder.results(function, &results)?;
                if !back.is_empty() {
                    let copy = Decoded::effect(move |context, mask| {
                        copy_local(context.warp, &back, mask);
                        Ok(Flow::Next)
                    });
                    self.push(copy, decoder, instruction, index);
                }
                Ok(())
            }
            Operand::Register(_) => self.indirect_call(decoder, index, instruction, &arguments, &results),
            _ => Err("a call of something that is not a function".into()),
        }
    }

    /// A call of a function that is only declared: the system may have it.
    fn system_call(
        &mut self,
        decoder: &Decoder<'_>,
        index: usize,
        instruction: &Instruction,
        name: &str,
        arguments: &[(u64, u64)],
        results: Vec<(u64, u64)>,
    ) -> Result<(), String> {
        let decoded = ops::system_call(name, arguments, &results)?;
        self.push(decoded, decoder, instruction, index);

        // What the system returns counts as written.
        let written = Decoded::effect(move |context, mask| {
            mark_local(context.warp, &results, mask);
            Ok(Flow::Next)
        });
        self.push(written, decoder, instruction, index);
        Ok(())
    }

    /// A call through a register, of any function that has these arguments and results.
    fn indirect_call(
        &mut self,
        decoder: &mut Decoder<'_>,
        index: usize,
        instruction: &Instruction,
        arguments: &[(u64, u64)],
        results: &[(u64, u64)],
    ) -> Result<(), String> {
        let slot = decoder.value(&instruction.operands[1], ScalarType::B64)?;
        let lengths: Vec<u64> = arguments.iter().map(|&(_, length)| length).collect();

        // Each function leaves its results in a place of its own.
        let (mut calls, mut back) = (Vec::new(), Vec::new());
        for function in 0..decoder.module().functions.len() {
            let fits = decoder.fits(function, &lengths, results);
            calls.push(if fits { Some(Box::new(decoder.call(function, arguments)?)) } else { None });
            back.push(if fits { decoder.results(function, results)? } else { Vec::new() });
        }

        self.push(Control::CallIndirect(slot, calls).into(), decoder, instruction, index);
        if results.is_empty() {
            return Ok(());
        }

        let copy = Decoded::effect(move |context, mask| {
            let functions = context.registers().get::<u64>(slot);
            for lane in lanes(mask) {
                let function = functions[lane].wrapping_sub(FUNCTION_WINDOW) as usize;
                if let Some(pieces) = back.get(function) {
                    copy_local(context.warp, pieces, 1 << lane);
                }
            }
            Ok(Flow::Next)
        });

        self.push(copy, decoder, instruction, index);
        Ok(())
    }

    /// Fills in where calls go and what they put aside, now that every function has its place.
    pub(super) fn link(&mut self) {
        let (starts, activations) = (&self.starts, &self.activations);
        let resolve = |call: &mut Call| {
            if let Some(&start) = starts.get(&call.function) {
                call.target = start;
            }
            call.activation = activations.get(&call.function).cloned();
        };
        for (step, origin) in self.steps.iter_mut().zip(&self.origins) {
            match &mut step.action {
                Action::Control(Control::Call(call)) => resolve(call),
                Action::Control(Control::CallIndirect(_, calls)) => {
                    calls.iter_mut().flatten().for_each(|call| resolve(call));
                }
                Action::Control(Control::Return(_, activation)) => {
                    *activation = activations.get(&(origin.function as usize)).cloned();
                }
                _ => {}
            }
        }
    }
}

impl Decoder<'_> {
    /// Where an argument or result of a call lies in local memory, and its size.
    fn call_operand(&mut self, operand: &Operand) -> Result<(u64, u64), String> {
        match operand {
            Operand::Symbol(symbol @ Symbol::Local(id), 0) => {
                let size = self.body().variables.get(*id as usize).map_or(0, |variable| variable.size);
                Ok((self.symbol(*symbol)?, size))
            }
            Operand::Symbol(symbol @ Symbol::Parameter(id), 0) if !self.is_kernel() => {
                let function = &self.module().functions[self.current];
                Ok((self.symbol(*symbol)?, function.parameters.get(*id as usize).map_or(0, |p| p.size)))
            }
            Operand::Symbol(symbol @ Symbol::Result(id), 0) => {
                let function = &self.module().functions[self.current];
                Ok((self.symbol(*symbol)?, function.results.get(*id as usize).map_or(0, |p| p.size)))
            }
            _ => Err("an argument of a call that is not a .param variable".into()),
        }
    }

    /// Whether `function` has code here and takes and returns what a call has.
    fn fits(&self, function: usize, arguments: &[u64], results: &[(u64, u64)]) -> bool {
        let signature = &self.module().functions[function];
        let sizes = |parameters: &[Parameter]| parameters.iter().map(|p| p.size).collect::<Vec<_>>();
        self.frames.get(&function).is_some_and(|frame| frame.return_slot.is_some())
            && sizes(&signature.parameters) == arguments
            && sizes(&signature.results) == results.iter().map(|&(_, size)| size).collect::<Vec<_>>()
    }

    /// A call of `function`; where its code starts is filled in later.
    fn call(&mut self, function: usize, arguments: &[(u64, u64)]) -> Result<Call, String> {
        let name = self.module().functions[function].name.clone();
        let frame = self.frames.get(&function).ok_or("a call of a function without code")?;
        let return_slot = frame.return_slot.ok_or("a kernel cannot be called")?;
        let pieces = arguments.iter().zip(&frame.parameters).map(|(&(from, size), &to)| (from, to, size)).collect();
        Ok(Call { function, target: 0, return_slot, arguments: pieces, name, activation: None })
    }

    /// What to copy after a call of `function`.
    fn results(&self, function: usize, results: &[(u64, u64)]) -> Result<Vec<(u64, u64, u64)>, String> {
        let frame = self.frames.get(&function).ok_or("a call of a function without code")?;
        Ok(results.iter().zip(&frame.results).map(|(&(to, size), &from)| (from, to, size)).collect())
    }
}
