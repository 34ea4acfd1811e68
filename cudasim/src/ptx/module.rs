//! What a PTX text says, checked and with every name resolved.

use super::form::{Form, OperandRule};
pub use super::id::{LabelId, RegisterId, SourceId, Symbol};
use super::operand::Operand;
use super::types::{ScalarType, StateSpace};
use std::fmt;
use std::sync::Arc;

/// A module: one PTX text.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// `.version`, major and minor.
    pub version: (u32, u32),
    /// The targets: an architecture (`sm_90a`) and options (`debug`).
    pub targets: Vec<String>,
    /// `.address_size`, 32 or 64; 32 where the text does not say, as the ISA has it.
    pub address_size: u32,
    /// `.file` directives: the number that positions use, and the path.
    pub files: Vec<(u32, String)>,
    /// Variables of module scope: `.global`, `.const`, `.shared` and `.extern .shared`.
    pub variables: Vec<Variable>,
    /// Entries and functions; one that is declared and then defined is here once.
    pub functions: Vec<Function>,
}

impl Module {
    /// The function or entry of this name.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.name == name)
    }

    /// Path of the `.file` of this number.
    pub fn file(&self, number: u32) -> Option<&str> {
        self.files.iter().find(|(n, _)| *n == number).map(|(_, path)| path.as_str())
    }
}

/// How a name is seen from other modules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Linkage {
    /// Seen in this module only.
    #[default]
    Internal,
    /// `.extern`: defined elsewhere; a `.shared` one is the dynamic shared memory.
    Extern,
    /// `.visible`
    Visible,
    /// `.weak`
    Weak,
    /// `.common`
    Common,
}

/// A variable in memory.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Its name; unique in its scope only.
    pub name: String,
    /// `.global`, `.const`, `.shared`, `.local`, or `.param` for the parameters of a call.
    pub space: StateSpace,
    /// Element type.
    pub ty: ScalarType,
    /// Alignment in bytes, a power of two.
    pub align: u64,
    /// Size in bytes; 0 for `name[]`.
    pub size: u64,
    /// How it is seen.
    pub linkage: Linkage,
    /// The first bytes of its initial value; the rest, or all where this is empty, are zero.
    pub initial: Vec<u8>,
    /// Addresses to be put into the initial value.
    pub relocations: Vec<Relocation>,
    /// PTX line of the declaration.
    pub line: u32,
}

/// An address inside an initial value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// Byte in [`Variable::initial`] from which the address is stored.
    pub at: u64,
    /// Bytes stored, 4 or 8.
    pub width: u32,
    /// What the address is of: a variable of module scope or a function.
    pub symbol: Symbol,
    /// Added to the address.
    pub addend: i64,
    /// `generic(...)`: the generic address rather than the one inside the variable's space.
    pub generic: bool,
}

/// A parameter or result: a piece of parameter space.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its name; `_` in a prototype.
    pub name: String,
    /// Element type.
    pub ty: ScalarType,
    /// Alignment in bytes.
    pub align: u64,
    /// Size in bytes.
    pub size: u64,
    /// Byte in the parameter block at which it starts.
    pub offset: u64,
}

/// Limits and shapes of a launch that an entry states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaunchBounds {
    /// `.maxntid`: the most threads of a block, by dimension.
    pub max_threads: Option<[u32; 3]>,
    /// `.reqntid`: the threads of a block, exactly.
    pub required_threads: Option<[u32; 3]>,
    /// `.minnctapersm`
    pub min_blocks: Option<u32>,
    /// `.maxnreg`
    pub max_registers: Option<u32>,
    /// `.reqnctapercluster`: the blocks of a cluster, exactly.
    pub required_cluster: Option<[u32; 3]>,
    /// `.explicitcluster`: must be launched with a cluster size.
    pub explicit_cluster: bool,
    /// `.maxclusterrank`: the most blocks of a cluster.
    pub max_cluster_rank: Option<u32>,
}

/// An entry (kernel) or a function.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// `.entry` rather than `.func`.
    pub is_entry: bool,
    /// How it is seen.
    pub linkage: Linkage,
    /// What a `.func` returns.
    pub results: Vec<Parameter>,
    /// What it takes.
    pub parameters: Vec<Parameter>,
    /// Launch bounds of an entry.
    pub launch: LaunchBounds,
    /// `.noreturn`
    pub no_return: bool,
    /// Its code; `None` where it is only declared (`vprintf`, `__assertfail`).
    pub body: Option<Body>,
    /// PTX line of its header.
    pub line: u32,
}

