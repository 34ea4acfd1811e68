//! The arithmetic of PTX: pure functions from operand values to result values, as the PTX ISA defines them.
//!
//! Nothing here has state, allocates or panics. Values of formats that Rust lacks (f16, bf16, tf32, fp8, fp4) are
//! their bits in an unsigned integer. Every function is small and `#[inline]`: with a constant mode an interpreter's
//! loop over 32 lanes compiles to vector code, and to hardware FMA where the caller enables that target feature.
//!
//! What follows the ISA to the bit: everything that it defines exactly (rounded arithmetic, conversions, comparisons,
//! integers). What does not follow the hardware: the `.approx` instructions (here once rounded, see [`approx`]; [`approx_error`]
//! has them err) and the order and width of tensor-core sums (here one fixed definition, see [`dot`]; [`tensor_core`] has models
//! of silicon).

pub mod approx;
pub mod approx_error;
pub mod bits;
pub mod compare;
pub mod convert;
pub mod dot;
pub mod formats;
pub mod fp16x2;
pub mod integer;
pub mod minmax;
pub mod rounding;
mod soft;
pub mod tensor_core;
pub mod video;

/// The NaN that f32 instructions produce (PTX ISA, "Floating Point Instructions").
pub const NAN_F32: u32 = 0x7fff_ffff;

/// The NaN that f16 and bf16 instructions produce (PTX ISA, "Half Precision Floating Point Instructions").
pub const NAN_F16: u16 = 0x7fff;

/// The NaN of an invalid f64 operation. The ISA leaves it open; this is what NVIDIA hardware and x86 give.
pub const NAN_F64: u64 = 0xfff8_0000_0000_0000;

/// The rounding modifiers of PTX arithmetic and conversions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// `.rn`: to nearest, ties to even.
    Rn,
    /// `.rz`: towards zero.
    Rz,
    /// `.rm`: towards negative infinity.
    Rm,
    /// `.rp`: towards positive infinity.
    Rp,
}

/// The modifiers of an f32 (or f16) arithmetic instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Rounding of the exact result.
    pub rounding: Rounding,
    /// `.ftz`: subnormal inputs and results become zeros of the same sign.
    pub ftz: bool,
    /// `.sat`: the result is clamped to [0, 1] and NaN becomes +0.
    pub sat: bool,
}

impl Mode {
    /// `.rn` without `.ftz` and `.sat`: what an instruction without modifiers does.
    pub const RN: Self = Self::of(Rounding::Rn);
    /// `.rn.ftz`.
    pub const RN_FTZ: Self = Self { rounding: Rounding::Rn, ftz: true, sat: false };

    /// The given rounding, without `.ftz` and `.sat`.
    #[inline]
    pub const fn of(rounding: Rounding) -> Self {
        Self { rounding, ftz: false, sat: false }
    }

    /// An f32 input: flushed where the mode says so.
    #[inline(always)]
    pub fn input(self, x: f32) -> f32 {
        if self.ftz { flush_f32(x) } else { x }
    }

    /// An f32 result: flushed and saturated where the mode says so; NaN becomes [`NAN_F32`].
    #[inline(always)]
    pub fn output(self, x: f32) -> f32 {
        let x = canonical_f32(self.input(x));
        if self.sat { saturate_f32(x) } else { x }
    }
}

/// `x`, or [`NAN_F32`] for any NaN.
#[inline(always)]
pub fn canonical_f32(x: f32) -> f32 {
    // On the bits: LLVM 22 takes the float form for a no-op behind `sqrt`, whose NaN then keeps the host's bits.
    let bits = x.to_bits();
    f32::from_bits(if bits & 0x7fff_ffff > 0x7f80_0000 { NAN_F32 } else { bits })
}

/// `.ftz` for f32: a subnormal becomes zero with its sign.
#[inline(always)]
pub fn flush_f32(x: f32) -> f32 {
    // Both arms on the bits, so that it compiles to a select.
    let bits = x.to_bits();
    f32::from_bits(if bits & 0x7f80_0000 == 0 { bits & 0x8000_0000 } else { bits })
}

/// `.ftz` for f16: a subnormal becomes zero with its sign.
#[inline(always)]
pub fn flush_f16(x: u16) -> u16 {
    if x & 0x7c00 == 0 { x & 0x8000 } else { x }
}

/// `.sat` for f32: clamps to [0, 1]; NaN and -0 become +0.
#[inline(always)]
pub fn saturate_f32(x: f32) -> f32 {
    // The comparison is false for NaN, which selects zero.
    if x > 0.0 { if x < 1.0 { x } else { 1.0 } } else { 0.0 }
}

/// `.sat` for f64 (`cvt.sat` only): clamps to [0, 1]; NaN and -0 become +0.
#[inline(always)]
pub fn saturate_f64(x: f64) -> f64 {
    if x > 0.0 { if x < 1.0 { x } else { 1.0 } } else { 0.0 }
}
