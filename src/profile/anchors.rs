//! Instructions that are the same in PTX and in machine code, by which the two are compared.

use cudasim::ptx::form::Form;
use cudasim::ptx::opcode::{Modifier, Opcode};
use cudasim::ptx::types::{ScalarType, StateSpace};

/// Kinds of anchors: names in machine code, and how far a count of the PTX is to be trusted. `ptxas` makes one of the other, but for
/// arithmetic: it joins products and sums, and writes divisions out.
const KINDS: [(&[&str], f64); 17] = [
    (&["HMMA", "IMMA"], 1.0),
    (&["HGMMA"], 1.0),
    (&["LDSM"], 1.0),
    (&["STSM"], 1.0),
    (&["LDS"], 1.0),
    (&["STS"], 1.0),
    (&["LDG"], 1.0),
    (&["STG"], 1.0),
    (&["LDGSTS"], 1.0),
    (&["UTMALDG"], 1.0),
    (&["UTMASTG"], 1.0),
    (&["SHFL"], 1.0),
    (&["BAR"], 1.0),
    (&["LDGDEPBAR"], 1.0),
    (&["MUFU"], 0.3),
    (&["FMUL", "FADD", "FFMA"], 0.3),
    (&["DMUL", "DADD", "DFMA"], 0.3),
];

/// Number of kinds.
pub const COUNT: usize = KINDS.len();

/// The kind of an instruction of machine code.
pub fn of_name(name: &str) -> Option<usize> {
    KINDS.iter().position(|(names, _)| names.contains(&name))
}

/// How far a kind is to be trusted, 0 to 1.
pub fn weight(kind: usize) -> f64 {
    KINDS[kind].1
}

/// The kind of an instruction of PTX.
pub fn of_form(form: &Form) -> Option<usize> {
    use Opcode::*;

    let is_shared =
        || matches!(form.space(), Some(StateSpace::Shared | StateSpace::SharedCta | StateSpace::SharedCluster));
    let is_global = || matches!(form.space(), Some(StateSpace::Global));
    let is_bulk_tensor = || form.has(Modifier::Bulk) && form.has(Modifier::Tensor);
    let name = match form.opcode {
        Mma => "HMMA",
        Wgmma if form.has(Modifier::MmaAsync) => "HGMMA",
        Ldmatrix => "LDSM",
        Stmatrix => "STSM",
        Ld if is_shared() => "LDS",
        St if is_shared() => "STS",
        Ld if is_global() => "LDG",
        St if is_global() => "STG",
        // Of a bulk copy the last space is the source's.
        Cp if is_bulk_tensor() && form.has(Modifier::Prefetch) => return None,
        Cp if is_bulk_tensor() => match form.spaces.last() {
            Some(StateSpace::Global) => "UTMALDG",
            _ => "UTMASTG",
        },
        Cp if form.has(Modifier::CommitGroup) && !form.has(Modifier::Bulk) => "LDGDEPBAR",
        Cp if form.has(Modifier::WaitGroup) || form.has(Modifier::WaitAll) || form.has(Modifier::Bulk) => return None,
        Cp if form.has(Modifier::Mbarrier) || form.has(Modifier::CommitGroup) => return None,
        Cp => "LDGSTS",
        Shfl => "SHFL",
        Bar | Barrier if !form.has(Modifier::Warp) => "BAR",
        Ex2 | Lg2 | Rcp | Rsqrt | Sin | Cos | Tanh if form.types.last() == Some(&ScalarType::F32) => "MUFU",
        Add | Sub | Mul | Fma if form.types.last() == Some(&ScalarType::F32) => "FFMA",
        Add | Sub | Mul | Fma if form.types.last() == Some(&ScalarType::F64) => "DFMA",
        _ => return None,
    };
    of_name(name)
}

/// Multiplications and additions in f32 of a lane.
pub fn f32_operations(form: &Form) -> u64 {
    match (form.opcode, form.types.last()) {
        (Opcode::Fma, Some(ScalarType::F32)) => 2,
        (Opcode::Add | Opcode::Sub | Opcode::Mul, Some(ScalarType::F32)) => 1,
        _ => 0,
    }
}
