//! Loops over the 32 lanes of a warp, compiled twice: for AVX2 with FMA, and for any processor.

use crate::exec::program::registers::{Lane, Registers};
use crate::exec::program::step::{Compute, Operands};
use crate::mask::Mask;

/// Whether the vector variants may run.
pub fn fast() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// `slots[0] = f(slots[1])`
#[inline(always)]
pub fn map1<A: Lane, D: Lane>(registers: &mut Registers, o: &Operands, mask: Mask, f: impl Fn(A) -> D) {
    let a = registers.get::<A>(o.slots[1]);
    let mut result = [D::default(); 32];
    for lane in 0..32 {
        result[lane] = f(a[lane]);
    }
    registers.set(o.slots[0], mask, &result);
}

/// `slots[0] = f(slots[1], slots[2])`
#[inline(always)]
pub fn map2<A: Lane, B: Lane, D: Lane>(registers: &mut Registers, o: &Operands, mask: Mask, f: impl Fn(A, B) -> D) {
    let (a, b) = (registers.get::<A>(o.slots[1]), registers.get::<B>(o.slots[2]));
    let mut result = [D::default(); 32];
    for lane in 0..32 {
        result[lane] = f(a[lane], b[lane]);
    }
    registers.set(o.slots[0], mask, &result);
}

/// `slots[0] = f(slots[1], slots[2], slots[3])`
#[inline(always)]
pub fn map3<A: Lane, B: Lane, C: Lane, D: Lane>(
    registers: &mut Registers,
    o: &Operands,
    mask: Mask,
    f: impl Fn(A, B, C) -> D,
) {
    let (a, b, c) = (registers.get::<A>(o.slots[1]), registers.get::<B>(o.slots[2]), registers.get::<C>(o.slots[3]));
    let mut result = [D::default(); 32];
    for lane in 0..32 {
        result[lane] = f(a[lane], b[lane], c[lane]);
    }
    registers.set(o.slots[0], mask, &result);
}

/// `slots[0] = f(slots[1], slots[2], slots[3], slots[4])`
#[inline(always)]
pub fn map4<A: Lane, B: Lane, C: Lane, E: Lane, D: Lane>(
    registers: &mut Registers,
    o: &Operands,
    mask: Mask,
    f: impl Fn(A, B, C, E) -> D,
) {
    let (a, b, c) = (registers.get::<A>(o.slots[1]), registers.get::<B>(o.slots[2]), registers.get::<C>(o.slots[3]));
    let e = registers.get::<E>(o.slots[4]);
    let mut result = [D::default(); 32];
    for lane in 0..32 {
        result[lane] = f(a[lane], b[lane], c[lane], e[lane]);
    }
    registers.set(o.slots[0], mask, &result);
}

/// Where `f(slots[first], slots[first + 1])` holds.
#[inline(always)]
pub fn test2<A: Lane>(registers: &Registers, o: &Operands, first: usize, f: impl Fn(A, A) -> bool) -> Mask {
    let (a, b) = (registers.get::<A>(o.slots[first]), registers.get::<A>(o.slots[first + 1]));
    let mut bits = [0_u32; 32];
    for lane in 0..32 {
        bits[lane] = u32::from(f(a[lane], b[lane])) << lane;
    }
    bits.iter().fold(0, |mask, bit| mask | bit)
}

/// The vector variant where the processor has what it needs, else the other.
pub fn select(fast_variant: Compute, portable: Compute) -> Compute {
    if fast() { fast_variant } else { portable }
}

/// A [`Compute`](crate::exec::program::step::Compute) from an expression over one lane: `compute!(|a: u32, b: u32| -> u32 {
/// a & b })`, with as many operands as there are sources, or with the whole step: `compute!(|registers, operands, mask| {
/// ... })`.
macro_rules! compute {
    (|$o:ident; $($name:ident: $ty:ty),+| -> $result:ty $body:block) => {
        $crate::exec::program::lanes::compute!(|registers, $o, mask| {
            $crate::exec::program::lanes::compute!(@map registers, $o, mask, ($($name: $ty),+) -> $result $body)
        })
    };
    (|$($name:ident: $ty:ty),+| -> $result:ty $body:block) => {
        $crate::exec::program::lanes::compute!(|_o; $($name: $ty),+| -> $result $body)
    };
    (|$registers:ident, $o:ident, $mask:ident| $body:block) => {{
        #[allow(clippy::inline_always)]
        #[inline(always)]
        fn portable(
            $registers: &mut $crate::exec::program::registers::Registers,
            $o: &$crate::exec::program::step::Operands,
            $mask: $crate::mask::Mask,
        ) $body
        #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma"))]
        fn fast(
            registers: &mut $crate::exec::program::registers::Registers,
            operands: &$crate::exec::program::step::Operands,
            mask: $crate::mask::Mask,
        ) {
            portable(registers, operands, mask);
        }
        $crate::exec::program::lanes::select(fast, portable)
    }};
    (@map $r:ident, $o:ident, $m:ident, ($a:ident: $A:ty) -> $D:ty $body:block) => {
        $crate::exec::program::lanes::map1($r, $o, $m, |$a: $A| -> $D { $body })
    };
    (@map $r:ident, $o:ident, $m:ident, ($a:ident: $A:ty, $b:ident: $B:ty) -> $D:ty $body:block) => {
        $crate::exec::program::lanes::map2($r, $o, $m, |$a: $A, $b: $B| -> $D { $body })
    };
    (@map $r:ident, $o:ident, $m:ident, ($a:ident: $A:ty, $b:ident: $B:ty, $c:ident: $C:ty) -> $D:ty $body:block) => {
        $crate::exec::program::lanes::map3($r, $o, $m, |$a: $A, $b: $B, $c: $C| -> $D { $body })
    };
    (@map $r:ident, $o:ident, $m:ident, ($a:ident: $A:ty, $b:ident: $B:ty, $c:ident: $C:ty, $e:ident: $E:ty) -> $D:ty $body:block) => {
        $crate::exec::program::lanes::map4($r, $o, $m, |$a: $A, $b: $B, $c: $C, $e: $E| -> $D { $body })
    };
}

pub(crate) use compute;
