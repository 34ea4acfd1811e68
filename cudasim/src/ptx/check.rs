//! Whether the operands of an instruction are what its form takes.

use super::form::{Form, OperandKind, OperandRule};
use super::module::{Body, RegisterId};
use super::operand::{AddressBase, Immediate, Operand};
use super::table::Access;
use super::types::ScalarType;

/// The signature of `form` that `operands` follow: the first that fits.
///
/// # Errors
/// What is wrong, of the signature that fits furthest.
pub(super) fn signature(form: &Form, operands: &[Operand], body: &Body) -> Result<u8, String> {
    let mut best = (0, "takes no operands".to_string());
    for (index, rules) in form.signatures.iter().enumerate() {
        match follows(rules, operands, body) {
            Ok(()) => return u8::try_from(index).map_err(|_| "too many signatures".into()),
            Err(failure) if failure.0 >= best.0 => best = failure,
            Err(_) => {}
        }
    }
    Err(best.1)
}

fn follows(rules: &[OperandRule], operands: &[Operand], body: &Body) -> Result<(), (usize, String)> {
    if let [OperandRule { kind: OperandKind::Call, .. }] = rules {
        return Ok(());
    }

    // Optional operands may be left out at the end.
    let least = rules.iter().filter(|rule| !rule.optional).count();
    if operands.len() < least || operands.len() > rules.len() {
        let takes = if least == rules.len() { least.to_string() } else { format!("{least} to {}", rules.len()) };
        let shorter = operands.len().min(rules.len());
        // A wrong number tells less than a wrong operand before it.
        let reached = (0..shorter).take_while(|&i| one(rules, operands, i, body).is_ok()).count();
        return Err((reached, format!("takes {takes} operands, not {}", operands.len())));
    }

    for index in 0..operands.len() {
        one(rules, operands, index, body).map_err(|message| (index, format!("operand {}: {message}", index + 1)))?;
    }
    Ok(())
}

fn one(rules: &[OperandRule], operands: &[Operand], index: usize, body: &Body) -> Result<(), String> {
    match (rules.get(index), operands.get(index)) {
        (Some(rule), Some(operand)) => fits(rule, operand, body),
        _ => Err("is missing".into()),
    }
}

fn fits(rule: &OperandRule, operand: &Operand, body: &Body) -> Result<(), String> {
    use OperandKind::*;
    let written = rule.access != Access::Read;
    match (rule.kind, operand) {
        (Value { ty, wide, .. }, Operand::Pair(value, predicate)) if rule.predicate => {
            value.map_or(Ok(()), |register| width(register, ty, wide, body))?;
            predicate.map_or(Ok(()), |register| width(register, ScalarType::Pred, false, body))
        }
        (Value { ty, wide, .. }, Operand::Register(register)) => width(*register, ty, wide, body),
        (Value { symbol: true, .. }, Operand::Symbol(..)) if !written => Ok(()),
        (Value { .. }, Operand::Immediate(_) | Operand::Special(_)) if !written => Ok(()),
        (Value { .. }, Operand::Sink) if written => Ok(()),
        // A vector of one may stand for its element, as Triton writes it.
        (Value { .. }, Operand::Vector(elements)) if elements.len() == 1 => fits(rule, &elements[0], body),
        (Value { .. }, _) if written => Err("must be a register".into()),
        (Value { .. }, _) => Err("must be a register or a constant".into()),

        (Part, Operand::Register(register) | Operand::Part(register, _)) => {
            width(*register, ScalarType::B32, false, body)
        }
        (Part, Operand::Immediate(_)) if !written => Ok(()),
        (Part, Operand::Sink) if written => Ok(()),
        (Part, _) => Err("must be a register, or parts of one".into()),

        (Predicate, Operand::Register(register) | Operand::Not(register)) => {
            width(*register, ScalarType::Pred, false, body)
        }
        (Predicate, Operand::Immediate(Immediate::Integer(_))) => Ok(()),
        (Predicate, _) => Err("must be a predicate".into()),

        (Vector { ty, count, wide }, Operand::Vector(elements)) => {
            if let Some(count) = count.filter(|&count| count != elements.len()) {
                return Err(format!("must be a vector of {count}, not of {}", elements.len()));
            }
            elements.iter().try_for_each(|element| fits_in_vector(element, ty, wide, written, body))
        }
        // A vector of one may be written without braces.
        (Vector { ty, count: Some(1), wide }, Operand::Register(register)) => width(*register, ty, wide, body),
        (Vector { .. }, _) => Err("must be a vector in braces".into()),

        (Constant, Operand::Immediate(Immediate::Integer(_))) => Ok(()),
        (Constant, _) => Err("must be an integer constant".into()),

        (Address, Operand::Address(address)) => address_width(address.base, body),
        (Address, _) => Err("must be an address in brackets".into()),
        (TensorAddress, Operand::Tensor(address, coordinates)) => {
            address_width(address.base, body)?;
            fit_as_coordinates(coordinates, body)
        }
        (TensorAddress, _) => Err("must be a tensor map with coordinates, `[map, {x, y}]`".into()),
        (AnyAddress, Operand::Register(register)) => address_width(AddressBase::Register(*register), body),
        (AnyAddress, Operand::Symbol(..)) => Ok(()),
        (AnyAddress, _) => Err("must be an address".into()),

        (Label, Operand::Label(_)) | (Targets, Operand::Targets(_)) => Ok(()),
        (Label | Targets, _) => Err("must be a label".into()),
        (Call, _) => Ok(()),
    }
}

fn fits_in_vector(element: &Operand, ty: ScalarType, wide: bool, written: bool, body: &Body) -> Result<(), String> {
    match element {
        Operand::Register(register) => width(*register, ty, wide, body),
        Operand::Immediate(_) if !written => Ok(()),
        Operand::Sink if written => Ok(()),
        _ => Err("has an element that cannot stand in a vector".into()),
    }
}

fn fit_as_coordinates(coordinates: &[Operand], body: &Body) -> Result<(), String> {
    if !(1..=5).contains(&coordinates.len()) {
        return Err(format!("has {} coordinates; a tensor has 1 to 5", coordinates.len()));
    }
    coordinates.iter().try_for_each(|coordinate| match coordinate {
        Operand::Register(register) => width(*register, ScalarType::S32, false, body),
        Operand::Immediate(Immediate::Integer(_)) => Ok(()),
        _ => Err("has a coordinate that is neither register nor constant".into()),
    })
}

fn width(register: RegisterId, ty: ScalarType, wide: bool, body: &Body) -> Result<(), String> {
    let Some(found) = body.register_type(register) else { return Err("is an unknown register".into()) };
    let predicate = ty == ScalarType::Pred;
    let fits = if predicate || found == ScalarType::Pred {
        predicate && found == ScalarType::Pred
    } else if wide {
        found.bits() >= ty.bits()
    } else {
        found.bits() == ty.bits()
    };

    if fits {
        return Ok(());
    }
    let name = body.register_name(register).unwrap_or_default();
    Err(format!("`{name}` is a .{} register where a .{} is wanted", found.name(), ty.name()))
}

fn address_width(base: AddressBase, body: &Body) -> Result<(), String> {
    let AddressBase::Register(register) = base else { return Ok(()) };
    match body.register_type(register).map(ScalarType::bits) {
        Some(32 | 64) => Ok(()),
        _ => Err("an address must be in a register of 32 or 64 bits".into()),
    }
}