impl Function {
    /// Size of the parameter block in bytes.
    pub fn parameter_bytes(&self) -> u64 {
        self.parameters.last().map_or(0, |last| last.offset + last.size)
    }
}

/// The code of a function, and what it names.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// Declarations of registers, in order.
    pub registers: Vec<RegisterRange>,
    /// `.local`, `.shared` and `.param` variables of every scope.
    pub variables: Vec<Variable>,
    /// Labels of every scope.
    pub labels: Vec<Label>,
    /// Tables of `brx.idx`: `.branchtargets`, by label.
    pub branch_tables: Vec<Vec<LabelId>>,
    /// Prototypes of indirect calls.
    pub prototypes: Vec<Prototype>,
    /// The instructions, in order.
    pub instructions: Vec<Instruction>,
    /// Positions in source files that instructions name.
    pub sources: Vec<Source>,
}

impl Body {
    /// How many registers the function declares.
    pub fn register_count(&self) -> usize {
        self.registers.last().map_or(0, |range| range.first.index() + range.count as usize)
    }

    fn range(&self, register: RegisterId) -> Option<&RegisterRange> {
        let after = self.registers.partition_point(|range| range.first <= register);
        let range = self.registers.get(after.checked_sub(1)?)?;
        (register.0 - range.first.0 < range.count).then_some(range)
    }

    /// Type of a register.
    pub fn register_type(&self, register: RegisterId) -> Option<ScalarType> {
        self.range(register).map(|range| range.ty)
    }

    /// Name of a register, as declared.
    pub fn register_name(&self, register: RegisterId) -> Option<String> {
        self.range(register).map(|range| match range.numbered {
            true => format!("{}{}", range.name, register.0 - range.first.0),
            false => range.name.clone(),
        })
    }
}

/// A declaration `.reg .b32 %r<10>;` or `.reg .pred p;`.
#[derive(Clone, Debug)]
pub struct RegisterRange {
    /// The name; a prefix where registers are numbered.
    pub name: String,
    /// Whether it declares `name0`, `name1`, ...
    pub numbered: bool,
    /// The first register.
    pub first: RegisterId,
    /// How many.
    pub count: u32,
    /// Their type.
    pub ty: ScalarType,
}

/// A label. Those of unrolled inline assembly may share their name.
#[derive(Clone, Debug)]
pub struct Label {
    /// Its name.
    pub name: String,
    /// The instruction it stands before: index into [`Body::instructions`], or their number at the end.
    pub target: usize,
}

/// The signature behind an indirect call.
#[derive(Clone, Debug)]
pub struct Prototype {
    /// What is returned.
    pub results: Vec<Parameter>,
    /// What is taken.
    pub parameters: Vec<Parameter>,
}

/// A position in a source file, from `.loc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// Number of the `.file`, see [`Module::file`].
    pub file: u32,
    /// Line, from 1 (0: made by the compiler).
    pub line: u32,
    /// Column.
    pub column: u32,
    /// Where the function that this position is in was inlined.
    pub inlined_at: Option<SourceId>,
}

/// The predicate before an instruction: `@p` or `@!p`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The predicate register.
    pub register: RegisterId,
    /// Whether the instruction runs where it is false.
    pub negated: bool,
}

/// One instruction.
#[derive(Clone)]
pub struct Instruction {
    /// Opcode, modifiers and types; shared by all instructions that are spelled alike.
    pub form: Arc<Form>,
    /// Which of the form's signatures the operands follow: index into [`Form::signatures`].
    pub signature: u8,
    /// The predicate.
    pub guard: Option<Guard>,
    /// The operands, one for each rule of the signature, less optional ones at its end.
    pub operands: Vec<Operand>,
    /// PTX line.
    pub line: u32,
    /// Position in the source.
    pub source: Option<SourceId>,
}

impl Instruction {
    /// What each operand is and whether it is read or written: rule n is that of operand n.
    pub fn rules(&self) -> &[OperandRule] {
        self.form.signatures.get(usize::from(self.signature)).map_or(&[], Vec::as_slice)
    }
}

impl fmt::Debug for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {:?} {} {:?}", self.line, self.guard, self.form.mnemonic, self.operands)
    }
}
