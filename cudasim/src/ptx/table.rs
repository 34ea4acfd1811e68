//! The table of instructions: reads `table/*.txt` once and matches mnemonics against it.
//!
//! A row is `opcode  slot slot ... : operand operand ...`. An instruction that fits no row is refused, so adding one
//! is adding its row (and its names to [`super::opcode`]).
//!
//! A slot is one modifier, or alternatives split by `|`, and may be left out where it ends in `?`. `$name` stands for
//! the words of an earlier `let name = ...`; a `*` in a word stands for digits. Modifiers up to a `/` belong to the name
//! and stand where the ISA has them (`mul.wide`, `cp.async.bulk`). The others may come in any order, as `ptxas` takes
//! them, except that types, state spaces, layouts and the like keep their order among themselves.
//!
//! An operand is
//! * `0`, `1`, ...: a value of the first, second, ... type among the modifiers; a type's name: a value of that type;
//! * with `w`: its register may be wider; with `s`: a symbol's address may stand there;
//!   with `v`: a vector where `.v2`, `.v4` or `.v8` is among the modifiers;
//! * `{b16*2}`: a vector of two; `{b16}`: of any length; `{a} {b} {c} {d}`: a matrix fragment;
//! * `part`: a word, or parts of one, as video instructions take them;
//! * `!pred`: a predicate that may be negated; `0|pred`: a value and optionally, after `|`, a predicate;
//! * `#`: an integer constant; `[]`: an address; `[t]`: a tensor map with coordinates; `addr`: an address as a value;
//! * `policy`: the `.b64` policy that comes with `.L2::cache_hint`, and only then;
//! * `label`, `targets`, `call`: of `bra`, `brx` and `call`;
//!
//! and is written to after `=`, read and written after `+`, read otherwise; `?` at its end: it may be left out.

use super::opcode::Opcode;
use super::types::{ScalarType, StateSpace};
use std::collections::HashMap;
use std::sync::OnceLock;

/// One legal mnemonic of an instruction, with the operands it takes.
#[derive(Debug)]
pub(super) struct Row {
    slots: Vec<Slot>,
    /// How many of the first slots belong to the name.
    head: usize,
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
    Part,
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
        let opcode = Opcode::from_name(name).ok_or_else(|| format!("{name} is not in the list of opcodes"))?;
        let modifiers: Vec<_> = modifiers.collect();
        let head = modifiers.iter().position(|&word| word == "/");
        let slots = modifiers.iter().filter(|&&word| word != "/");

        let row = Row {
            slots: slots.map(|slot| slot_of(slot, &classes)).collect::<Result<_, _>>()?,
            head: head.unwrap_or(0),
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
        "part" => What::Part,
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
    /// Whether these modifiers fit, in the order of the slots. `furthest` rises to the number of modifiers that fitted.
    pub(super) fn fits(&self, modifiers: &[&str], furthest: &mut usize) -> bool {
        fits(&self.slots, modifiers, 0, furthest)
    }

    /// These modifiers in the order of the slots, where they fit in any order. `furthest` as of [`Row::fits`].
    pub(super) fn arrange<'a>(&self, modifiers: &[&'a str], furthest: &mut usize) -> Option<Vec<&'a str>> {
        let mut taken = vec![None; self.slots.len()];
        if modifiers.len() > taken.len() {
            return None;
        }
        self.arrange_from(modifiers, 0, &mut taken, furthest).then(|| taken.into_iter().flatten().collect())
    }

    /// Puts the modifiers from number `done` on into slots that are free.
    fn arrange_from<'a>(
        &self,
        modifiers: &[&'a str],
        done: usize,
        taken: &mut [Option<&'a str>],
        furthest: &mut usize,
    ) -> bool {
        *furthest = done.max(*furthest);
        let Some(&word) = modifiers.get(done) else {
            return self.slots.iter().zip(&*taken).all(|(slot, taken)| slot.optional || taken.is_some());
        };

        // The name first; and behind what it keeps its order with.
        let behind = |taken: &[Option<&str>]| {
            let last = taken.iter().rposition(|other| other.is_some_and(|other| keep_order(other, word)));
            last.map_or(0, |last| last + 1)
        };
        let named = |taken: &[Option<&str>], place: usize| {
            let head = &self.slots[..self.head.min(place)];
            head.iter().zip(taken).all(|(slot, taken)| slot.optional || taken.is_some())
                && (place >= self.head || taken[place..].iter().all(Option::is_none))
        };

        for place in behind(taken)..self.slots.len() {
            let free = taken[place].is_none() && named(taken, place);
            if !free || !self.slots[place].words.iter().any(|pattern| word_fits(pattern, word)) {
                continue;
            }
            taken[place] = Some(word);
            if self.arrange_from(modifiers, done + 1, taken, furthest) {
                return true;
            }
            taken[place] = None;
        }
        false
    }
}

/// Whether two modifiers mean something else where they change places: `cvt.f32.f16`, `mma.row.col`.
fn keep_order(a: &str, b: &str) -> bool {
    let kind = |word: &str| match word {
        "row" | "col" => 1,
        "and" | "or" | "xor" | "popc" => 2,
        _ if ScalarType::from_name(word).is_some() => 3,
        _ if StateSpace::from_name(word).is_some() => 4,
        _ if word.starts_with("L2::evict") => 5,
        _ => 0,
    };
    kind(a) != 0 && kind(a) == kind(b)
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
    fn modifiers_are_arranged_as_the_table_has_them() {
        let arrange = |opcode, text: &str| {
            let words: Vec<_> = text.split('.').collect();
            let found = rows(opcode).iter().find_map(|row| row.arrange(&words, &mut 0));
            found.map(|words| words.join("."))
        };
        let old = arrange(Opcode::Ldmatrix, "sync.aligned.x4.trans.m8n8.shared.b16");
        assert_eq!(old.as_deref(), Some("sync.aligned.m8n8.x4.trans.shared.b16"));
        let atomic = arrange(Opcode::Atom, "add.acq_rel.gpu.s32");
        assert_eq!(atomic.as_deref(), Some("acq_rel.gpu.add.s32"));

        // What belongs to the name comes first; types, spaces and layouts keep their order.
        assert_eq!(arrange(Opcode::Mul, "s32.wide"), None);
        assert_eq!(arrange(Opcode::Mad, "lo.u32.cc").as_deref(), Some("lo.cc.u32"));
        assert_eq!(arrange(Opcode::Mad, "cc.lo.u32"), None);
        assert_eq!(arrange(Opcode::Cvt, "f16.f32"), None);
        assert_eq!(arrange(Opcode::Cvt, "f16.ftz.f32.rn").as_deref(), Some("rn.ftz.f16.f32"));
        assert_eq!(arrange(Opcode::Cp, "async.global.shared.cg"), None);
        assert_eq!(arrange(Opcode::Mma, "sync.aligned.m16n8k16.col.row.f32.bf16.bf16.f32"), None);

        // Nothing twice, nothing missing.
        for wrong in ["add.add.u32", "gpu.add", "gpu.cta.add.u32"] {
            assert_eq!(arrange(Opcode::Atom, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn star_stands_for_digits() {
        assert!(word_fits("m64n*k16", "m64n128k16"));
        assert!(!word_fits("m64n*k16", "m64nk16") && !word_fits("m64n*k16", "m64n8k8k16"));
    }
}
