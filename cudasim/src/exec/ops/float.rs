//! Floating-point arithmetic: f32, f64, f16 and bf16, approximations.

use crate::exec::operands::decoded::Decode;
use crate::exec::operands::decoder::Decoder;
use crate::exec::program::lanes::{compute, map1, map2};
use crate::exec::program::step::Compute;
use crate::numerics::approx_error::Approx;
use crate::numerics::fp16x2::{self, Half};
use crate::numerics::minmax::{self, Select};
use crate::numerics::{Mode, Rounding, approx, rounding as n};
use crate::ptx::form::Form;
use crate::ptx::module::Instruction;
use crate::ptx::opcode::{Modifier, Opcode};
use crate::ptx::types::ScalarType::{self, *};

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let ty = form.types[0];
    let mode = mode(form);

    let (function, constant) = match form.opcode {
        Opcode::Abs | Opcode::Neg | Opcode::Copysign => (sign(form.opcode, ty), pack_mode(mode)),
        Opcode::Min | Opcode::Max => {
            let how = Select {
                max: form.opcode == Opcode::Max,
                ftz: mode.ftz,
                nan: form.has(Modifier::PropagateNan),
                xorsign_abs: form.has(Modifier::Xorsign),
            };
            (select(ty, how), pack_select(how))
        }
        _ if form.has(Modifier::Oob) => (None, 0),
        _ if form.has(Modifier::Approx) || form.has(Modifier::Full) => (approximate(form, ty), pack_mode(mode)),
        _ => match ty {
            F32 => (single(form.opcode, mode), pack_mode(mode)),
            F64 => (double(form.opcode, mode.rounding), pack_mode(mode)),
            _ => {
                let how = Half { ftz: mode.ftz, sat: mode.sat, relu: form.has(Modifier::Relu) };
                (half(form.opcode, ty), pack_half(how))
            }
        },
    };

    let function = function.ok_or_else(|| super::unsupported(instruction))?;
    super::compute_of_values(decoder, instruction, function, constant)
}

/// Rounding, `.ftz` and `.sat` of a form; to nearest where it names no rounding.
pub(super) fn mode(form: &Form) -> Mode {
    Mode {
        rounding: rounding(form).unwrap_or(Rounding::Rn),
        ftz: form.has(Modifier::Ftz),
        sat: form.has(Modifier::Sat),
    }
}

/// The rounding that a form names.
pub(super) fn rounding(form: &Form) -> Option<Rounding> {
    form.modifiers.iter().find_map(|modifier| match modifier {
        Modifier::Rn => Some(Rounding::Rn),
        Modifier::Rz => Some(Rounding::Rz),
        Modifier::Rm => Some(Rounding::Rm),
        Modifier::Rp => Some(Rounding::Rp),
        _ => None,
    })
}

fn pack_mode(mode: Mode) -> u64 {
    mode.rounding as u64 | u64::from(mode.ftz) << 2 | u64::from(mode.sat) << 3
}

#[inline(always)]
fn unpack_mode(constant: u64) -> Mode {
    Mode { rounding: unpack_rounding(constant), ftz: constant & 4 != 0, sat: constant & 8 != 0 }
}

/// The rounding in the lowest two bits.
#[inline(always)]
pub(super) fn unpack_rounding(constant: u64) -> Rounding {
    match constant & 3 {
        0 => Rounding::Rn,
        1 => Rounding::Rz,
        2 => Rounding::Rm,
        _ => Rounding::Rp,
    }
}

fn pack_select(how: Select) -> u64 {
    u64::from(how.max) | u64::from(how.ftz) << 1 | u64::from(how.nan) << 2 | u64::from(how.xorsign_abs) << 3
}

#[inline(always)]
fn unpack_select(constant: u64) -> Select {
    let bit = |place: u32| constant >> place & 1 != 0;
    Select { max: bit(0), ftz: bit(1), nan: bit(2), xorsign_abs: bit(3) }
}

fn pack_half(how: Half) -> u64 {
    u64::from(how.ftz) | u64::from(how.sat) << 1 | u64::from(how.relu) << 2
}

#[inline(always)]
fn unpack_half(constant: u64) -> Half {
    let bit = |place: u32| constant >> place & 1 != 0;
    Half { ftz: bit(0), sat: bit(1), relu: bit(2) }
}

/// An f32 compute whose mode is constant where it is a common one, so that its loop has no branches.
macro_rules! moded {
    ($mode:expr, |$m:ident; $($a:ident),+| $body:expr) => {
        match $mode {
            Mode::RN => compute!(|$($a: f32),+| -> f32 { let $m = Mode::RN; $body }),
            Mode::RN_FTZ => compute!(|$($a: f32),+| -> f32 { let $m = Mode::RN_FTZ; $body }),
            _ => compute!(|o; $($a: f32),+| -> f32 { let $m = unpack_mode(o.constant); $body }),
        }
    };
}

