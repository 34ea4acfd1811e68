//! The table of instructions: reads `table/*.txt` once and matches mnemonics against it.
//!
//! A row is `opcode  slot slot ... : operand operand ...`. An instruction that fits no row is refused, so adding one
//! is adding its row (and its names to [`super::opcode`]).
//!
//! A slot is one modifier, or alternatives split by `|`, and may be left out where it ends in `?`. `$name` stands for
//! the words of an earlier `let name = ...`; a `*` in a word stands for digits. Behind an opcode with `~` the modifiers
//! may come in any order.
//!
//! An operand is
//! * `0`, `1`, ...: a value of the first, second, ... type among the modifiers; a type's name: a value of that type;
//! * with `w`: its register may be wider; with `s`: a symbol's address may stand there;
//!   with `v`: a vector where `.v2`, `.v4` or `.v8` is among the modifiers;
//! * `{b16*2}`: a vector of two; `{b16}`: of any length; `{a} {b} {c} {d}`: a matrix fragment;
//! * `!pred`: a predicate that may be negated; `0|pred`: a value and optionally, after `|`, a predicate;
//! * `#`: an integer constant; `[]`: an address; `[t]`: a tensor map with coordinates; `addr`: an address as a value;
//! * `policy`: the `.b64` policy that comes with `.L2::cache_hint`, and only then;
//! * `label`, `targets`, `call`: of `bra`, `brx` and `call`;
//!
//! and is written to after `=`, read and written after `+`, read otherwise; `?` at its end: it may be left out.

use super::opcode::Opcode;
use super::types::ScalarType;
use std::collections::HashMap;
use std::sync::OnceLock;

/// One legal mnemonic of an instruction, with the operands it takes.
#[derive(Debug)]
pub(super) struct Row {
    slots: Vec<Slot>,
    any_order: bool,
    /// The operands, in order.
    pub operands: Vec<Pattern>,
}

#[derive(Debug)]
struct Slot {
    words: Vec<&'static str>,
    optional: bool,
}

/// An operand as the table writes it, before the types of the instruction are known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pattern {
    pub access: Access,
    pub what: What,
    pub optional: bool,
}

/// What an instruction does with an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads it. Address operands are read, whatever happens to the memory.
    Read,
    /// Writes it.
    Write,
    /// Reads it and writes it (the accumulators of wgmma).
    ReadWrite,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Value { ty: TypeName, wide: bool, symbol: bool, vector: bool, predicate: bool },
    Predicate,
    Vector { ty: TypeName, count: Option<usize> },
    Fragment(Fragment),
    Constant,
    Address,
    TensorAddress,
    AnyAddress,
    Policy,
    Label,
    Targets,
    Call,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum TypeName {
    /// The nth type among the modifiers.
    Nth(usize),
    Is(ScalarType),
}

/// Which matrix of D = A B + C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fragment {
    A,
    B,
    C,
    D,
}

type Rows = HashMap<Opcode, Vec<Row>>;

/// The rows of an instruction.
pub(super) fn rows(opcode: Opcode) -> &'static [Row] {
    static TABLE: OnceLock<Rows> = OnceLock::new();
    let table = TABLE.get_or_init(|| match read() {
        Ok(table) => table,
        // The table is part of this crate and read whole by a test: not a matter of input.
        Err(message) => panic!("cudasim's table of instructions: {message}"),
    });
    table.get(&opcode).map_or(&[], Vec::as_slice)
}

