//! Functions that may be entered while they run: what one activation of them has, and where its variables are.

use crate::exec::operands::decoder::Decoder;
use crate::exec::operands::reach;
use crate::exec::program::registers::Slot;
use crate::exec::program::step::Activation;
use crate::ptx::module::Symbol;
use crate::ptx::opcode::Opcode;
use crate::ptx::types::{ScalarType, StateSpace};

impl Decoder<'_> {
    /// Finds the functions that may call themselves, or take memory from the stack.
    pub(in crate::exec) fn find_recursion(&mut self, functions: &[usize]) {
        let module = self.module();
        let takes = |function: usize| {
            let body = module.functions[function].body.as_ref();
            body.is_some_and(|body| body.instructions.iter().any(|i| i.form.opcode == Opcode::Alloca))
        };
        let found =
            functions.iter().copied().filter(|&function| takes(function) || reach::is_recursive(module, function));
        self.recursive = found.collect();
    }

    /// The slot with the address of a `.local` variable, where it is not the same in every activation.
    pub(super) fn local_address(&mut self, symbol: Symbol, offset: i64, bits: u32) -> Result<Option<Slot>, String> {
        let Symbol::Local(id) = symbol else { return Ok(None) };
        let local = self.body().variables.get(id as usize).is_some_and(|variable| variable.space == StateSpace::Local);
        if !local || !self.recursive.contains(&self.current) {
            return Ok(None);
        }

        let place = self.symbol(symbol)?.wrapping_add_signed(offset);
        let key = (self.current, bits, place);
        if let Some(&slot) = self.local_addresses.get(&key) {
            return Ok(Some(slot));
        }
        let slot = self.new_slot(bits);
        self.local_addresses.insert(key, slot);
        Ok(Some(slot))
    }

    /// What belongs to one activation of a function that has been decoded; `None` where there is never more than one.
    pub(in crate::exec) fn activation(&self, index: usize) -> Option<Activation> {
        if !self.recursive.contains(&index) {
            return None;
        }
        let function = &self.module().functions[index];
        let (body, frame) = (function.body.as_ref()?, self.frames.get(&index)?);
        let mut activation = Activation { function: index, ..Activation::default() };

        // Registers, in the order of their declaration.
        let types = body.registers.iter().flat_map(|range| (0..range.count).map(|_| range.ty));
        let mut predicates = Vec::new();
        for (ty, &slot) in types.zip(&frame.registers) {
            match ty {
                ScalarType::Pred => predicates.push(slot as usize),
                _ => activation.registers.push((slot, ty.bits())),
            }
        }
        activation.predicates = span(predicates.iter().map(|&predicate| (predicate, 1)));

        // Variables and parameters.
        let variables = body.variables.iter().zip(&frame.variables);
        let (local, shared): (Vec<_>, Vec<_>) =
            variables.partition(|(variable, _)| variable.space == StateSpace::Local);
        let places = local.iter().map(|(variable, place)| (**place as usize, variable.size as usize));
        let places = span(places);
        activation.variables = places.start as u64..places.end as u64;
        let parameters = function.parameters.iter().zip(&frame.parameters).map(|(parameter, &at)| (at, parameter.size));
        let of_calls = shared.iter().filter(|(variable, _)| variable.space == StateSpace::Param);
        activation.parameters = parameters.chain(of_calls.map(|(variable, place)| (**place, variable.size))).collect();

        let addresses = self.local_addresses.iter().filter(|((function, ..), _)| *function == index);
        activation.addresses = addresses.map(|(&(_, bits, place), &slot)| (slot, bits, place)).collect();

        activation.units = span(activation.registers.iter().map(|&(slot, bits)| (slot as usize, units_of(bits))));
        Some(activation)
    }
}

fn units_of(bits: u32) -> usize {
    match bits {
        0..=32 => 1,
        33..=64 => 2,
        _ => 4,
    }
}

/// From the first to the end of the last of places with lengths.
fn span(places: impl Iterator<Item = (usize, usize)> + Clone) -> std::ops::Range<usize> {
    let start = places.clone().map(|(start, _)| start).min().unwrap_or(0);
    let end = places.map(|(start, length)| start + length).max().unwrap_or(start);
    start..end
}
