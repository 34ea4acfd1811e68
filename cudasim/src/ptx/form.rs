//! A form: an instruction's opcode with its modifiers, checked against the table and sorted by kind, so that a decoder
//! matches on enums and never on strings.

use super::error::quote;
use super::opcode::{Modifier, Opcode, Shape};
use super::table::{self, Access, Fragment, Pattern, TypeName, What};
use super::types::{ScalarType, StateSpace};

/// An instruction without its operands: `ld.global.v2.f32`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// The base.
    pub opcode: Opcode,
    /// Modifiers that are none of the below, in order (`.row.col` may be `.row.row`).
    pub modifiers: Vec<Modifier>,
    /// Types, in order. Of `cvt` the destination comes first; of `mma` D, A, B, C.
    pub types: Vec<ScalarType>,
    /// State spaces, in order: of copies the destination comes first. None for generic addresses.
    pub spaces: Vec<StateSpace>,
    /// The shape of matrix instructions.
    pub shape: Option<Shape>,
    /// 2, 4 or 8 with `.v2`, `.v4`, `.v8`; 1 without.
    pub vector: u32,
    /// As the text spells it.
    pub mnemonic: String,
    /// The operand lists that it takes; an instruction says which it follows.
    pub signatures: Vec<Vec<OperandRule>>,
}

/// What an operand may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperandRule {
    /// Read or written.
    pub access: Access,
    /// What it is.
    pub kind: OperandKind,
    /// Whether a predicate may follow it after `|` (written as well).
    pub predicate: bool,
    /// Whether it may be left out.
    pub optional: bool,
}

/// The kinds of operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperandKind {
    /// A value.
    Value {
        /// Its type.
        ty: ScalarType,
        /// Whether the register may be wider than the type.
        wide: bool,
        /// Whether the address of a symbol may stand here.
        symbol: bool,
    },
    /// A word, or parts of one (`%r1.b0`).
    Part,
    /// A predicate that may be negated.
    Predicate,
    /// A vector of values.
    Vector {
        /// Type of its elements.
        ty: ScalarType,
        /// Its length, where it is fixed.
        count: Option<usize>,
        /// Whether the registers may be wider than the type.
        wide: bool,
    },
    /// An integer constant.
    Constant,
    /// `[...]`
    Address,
    /// `[map, {...}]`
    TensorAddress,
    /// An address as a value of 32 or 64 bits.
    AnyAddress,
    /// The label of a branch.
    Label,
    /// The table of an indexed branch.
    Targets,
    /// A call: results, callee, arguments, prototype. Its operands are a `List`, a `Symbol` or `Register`, a `List`
    /// and, for an indirect call, a `Prototype`.
    Call,
}

impl Form {
    /// The form of `opcode` with `modifiers` (no dots).
    ///
    /// # Errors
    /// A message that names what the table does not know.
    pub fn new(opcode: &str, modifiers: &[&str], mnemonic: &str) -> Result<Self, String> {
        let known = Opcode::from_name(opcode).ok_or_else(|| format!("unknown instruction {}", quote(mnemonic)))?;

        // The rows of the table that these modifiers fit, in their order or another; else, the modifier that no row takes.
        let mut furthest = 0;
        let ordered = in_order(known, modifiers, &mut furthest);
        let modifiers = ordered.as_deref().unwrap_or(modifiers);
        let fitting = table::rows(known).iter().filter(|row| row.fits(modifiers, &mut 0));
        let rows: Vec<_> = fitting.map(|row| &row.operands).collect();
        if rows.is_empty() {
            return Err(match modifiers.get(furthest) {
                Some(word) => format!("{} does not take {} here", quote(mnemonic), quote(&format!(".{word}"))),
                None => format!("{} lacks a modifier or type at its end", quote(mnemonic)),
            });
        }

        // Sort the modifiers by kind.
        let mut form = Self {
            opcode: known,
            modifiers: Vec::new(),
            types: Vec::new(),
            spaces: Vec::new(),
            shape: None,
            vector: 1,
            mnemonic: mnemonic.into(),
            signatures: Vec::new(),
        };
        for word in modifiers {
            form.sort(word)?;
        }

        // Each row is one signature.
        for operands in rows {
            let signature = operands.iter().filter_map(|pattern| form.rule(pattern).transpose());
            let signature = signature.collect::<Result<_, _>>().map_err(|m| format!("{}: {m}", quote(mnemonic)))?;
            form.signatures.push(signature);
        }
        Ok(form)
    }