fn single(opcode: Opcode, mode: Mode) -> Option<Compute> {
    Some(match opcode {
        Opcode::Add => moded!(mode, |m; a, b| n::add_f32(m, a, b)),
        Opcode::Sub => moded!(mode, |m; a, b| n::sub_f32(m, a, b)),
        Opcode::Mul => moded!(mode, |m; a, b| n::mul_f32(m, a, b)),
        Opcode::Fma | Opcode::Mad => moded!(mode, |m; a, b, c| n::fma_f32(m, a, b, c)),
        Opcode::Div => moded!(mode, |m; a, b| n::div_f32(m, a, b)),
        Opcode::Rcp => moded!(mode, |m; a| n::rcp_f32(m, a)),
        Opcode::Sqrt => moded!(mode, |m; a| n::sqrt_f32(m, a)),
        _ => return None,
    })
}

/// An f64 compute, likewise.
macro_rules! rounded {
    ($rounding:expr, |$m:ident; $($a:ident),+| $body:expr) => {
        match $rounding {
            Rounding::Rn => compute!(|$($a: f64),+| -> f64 { let $m = Rounding::Rn; $body }),
            _ => compute!(|o; $($a: f64),+| -> f64 { let $m = unpack_rounding(o.constant); $body }),
        }
    };
}

fn double(opcode: Opcode, rounding: Rounding) -> Option<Compute> {
    Some(match opcode {
        Opcode::Add => rounded!(rounding, |m; a, b| n::add_f64(m, a, b)),
        Opcode::Sub => rounded!(rounding, |m; a, b| n::sub_f64(m, a, b)),
        Opcode::Mul => rounded!(rounding, |m; a, b| n::mul_f64(m, a, b)),
        Opcode::Fma | Opcode::Mad => rounded!(rounding, |m; a, b, c| n::fma_f64(m, a, b, c)),
        Opcode::Div => rounded!(rounding, |m; a, b| n::div_f64(m, a, b)),
        Opcode::Rcp => rounded!(rounding, |m; a| n::rcp_f64(m, a)),
        Opcode::Sqrt => rounded!(rounding, |m; a| n::sqrt_f64(m, a)),
        _ => return None,
    })
}

/// A compute on one f16 or bf16 or on both of a register; `how` is its [`Half`].
macro_rules! halves {
    ($ty:expr, |$how:ident; $($a:ident),+| $f16:expr, $bf16:expr, $map:path) => {
        match $ty {
            F16 => compute!(|o; $($a: u16),+| -> u16 { let $how = unpack_half(o.constant); $f16 }),
            F16x2 => compute!(|o; $($a: u32),+| -> u32 {
                let $how = unpack_half(o.constant);
                $map($($a),+, |$($a),+| $f16)
            }),
            Bf16 => compute!(|o; $($a: u16),+| -> u16 { let $how = unpack_half(o.constant); let _ = $how; $bf16 }),
            Bf16x2 => compute!(|o; $($a: u32),+| -> u32 {
                let $how = unpack_half(o.constant);
                let _ = $how;
                $map($($a),+, |$($a),+| $bf16)
            }),
            _ => return None,
        }
    };
}

fn half(opcode: Opcode, ty: ScalarType) -> Option<Compute> {
    use fp16x2::{map2, map3};
    Some(match opcode {
        Opcode::Add => halves!(ty, |how; a, b| fp16x2::add_f16(how, a, b), fp16x2::add_bf16(a, b), map2),
        Opcode::Sub => halves!(ty, |how; a, b| fp16x2::sub_f16(how, a, b), fp16x2::sub_bf16(a, b), map2),
        Opcode::Mul => halves!(ty, |how; a, b| fp16x2::mul_f16(how, a, b), fp16x2::mul_bf16(a, b), map2),
        Opcode::Fma => {
            halves!(ty, |how; a, b, c| fp16x2::fma_f16(how, a, b, c), fp16x2::fma_bf16(how.relu, a, b, c), map3)
        }
        _ => return None,
    })
}

