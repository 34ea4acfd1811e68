//! Instructions by family: each file decodes the forms of its family into [`Action`](crate::exec::program::step::Action)s.

use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::program::step::Compute;
use crate::ptx::form::OperandKind;
use crate::ptx::module::Instruction;
use crate::ptx::opcode::{Modifier, Opcode};
use crate::report::Fault;

mod atomics;
mod barriers;
mod caches;
pub mod clock;
mod compare;
mod convert;
mod copies;
mod fences;
mod float;
mod integer;
mod logic;
mod matrices;
mod matrix_warp;
mod mbarrier_waits;
mod mbarriers;
mod memory;
mod mma;
mod moves;
mod print;
mod shared_address;
mod spaces;
mod stack;
mod traps;
mod video;
mod warp_level;
pub mod wgmma;
mod wmma;

/// Lanes of a warp have left.
///
/// # Errors
/// They leave something undone that needs them, or are the last and leave copies that need the block's memory.
pub fn leave(context: &mut crate::exec::state::context::Context<'_>, gone: crate::mask::Mask) -> Result<(), Fault> {
    copies::leave(context, gone)?;
    traps::leave(context)?;
    barriers::leave(context, gone);
    wgmma::leave(context)?;
    Ok(())
}

/// Decodes an instruction that is not a branch, call or return.
///
/// # Errors
/// What the simulator does not execute.
pub fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    use Opcode::*;

    let form = &instruction.form;
    let family = match form.opcode {
        Mov | Cvta => moves::decode,
        Cvt | Szext => convert::decode,
        Setp | Set | Selp | Slct | Testp => compare::decode,
        And | Or | Xor | Not | Cnot | Lop3 | Shf | Shl | Shr | Prmt | Bfe | Bfi | Bfind | Bmsk | Brev | Clz | Popc
        | Fns => logic::decode,
        Fma | Rcp | Sqrt | Rsqrt | Sin | Cos | Lg2 | Ex2 | Tanh | Copysign => float::decode,
        Abs | Add | Sub | Mul | Mad | Div | Min | Max | Neg if is_float(form.types.first()) => float::decode,
        Abs | Add | Addc | Sub | Subc | Mul | Mul24 | Mad | Mad24 | Madc | Sad | Div | Rem | Min | Max | Neg | Dp2a
        | Dp4a => integer::decode,
        Ld | Ldu => memory::decode,
        St | Red if form.has(Modifier::Async) => copies::decode,
        St => memory::decode,
        Atom | Red => atomics::decode,
        Prefetch | Prefetchu | Applypriority | Discard | Createpolicy => caches::decode,
        Isspacep | Mapa | Getctarank => spaces::decode,
        Alloca | Stacksave | Stackrestore => stack::decode,
        Shfl | Vote | Match | Redux | Elect | Activemask => warp_level::decode,
        Bar | Barrier => barriers::decode,
        Fence | Membar | Griddepcontrol => fences::decode,
        Mbarrier if form.has(Modifier::TestWait) || form.has(Modifier::TryWait) => mbarrier_waits::decode,
        Mbarrier => mbarriers::decode,
        Cp | Tensormap => copies::decode,
        Ldmatrix | Stmatrix | Movmatrix => matrices::decode,
        Mma => mma::decode,
        Wgmma => wgmma::decode,
        Wmma => wmma::decode,
        Vabsdiff | Vabsdiff2 | Vabsdiff4 | Vadd | Vadd2 | Vadd4 | Vavrg2 | Vavrg4 | Vmad | Vmax | Vmax2 | Vmax4
        | Vmin | Vmin2 | Vmin4 | Vset | Vset2 | Vset4 | Vshl | Vshr | Vsub | Vsub2 | Vsub4 => video::decode,
        Trap | Brkpt | Nanosleep | Pmevent | Setmaxnreg => traps::decode,
        Bra | Brx | Call | Ret | Exit => return Err(unsupported(instruction)),
    };

    family(decoder, instruction)
}

fn is_float(ty: Option<&crate::ptx::ScalarType>) -> bool {
    use crate::ptx::ScalarType::*;
    matches!(ty, Some(F16 | F16x2 | Bf16 | Bf16x2 | F32 | F64))
}

/// A lane loop over the operands as the form has them: one result, then values.
fn compute_of_values(decoder: &mut Decoder<'_>, instruction: &Instruction, function: Compute, constant: u64) -> Decode {
    let mut slots = Vec::with_capacity(5);
    for (place, (operand, rule)) in instruction.operands.iter().zip(instruction.rules()).enumerate() {
        let OperandKind::Value { ty, .. } = rule.kind else { return Err(unsupported(instruction)) };
        slots.push(if place == 0 { decoder.target(operand, ty)? } else { decoder.value(operand, ty)? });
    }
    Ok(Decoded::compute(function, &slots, constant))
}

/// The refusal of an instruction that no family executes.
fn unsupported(instruction: &Instruction) -> String {
    format!("the simulator does not execute `{}`", instruction.form.mnemonic)
}

/// Decodes a call of a function that the system provides: where its arguments and results lie in local memory, with their
/// sizes.
///
/// # Errors
/// No such function.
pub fn system_call(name: &str, arguments: &[(u64, u64)], results: &[(u64, u64)]) -> Decode {
    traps::system_call(name, arguments, results)
}