    fn sort(&mut self, word: &str) -> Result<(), String> {
        match word {
            "v2" => self.vector = 2,
            "v4" => self.vector = 4,
            "v8" => self.vector = 8,

            _ => {
                if let Some(ty) = ScalarType::from_name(word) {
                    self.types.push(ty);
                } else if let Some(space) = StateSpace::from_name(word) {
                    self.spaces.push(space);
                } else if let Some(modifier) = Modifier::from_name(word) {
                    self.modifiers.push(modifier);
                } else if let Some(shape) = Shape::from_name(word) {
                    self.shape = Some(shape);
                } else {
                    return Err(format!("{} is not a shape that {} has", quote(word), quote(&self.mnemonic)));
                }
            }
        }

        Ok(())
    }

    /// Whether this modifier is there.
    pub fn has(&self, modifier: Modifier) -> bool {
        self.modifiers.contains(&modifier)
    }

    /// The first state space; `None` for generic addresses.
    pub fn space(&self) -> Option<StateSpace> {
        self.spaces.first().copied()
    }

    fn ty(&self, name: TypeName) -> Result<ScalarType, String> {
        match name {
            TypeName::Is(ty) => Ok(ty),
            TypeName::Nth(nth) => self.types.get(nth).copied().ok_or_else(|| format!("has no type number {nth}")),
        }
    }

    /// `None` for a policy that this form does not take.
    fn rule(&self, pattern: &Pattern) -> Result<Option<OperandRule>, String> {
        let mut with_predicate = false;
        let kind = match pattern.what {
            What::Value { ty, wide, symbol, vector, predicate } => {
                with_predicate = predicate;
                let ty = self.ty(ty)?;
                match vector && self.vector > 1 {
                    true => OperandKind::Vector { ty, count: Some(self.vector as usize), wide },
                    false => OperandKind::Value { ty, wide, symbol },
                }
            }
            What::Part => OperandKind::Part,
            What::Predicate => OperandKind::Predicate,
            What::Vector { ty, count } => OperandKind::Vector { ty: self.ty(ty)?, count, wide: false },
            What::Fragment(which) => {
                let (ty, count) = self.fragment(which).ok_or("has no shape or types for its matrices")?;
                OperandKind::Vector { ty, count: Some(count), wide: false }
            }
            What::Constant => OperandKind::Constant,
            What::Address => OperandKind::Address,
            What::TensorAddress => OperandKind::TensorAddress,
            What::AnyAddress => OperandKind::AnyAddress,
            What::Policy if !self.has(Modifier::L2CacheHint) => return Ok(None),
            What::Policy => OperandKind::Value { ty: ScalarType::B64, wide: false, symbol: false },
            What::Label => OperandKind::Label,
            What::Targets => OperandKind::Targets,
            What::Call => OperandKind::Call,
        };

        let Pattern { access, optional, .. } = *pattern;
        Ok(Some(OperandRule { access, kind, predicate: with_predicate, optional }))
    }

    /// Register type and number of registers that one lane holds of a matrix of `mma`, `wmma` or `wgmma`.
    fn fragment(&self, which: Fragment) -> Option<(ScalarType, usize)> {
        let Shape { m, n, k } = self.shape?;
        let (place, size) = match which {
            Fragment::D => (0, m * n),
            Fragment::A => (1, m * k),
            Fragment::B => (2, k * n),
            Fragment::C => (3, m * n),
        };

        let multiplicand = matches!(which, Fragment::A | Fragment::B);
        let ty = match (self.opcode, self.types.as_slice()) {
            // A load or a store names the type of its matrix, a product of f16 those of D and C.
            (Opcode::Wmma, &[ty]) => ty,
            (Opcode::Wmma, &[_, _]) if multiplicand => ScalarType::F16,
            (Opcode::Wmma, &[d, _]) if which == Fragment::D => d,
            (Opcode::Wmma, &[_, c]) => c,
            _ => *self.types.get(place)?,
        };

        // Of these hardware before Ampere holds each element several times.
        if self.opcode == Opcode::Wmma && multiplicand && ty == ScalarType::F16 {
            return Some((ScalarType::B32, 8));
        }

        let lanes = if self.opcode == Opcode::Wgmma { 128 } else { 32 };
        // The oldest shape multiplies four pairs of matrices, one for each quad pair of the warp.
        let matrices = if (m, n, k) == (8, 8, 4) && self.types.get(1) == Some(&ScalarType::F16) { 4 } else { 1 };
        let bits = (size * matrices / lanes * ty.bits()) as usize;
        Some(match ty {
            ScalarType::F64 => (ty, bits / 64),
            ScalarType::F32 | ScalarType::S32 => (ty, bits / 32),
            _ => (ScalarType::B32, bits / 32),
        })
    }
}