/// `abs`, `neg`, `copysign`; of the mode only `.ftz` counts.
fn sign(opcode: Opcode, ty: ScalarType) -> Option<Compute> {
    use fp16x2::map1;
    Some(match (opcode, ty) {
        // f32 and f64.
        (Opcode::Abs, F32) => compute!(|o; a: u32| -> u32 { minmax::abs_f32(o.constant & 4 != 0, a) }),
        (Opcode::Neg, F32) => compute!(|o; a: u32| -> u32 { minmax::neg_f32(o.constant & 4 != 0, a) }),
        (Opcode::Abs, F64) => compute!(|a: u64| -> u64 { minmax::abs_f64(a) }),
        (Opcode::Neg, F64) => compute!(|a: u64| -> u64 { minmax::neg_f64(a) }),

        // f16.
        (Opcode::Abs, F16) => compute!(|o; a: u16| -> u16 { minmax::abs_f16(flush_if(o.constant & 4 != 0, a)) }),
        (Opcode::Neg, F16) => compute!(|o; a: u16| -> u16 { minmax::neg_f16(flush_if(o.constant & 4 != 0, a)) }),
        (Opcode::Abs, F16x2) => compute!(|o; a: u32| -> u32 {
            map1(a, |a| minmax::abs_f16(flush_if(o.constant & 4 != 0, a)))
        }),
        (Opcode::Neg, F16x2) => compute!(|o; a: u32| -> u32 {
            map1(a, |a| minmax::neg_f16(flush_if(o.constant & 4 != 0, a)))
        }),

        // bf16 has its sign at the same place as f16.
        (Opcode::Abs, Bf16) => compute!(|a: u16| -> u16 { minmax::abs_f16(a) }),
        (Opcode::Neg, Bf16) => compute!(|a: u16| -> u16 { minmax::neg_f16(a) }),
        (Opcode::Abs, Bf16x2) => compute!(|a: u32| -> u32 { map1(a, minmax::abs_f16) }),
        (Opcode::Neg, Bf16x2) => compute!(|a: u32| -> u32 { map1(a, minmax::neg_f16) }),

        (Opcode::Copysign, F32) => compute!(|a: u32, b: u32| -> u32 { minmax::copysign_f32(a, b) }),
        (Opcode::Copysign, F64) => compute!(|a: u64, b: u64| -> u64 { minmax::copysign_f64(a, b) }),

        _ => return None,
    })
}

#[inline(always)]
fn flush_if(ftz: bool, a: u16) -> u16 {
    if ftz { crate::numerics::flush_f16(a) } else { a }
}

fn select(ty: ScalarType, how: Select) -> Option<Compute> {
    use fp16x2::map2;

    Some(match ty {
        F32 => match how {
            Select::MIN => compute!(|a: u32, b: u32| -> u32 { minmax::select_f32(Select::MIN, a, b) }),
            Select::MAX => compute!(|a: u32, b: u32| -> u32 { minmax::select_f32(Select::MAX, a, b) }),
            _ => compute!(|o; a: u32, b: u32| -> u32 { minmax::select_f32(unpack_select(o.constant), a, b) }),
        },

        F64 => compute!(|o; a: u64, b: u64| -> u64 { minmax::select_f64(unpack_select(o.constant), a, b) }),
        F16 => compute!(|o; a: u16, b: u16| -> u16 { minmax::select_f16(unpack_select(o.constant), a, b) }),
        Bf16 => compute!(|o; a: u16, b: u16| -> u16 { minmax::select_bf16(unpack_select(o.constant), a, b) }),

        F16x2 => compute!(|o; a: u32, b: u32| -> u32 {
            map2(a, b, |a, b| minmax::select_f16(unpack_select(o.constant), a, b))
        }),
        Bf16x2 => compute!(|o; a: u32, b: u32| -> u32 {
            map2(a, b, |a, b| minmax::select_bf16(unpack_select(o.constant), a, b))
        }),

        _ => return None,
    })
}

/// An instruction that errs as the registers' [`Approx`] says: what it gives exactly, and erring.
macro_rules! erring {
    (@map $r:ident, $o:ident, $m:ident, |$a:ident: $ty:ty| $body:expr) => { map1($r, $o, $m, |$a: $ty| -> $ty { $body }) };
    (@map $r:ident, $o:ident, $m:ident, |$a:ident: $ty:ty, $b:ident: $tb:ty| $body:expr) => {
        map2($r, $o, $m, |$a: $ty, $b: $tb| -> $ty { $body })
    };
    ($ty:ty, |$how:ident; $($a:ident),+| $exact:expr, $erring:expr) => {
        compute!(|registers, o, mask| {
            // Mostly exact: a loop of its own, which compiles to vector code.
            let $how = registers.approx;
            match $how {
                Approx::Exact => erring!(@map registers, o, mask, |$($a: $ty),+| $exact),
                _ => erring!(@map registers, o, mask, |$($a: $ty),+| $erring),
            }
        })
    };
}