fn read() -> Result<Rows, String> {
    let texts =
        [include_str!("table/arithmetic.txt"), include_str!("table/memory.txt"), include_str!("table/tensor.txt")];
    let mut classes = HashMap::new();
    let mut table = Rows::new();

    for line in texts.iter().flat_map(|text| text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }

        // A class of words.
        if let Some(class) = line.strip_prefix("let ") {
            let (name, words) = class.split_once('=').ok_or_else(|| format!("no `=` in {line}"))?;
            if classes.insert(name.trim(), words.split_whitespace().collect::<Vec<_>>()).is_some() {
                return Err(format!("{name} is defined twice"));
            }
            continue;
        }

        // A row: opcode, slots, operands.
        let (modifiers, operands) = line.split_once(" :").ok_or_else(|| format!("no ` :` in {line}"))?;
        let mut modifiers = modifiers.split_whitespace();
        let name = modifiers.next().ok_or_else(|| format!("no opcode in {line}"))?;
        let (name, any_order) = name.strip_suffix('~').map_or((name, false), |name| (name, true));
        let opcode = Opcode::from_name(name).ok_or_else(|| format!("{name} is not in the list of opcodes"))?;

        let row = Row {
            any_order,
            slots: modifiers.map(|slot| slot_of(slot, &classes)).collect::<Result<_, _>>()?,
            operands: operands.split_whitespace().map(pattern).collect::<Result<_, _>>()?,
        };
        table.entry(opcode).or_default().push(row);
    }
    Ok(table)
}

fn slot_of(text: &'static str, classes: &HashMap<&str, Vec<&'static str>>) -> Result<Slot, String> {
    let (alternatives, optional) = optional(text);
    let mut words = Vec::new();
    for word in alternatives.split('|') {
        match word.strip_prefix('$') {
            Some(class) => words.extend(classes.get(class).ok_or_else(|| format!("no class {class}"))?),
            None => words.push(word),
        }
    }
    Ok(Slot { words, optional })
}

fn optional(text: &str) -> (&str, bool) {
    text.strip_suffix('?').map_or((text, false), |rest| (rest, true))
}

fn pattern(text: &str) -> Result<Pattern, String> {
    let (text, optional) = optional(text);
    let (access, text) = match (text.strip_prefix('='), text.strip_prefix('+')) {
        (Some(rest), _) => (Access::Write, rest),
        (_, Some(rest)) => (Access::ReadWrite, rest),
        _ => (Access::Read, text),
    };

    let what = match text {
        "#" => What::Constant,
        "[]" => What::Address,
        "[t]" => What::TensorAddress,
        "addr" => What::AnyAddress,
        "policy" => What::Policy,
        "label" => What::Label,
        "targets" => What::Targets,
        "call" => What::Call,
        "!pred" => What::Predicate,
        "{a}" => What::Fragment(Fragment::A),
        "{b}" => What::Fragment(Fragment::B),
        "{c}" => What::Fragment(Fragment::C),
        "{d}" => What::Fragment(Fragment::D),
        _ => match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(inside) => vector(inside)?,
            None => value(text)?,
        },
    };
    Ok(Pattern { access, what, optional })
}

fn vector(text: &str) -> Result<What, String> {
    let (ty, count) = match text.split_once('*') {
        Some((ty, count)) => (ty, Some(count.parse().map_err(|_| format!("length in {text}"))?)),
        None => (text, None),
    };
    Ok(What::Vector { ty: type_name(ty)?, count })
}

fn value(text: &str) -> Result<What, String> {
    let (text, predicate) = text.strip_suffix("|pred").map_or((text, false), |rest| (rest, true));
    let (ty, flags) = match text.as_bytes() {
        [digit, ..] if digit.is_ascii_digit() => text.split_at(1),
        _ => (text, ""),
    };
    if let Some(unknown) = flags.chars().find(|flag| !"wsv".contains(*flag)) {
        return Err(format!("unknown flag {unknown} of operand {text}"));
    }
    let has = |flag| flags.contains(flag);
    Ok(What::Value { ty: type_name(ty)?, wide: has('w'), symbol: has('s'), vector: has('v'), predicate })
}

fn type_name(text: &str) -> Result<TypeName, String> {
    if let Ok(nth) = text.parse() {
        return Ok(TypeName::Nth(nth));
    }
    ScalarType::from_name(text).map(TypeName::Is).ok_or_else(|| format!("unknown operand {text}"))
}

impl Row {
    /// Whether these modifiers fit. `furthest` rises to the number of modifiers that fitted.
    pub(super) fn fits(&self, modifiers: &[&str], furthest: &mut usize) -> bool {
        if self.any_order {
            return self.fits_in_any_order(modifiers, furthest);
        }
        fits(&self.slots, modifiers, 0, furthest)
    }

