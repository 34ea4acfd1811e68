//! What kind an instruction is, and what it multiplies, from its form.

use crate::ptx::form::Form;
use crate::ptx::opcode::{Modifier, Opcode};
use crate::ptx::types::{ScalarType, StateSpace};

/// Names of the classes of instructions.
pub(super) const CLASSES: [&str; 14] = [
    "integer",
    "float",
    "half",
    "double",
    "conversion",
    "move",
    "control",
    "global",
    "shared",
    "local",
    "parameter",
    "tensor",
    "warp",
    "synchronisation",
];

#[derive(Clone, Copy)]
pub(super) enum Class {
    Integer,
    Float,
    Half,
    Double,
    Conversion,
    Move,
    Control,
    Global,
    Shared,
    Local,
    Parameter,
    Tensor,
    Warp,
    Synchronisation,
}

/// The class of a form. Generic accesses count as global: where they went is in the counts of memory.
pub(super) fn class_of(form: &Form) -> Class {
    use Opcode::*;

    match form.opcode {
        Bra | Brx | Call | Ret | Exit | Trap | Brkpt | Nanosleep | Pmevent | Setmaxnreg => Class::Control,
        Mma | Wgmma => Class::Tensor,
        Wmma if form.has(Modifier::Mma) => Class::Tensor,
        Shfl | Vote | Match | Redux | Elect | Activemask | Movmatrix => Class::Warp,
        Bar | Barrier | Mbarrier | Fence | Membar | Griddepcontrol => Class::Synchronisation,
        Ldmatrix | Stmatrix => Class::Shared,
        Ld | Ldu | St | Atom | Red | Cp | Prefetch | Prefetchu | Applypriority | Discard | Tensormap => {
            match form.space() {
                Some(StateSpace::Shared | StateSpace::SharedCta | StateSpace::SharedCluster) => Class::Shared,
                Some(StateSpace::Local) => Class::Local,
                Some(StateSpace::Param | StateSpace::ParamEntry | StateSpace::ParamFunc) => Class::Parameter,
                _ => Class::Global,
            }
        }
        Cvt | Szext => Class::Conversion,
        Mov | Cvta | Mapa | Getctarank | Isspacep | Createpolicy | Prmt | Selp => Class::Move,
        _ => match form.types.last() {
            Some(ScalarType::F32 | ScalarType::Tf32) => Class::Float,
            Some(ScalarType::F16 | ScalarType::F16x2 | ScalarType::Bf16 | ScalarType::Bf16x2) => Class::Half,
            Some(ScalarType::F64) => Class::Double,
            _ => Class::Integer,
        },
    }
}

pub(super) fn is_barrier(form: &Form) -> bool {
    matches!(form.opcode, Opcode::Bar | Opcode::Barrier) && !form.has(Modifier::Warp)
}

/// Multiplications and additions that one warp does in a tensor-core instruction: a warpgroup's are four warps' together.
pub(super) fn flops_of_warp(form: &Form) -> u64 {
    let Some(shape) = form.shape else { return 0 };
    let all = 2 * u64::from(shape.m) * u64::from(shape.n) * u64::from(shape.k);
    match form.opcode {
        Opcode::Mma => all,
        Opcode::Wmma if form.has(Modifier::Mma) => all,
        Opcode::Wgmma if form.has(Modifier::MmaAsync) => all / 4,
        _ => 0,
    }
}