/// The same of f32, with `.ftz` as a constant.
macro_rules! f32_of {
    ($flushed:expr, |$how:ident, $ftz:ident; $($a:ident),+| $exact:expr, $erring:expr) => {
        match $flushed {
            true => {
                const $ftz: bool = true;
                erring!(f32, |$how; $($a),+| $exact, $erring)
            }
            false => {
                const $ftz: bool = false;
                erring!(f32, |$how; $($a),+| $exact, $erring)
            }
        }
    };
}

/// `.approx` and `.full`; of the mode only `.ftz` counts.
fn approximate(form: &Form, ty: ScalarType) -> Option<Compute> {
    use fp16x2::map1 as map_halves;
    let ftz = form.has(Modifier::Ftz);

    Some(match (form.opcode, ty) {
        // Quotients and roots.
        (Opcode::Div, F32) if form.has(Modifier::Full) => f32_of!(
            ftz, |how, FTZ; a, b| approx::div_full_f32(FTZ, a, b),
            how.quotient(FTZ, a, b, approx::div_full_f32(FTZ, a, b))
        ),
        (Opcode::Div, F32) => f32_of!(
            ftz, |how, FTZ; a, b| approx::div_approx_f32(FTZ, a, b),
            how.quotient(FTZ, a, b, approx::div_approx_f32(FTZ, a, b))
        ),
        (Opcode::Rcp, F32) => f32_of!(ftz, |how, FTZ; a| approx::rcp_f32(FTZ, a), how.rcp_f32(FTZ, a)),
        (Opcode::Sqrt, F32) => f32_of!(ftz, |how, FTZ; a| approx::sqrt_approx_f32(FTZ, a), how.sqrt_f32(FTZ, a)),
        (Opcode::Rsqrt, F32) => f32_of!(ftz, |how, FTZ; a| approx::rsqrt_f32(FTZ, a), how.rsqrt_f32(FTZ, a)),

        // Transcendental functions.
        (Opcode::Sin, F32) => f32_of!(ftz, |how, FTZ; a| approx::sin_f32(FTZ, a), how.sin_f32(FTZ, a)),
        (Opcode::Cos, F32) => f32_of!(ftz, |how, FTZ; a| approx::cos_f32(FTZ, a), how.cos_f32(FTZ, a)),
        (Opcode::Lg2, F32) => f32_of!(ftz, |how, FTZ; a| approx::lg2_f32(FTZ, a), how.lg2_f32(FTZ, a)),
        (Opcode::Ex2, F32) => f32_of!(ftz, |how, FTZ; a| approx::ex2_f32(FTZ, a), how.ex2_f32(FTZ, a)),
        (Opcode::Ex2, F16) => erring!(u16, |how; a| approx::ex2_f16(a), how.ex2_f16(a)),
        (Opcode::Ex2, F16x2) => {
            erring!(u32, |how; a| map_halves(a, approx::ex2_f16), map_halves(a, |a| how.ex2_f16(a)))
        }
        (Opcode::Ex2, Bf16) => erring!(u16, |how; a| approx::ex2_bf16(a), how.ex2_bf16(a)),
        (Opcode::Ex2, Bf16x2) => {
            erring!(u32, |how; a| map_halves(a, approx::ex2_bf16), map_halves(a, |a| how.ex2_bf16(a)))
        }
        (Opcode::Tanh, F32) => erring!(f32, |how; a| approx::tanh_f32(a), how.tanh_f32(a)),
        (Opcode::Tanh, F16) => erring!(u16, |how; a| approx::tanh_f16(a), how.tanh_f16(a)),
        (Opcode::Tanh, F16x2) => {
            erring!(u32, |how; a| map_halves(a, approx::tanh_f16), map_halves(a, |a| how.tanh_f16(a)))
        }
        (Opcode::Tanh, Bf16) => erring!(u16, |how; a| approx::tanh_bf16(a), how.tanh_bf16(a)),
        (Opcode::Tanh, Bf16x2) => {
            erring!(u32, |how; a| map_halves(a, approx::tanh_bf16), map_halves(a, |a| how.tanh_bf16(a)))
        }

        // f64.
        (Opcode::Rcp, F64) => compute!(|a: f64| -> f64 { approx::rcp_approx_ftz_f64(a) }),
        (Opcode::Rsqrt, F64) if form.has(Modifier::Ftz) => {
            compute!(|a: f64| -> f64 { approx::rsqrt_approx_ftz_f64(a) })
        }
        (Opcode::Rsqrt, F64) => compute!(|a: f64| -> f64 { approx::rsqrt_approx_f64(a) }),
        _ => return None,
    })
}