/// The modifiers in the order of the table, where they have another. `furthest` rises to the number that fitted.
fn in_order<'a>(opcode: Opcode, modifiers: &[&'a str], furthest: &mut usize) -> Option<Vec<&'a str>> {
    let rows = table::rows(opcode);
    if rows.iter().any(|row| row.fits(modifiers, furthest)) {
        return None;
    }
    rows.iter().find_map(|row| row.arrange(modifiers, furthest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(mnemonic: &str) -> Result<Form, String> {
        let mut words = mnemonic.split('.');
        Form::new(words.next().unwrap(), &words.collect::<Vec<_>>(), mnemonic)
    }

    #[test]
    fn modifiers_are_sorted_by_kind() {
        let ld = form("ld.global.nc.L1::no_allocate.v4.f32").unwrap();
        assert_eq!((ld.opcode, ld.space(), ld.vector), (Opcode::Ld, Some(StateSpace::Global), 4));
        assert_eq!(ld.types, [ScalarType::F32]);
        assert_eq!(ld.modifiers, [Modifier::Nc, Modifier::L1NoAllocate]);
        assert_eq!(ld.signatures.len(), 1);
        assert_eq!(ld.signatures[0].len(), 2, "no policy without a hint");
        assert_eq!(form("ld.global.L2::cache_hint.b32").unwrap().signatures[0].len(), 3);
    }

    #[test]
    fn fragments_have_the_length_of_shape_and_type() {
        for (mnemonic, expected) in [
            ("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", [4, 4, 2, 4]),
            ("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16", [2, 4, 2, 2]),
            ("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", [4, 4, 2, 4]),
            ("mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32", [4, 4, 2, 4]),
            ("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64", [2, 1, 1, 2]),
            ("mma.sync.aligned.m8n8k4.col.row.f32.f16.f16.f32", [8, 2, 2, 8]),
            ("mma.sync.aligned.m8n8k128.row.col.s32.b1.b1.s32.xor.popc", [2, 1, 1, 2]),
        ] {
            let form = form(mnemonic).unwrap();
            let counts: Vec<_> = form.signatures[0]
                .iter()
                .map(|rule| match rule.kind {
                    OperandKind::Vector { count: Some(count), .. } => count,
                    _ => 0,
                })
                .collect();
            assert_eq!(counts, expected, "{mnemonic}");
        }

        let wgmma = form("wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16").unwrap();
        assert_eq!(wgmma.signatures.len(), 2);
        let accumulators = OperandKind::Vector { ty: ScalarType::F32, count: Some(128), wide: false };
        assert_eq!((wgmma.signatures[0][0].kind, wgmma.signatures[0][0].access), (accumulators, Access::ReadWrite));
        assert_eq!(
            wgmma.signatures[1][1].kind,
            OperandKind::Vector { ty: ScalarType::B32, count: Some(4), wide: false }
        );
    }

    #[test]
    fn refusals_name_the_word() {
        assert_eq!(form("frob.b32").unwrap_err(), "unknown instruction `frob.b32`");
        assert_eq!(form("add.up.f32").unwrap_err(), "`add.up.f32` does not take `.up` here");
        assert_eq!(form("ld.global").unwrap_err(), "`ld.global` lacks a modifier or type at its end");
        let odd = "wgmma.mma_async.sync.aligned.m64n260k16.f32.bf16.bf16";
        assert_eq!(form(odd).unwrap_err(), format!("`m64n260k16` is not a shape that `{odd}` has"));
    }
}