    fn fits_in_any_order(&self, modifiers: &[&str], furthest: &mut usize) -> bool {
        let mut open: Vec<&Slot> = self.slots.iter().collect();
        for (done, word) in modifiers.iter().enumerate() {
            *furthest = done.max(*furthest);
            let Some(place) = open.iter().position(|slot| slot.words.contains(word)) else { return false };
            open.remove(place);
        }
        *furthest = modifiers.len().max(*furthest);
        open.iter().all(|slot| slot.optional)
    }
}

fn fits(slots: &[Slot], modifiers: &[&str], done: usize, furthest: &mut usize) -> bool {
    *furthest = done.max(*furthest);
    let Some((slot, slots)) = slots.split_first() else { return modifiers.is_empty() };
    if let Some((word, modifiers)) = modifiers.split_first()
        && slot.words.iter().any(|pattern| word_fits(pattern, word))
        && fits(slots, modifiers, done + 1, furthest)
    {
        return true;
    }
    slot.optional && fits(slots, modifiers, done, furthest)
}

fn word_fits(pattern: &str, word: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == word,
        Some((head, tail)) => word
            .strip_prefix(head)
            .and_then(|rest| rest.strip_suffix(tail))
            .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ptx::opcode::{Modifier, Shape};
    use crate::ptx::types::StateSpace;

    #[test]
    fn the_table_reads_and_has_every_opcode_and_modifier() {
        let table = read().unwrap();
        for opcode in Opcode::ALL {
            assert!(table.contains_key(opcode), "{} has no row", opcode.name());
        }
        let words: Vec<_> = table.values().flatten().flat_map(|row| &row.slots).flat_map(|slot| &slot.words).collect();
        for modifier in Modifier::ALL {
            assert!(words.iter().any(|word| **word == modifier.name()), "{} is in no row", modifier.name());
        }
        for word in words {
            let known = Modifier::from_name(word).is_some()
                || ScalarType::from_name(word).is_some()
                || StateSpace::from_name(word).is_some()
                || Shape::from_name(&word.replace('*', "8")).is_some()
                || ["v2", "v4", "v8"].contains(word);
            assert!(known, "{word} has no meaning");
        }
    }

    #[test]
    fn optional_operands_come_last() {
        for row in read().unwrap().values().flatten() {
            let first = row.operands.iter().position(|operand| operand.optional).unwrap_or(row.operands.len());
            let late = row.operands.iter().skip(first);
            assert!(late.clone().all(|o| o.optional || matches!(o.what, What::Policy)), "{row:?}");
        }
    }

    #[test]
    fn matching() {
        let add = rows(Opcode::Add);
        let fits = |words: &[&str]| add.iter().any(|row| row.fits(words, &mut 0));
        assert!(fits(&["rn", "ftz", "f32"]) && fits(&["f32"]) && fits(&["cc", "u32"]));
        assert!(!fits(&["ftz", "rn", "f32"]) && !fits(&["rn", "s32"]) && !fits(&[]) && !fits(&["f32", "f32"]));
        let mut furthest = 0;
        assert!(!add.iter().any(|row| row.fits(&["rn", "up", "f32"], &mut furthest)));
        assert_eq!(furthest, 1);
    }

    #[test]
    fn atomics_take_their_modifiers_in_any_order() {
        let fits = |words: &[&str]| rows(Opcode::Atom).iter().any(|row| row.fits(words, &mut 0));
        assert!(fits(&["acq_rel", "gpu", "global", "add", "s32"]) && fits(&["add", "acq_rel", "gpu", "s32"]));
        assert!(fits(&["global", "sys", "add", "u32"]) && fits(&["add", "u32"]));
        assert!(!fits(&["add", "add", "u32"]) && !fits(&["gpu", "add"]) && !fits(&["gpu", "cta", "add", "u32"]));
    }

    #[test]
    fn star_stands_for_digits() {
        assert!(word_fits("m64n*k16", "m64n128k16"));
        assert!(!word_fits("m64n*k16", "m64nk16") && !word_fits("m64n*k16", "m64n8k8k16"));
    }
}
