//! Arithmetic of more bits than a register has: carries, funnel shifts and wide products in chains, as compilers write them,
//! against `u128` and `i128`.

use crate::support::{Machine, Noise};

/// What a chain leaves in `%r0`, `%r1`, ... of `a`, `b` and the amount `c`.
type Expected = fn(u128, u128, u32) -> Vec<u32>;

/// Numbers of 128 bits at the ends of every word, then random ones of every length.
fn inputs() -> Vec<(u128, u128, u32)> {
    let words = 0xffff_ffff_0000_0000_ffff_ffff_0000_0000;
    let mut edges = vec![0, 1, 2, u128::MAX, u128::MAX - 1, words, !words, u128::from(u32::MAX), u128::from(u64::MAX)];
    edges.extend([31, 32, 63, 64, 95, 96, 127].map(|bit| 1_u128 << bit));
    let mut noise = Noise::new(12);
    let mut inputs = Vec::new();

    for &a in &edges {
        inputs.extend(edges.iter().map(|&b| (a, b, noise.bits() as u32 % 70)));
    }
    for _ in 0..300 {
        let mut number = || (u128::from(noise.bits()) << 64 | u128::from(noise.bits())) >> (noise.bits() % 128);
        let (a, b) = (number(), number());
        inputs.push((a, b, noise.bits() as u32 % 70));
    }
    inputs
}

/// Runs chains on all inputs. They find `a` in `%a0` to `%a3` and in `%x0` and `%x1`, `b` in `%b0` to `%b3` and in `%y0` and
/// `%y1`, and zeros in `%r0` to `%r7` and `%z0` to `%z3`.
fn check(chains: &[(&str, Expected)]) {
    let mut text = String::new();
    for (number, (chain, _)) in chains.iter().enumerate() {
        text += &format!(
            ".visible .entry k{number}(.param .u64 from, .param .u64 to)
            {{
                .reg .b32 %a<4>, %b<4>, %r<8>, %t<8>, %c, %i; .reg .b64 %x<2>, %y<2>, %z<4>, %from, %to;
                mov.u32 %i, %tid.x;
                ld.param.u64 %from, [from]; mad.wide.u32 %from, %i, 48, %from;
                ld.param.u64 %to, [to]; mad.wide.u32 %to, %i, 32, %to;
                ld.global.v4.u32 {{%a0, %a1, %a2, %a3}}, [%from];
                ld.global.v4.u32 {{%b0, %b1, %b2, %b3}}, [%from+16];
                ld.global.u32 %c, [%from+32];
                mov.b64 %x0, {{%a0, %a1}}; mov.b64 %x1, {{%a2, %a3}}; mov.b64 %y0, {{%b0, %b1}}; mov.b64 %y1, {{%b2, %b3}};
                {} {}
                {chain}
                st.global.v4.u32 [%to], {{%r0, %r1, %r2, %r3}};
                st.global.v4.u32 [%to+16], {{%r4, %r5, %r6, %r7}};
                ret;
            }}\n",
            (0..8).map(|i| format!("mov.u32 %r{i}, 0;")).collect::<String>(),
            (0..4).map(|i| format!("mov.u64 %z{i}, 0;")).collect::<String>(),
        );
    }

    let machine = Machine::new(&text);
    let inputs = inputs();
    let words = |x: u128| (0..4).map(move |i| (x >> (32 * i)) as u32);
    let from: Vec<u32> = inputs.iter().flat_map(|&(a, b, c)| words(a).chain(words(b)).chain([c, 0, 0, 0])).collect();
    let from = machine.upload(&from);
    for (number, (chain, expected)) in chains.iter().enumerate() {
        let to = machine.upload(&vec![7; 8 * inputs.len()]);
        for first in (0..inputs.len()).step_by(1024) {
            let (from, to) = (from + 48 * first as u64, to + 32 * first as u64);
            let count = (inputs.len() - first).min(1024) as u32;
            let done = machine.launch(&format!("k{number}"), 1, count, &[from, to]);
            done.unwrap_or_else(|report| panic!("{chain}: {report}"));
        }
        for (&(a, b, c), found) in inputs.iter().zip(machine.download(to, 8 * inputs.len()).chunks_exact(8)) {
            let mut expected = expected(a, b, c);
            expected.resize(8, 0);
            assert_eq!(found, expected, "{chain} of {a:#x}, {b:#x}, {c}");
        }
    }
}

/// Words of a number, low ones first.
fn words(x: u128) -> Vec<u32> {
    (0..4).map(|i| (x >> (32 * i)) as u32).collect()
}

fn with(x: u128, more: u32) -> Vec<u32> {
    let mut words = words(x);
    words.push(more);
    words
}

#[test]
fn sums_and_differences() {
    check(&[
        (
            "add.cc.u32 %r0, %a0, %b0; addc.cc.u32 %r1, %a1, %b1; addc.cc.s32 %r2, %a2, %b2; addc.cc.u32 %r3, %a3, %b3;
            addc.u32 %r4, 0, 0;",
            |a, b, _| with(a.wrapping_add(b), u32::from(a.checked_add(b).is_none())),
        ),
        (
            "add.cc.u64 %z0, %x0, %y0; addc.cc.s64 %z1, %x1, %y1; addc.u32 %r4, 0, 0;
            mov.b64 {%r0, %r1}, %z0; mov.b64 {%r2, %r3}, %z1;",
            |a, b, _| with(a.wrapping_add(b), u32::from(a.checked_add(b).is_none())),
        ),
        (
            "sub.cc.u32 %r0, %a0, %b0; subc.cc.u32 %r1, %a1, %b1; subc.cc.s32 %r2, %a2, %b2; subc.cc.u32 %r3, %a3, %b3;
            subc.u32 %r4, 0, 0;",
            |a, b, _| with(a.wrapping_sub(b), if a < b { u32::MAX } else { 0 }),
        ),
        (
            "sub.cc.u64 %z0, %x0, %y0; subc.cc.s64 %z1, %x1, %y1; subc.u64 %z2, 0, 0;
            mov.b64 {%r0, %r1}, %z0; mov.b64 {%r2, %r3}, %z1; cvt.u32.u64 %r4, %z2;",
            |a, b, _| with(a.wrapping_sub(b), if a < b { u32::MAX } else { 0 }),
        ),
        // A carry behind a subtraction is set where nothing was borrowed: nvcc's division relies on it.
        (
            "sub.cc.u32 %r0, %a0, %b0; subc.cc.u32 %r1, %a1, %b1; subc.cc.u32 %r2, %a2, %b2; subc.cc.u32 %r3, %a3, %b3;
            addc.u32 %r4, 0, 0;",
            |a, b, _| with(a.wrapping_sub(b), u32::from(a >= b)),
        ),
        // And a subtraction behind an addition borrows where it left no carry.
        ("add.cc.u32 %r0, %a0, %b0; subc.u32 %r1, %a1, 0;", |a, b, _| {
            let (sum, carry) = (a as u32).overflowing_add(b as u32);
            vec![sum, ((a >> 32) as u32).wrapping_sub(u32::from(!carry))]
        }),
        // A step without `.cc` leaves the carry alone.
        ("add.cc.u32 %r0, %a0, %b0; addc.u32 %t0, %a1, 5; add.u32 %t0, %t0, 1; addc.u32 %r1, 0, 0;", |a, b, _| {
            let (sum, carry) = (a as u32).overflowing_add(b as u32);
            vec![sum, u32::from(carry)]
        }),
    ]);
}

#[test]
fn products() {
    check(&[
        // 64 x 64 -> 128 bits by words.
        (
            "mul.lo.u32 %r0, %a0, %b0; mul.hi.u32 %r1, %a0, %b0;
            mad.lo.cc.u32 %r1, %a0, %b1, %r1; madc.hi.u32 %r2, %a0, %b1, 0;
            mad.lo.cc.u32 %r1, %a1, %b0, %r1; madc.hi.cc.u32 %r2, %a1, %b0, %r2; addc.u32 %r3, 0, 0;
            mad.lo.cc.u32 %r2, %a1, %b1, %r2; madc.hi.u32 %r3, %a1, %b1, %r3;",
            |a, b, _| words(u128::from(a as u64) * u128::from(b as u64)),
        ),
        // By double words, unsigned and signed.
        (
            "mul.lo.u64 %z0, %x0, %y0; mul.hi.u64 %z1, %x0, %y0; mov.b64 {%r0, %r1}, %z0; mov.b64 {%r2, %r3}, %z1;",
            |a, b, _| words(u128::from(a as u64) * u128::from(b as u64)),
        ),
        (
            "mul.lo.s64 %z0, %x0, %y0; mul.hi.s64 %z1, %x0, %y0; mov.b64 {%r0, %r1}, %z0; mov.b64 {%r2, %r3}, %z1;",
            |a, b, _| words((i128::from(a as i64) * i128::from(b as i64)) as u128),
        ),
        // The low 128 bits of a product of 128 bits.
        (
            "mul.lo.u64 %z0, %x0, %y0; mul.hi.u64 %z1, %x0, %y0; mad.lo.u64 %z1, %x0, %y1, %z1; mad.lo.u64 %z1, %x1, %y0, %z1;
            mov.b64 {%r0, %r1}, %z0; mov.b64 {%r2, %r3}, %z1;",
            |a, b, _| words(a.wrapping_mul(b)),
        ),
        // a · b + a with carries of double words, and with the sign.
        (
            "mad.lo.cc.u64 %z0, %x0, %y0, %x0; madc.hi.cc.u64 %z1, %x0, %y0, %x1; addc.u32 %r4, 0, 0;
            mov.b64 {%r0, %r1}, %z0; mov.b64 {%r2, %r3}, %z1;",
            |a, b, _| {
                let (sum, carry) = (u128::from(a as u64) * u128::from(b as u64)).overflowing_add(a);
                with(sum, u32::from(carry))
            },
        ),
        (
            "mad.lo.cc.s64 %z0, %x0, %y0, %x0; madc.hi.s64 %z1, %x0, %y0, %x1;
            mov.b64 {%r0, %r1}, %z0; mov.b64 {%r2, %r3}, %z1;",
            |a, b, _| words(((i128::from(a as i64) * i128::from(b as i64)) as u128).wrapping_add(a)),
        ),
        (
            "mad.lo.cc.s32 %r0, %a0, %b0, %a2; madc.hi.cc.s32 %r1, %a0, %b0, %a3; madc.lo.cc.u32 %r2, %a1, %b1, %b2;
            madc.hi.u32 %r3, %a1, %b1, %b3;",
            |a, b, _| {
                let low = (i64::from(a as i32) * i64::from(b as i32)) as u64;
                // The upper half takes the carry of the low one; what the sign of the product does is no carry.
                let (low, carry) = low.overflowing_add((a >> 64) as u64);
                let high = u64::from((a >> 32) as u32) * u64::from((b >> 32) as u32);
                let high = high.wrapping_add((b >> 64) as u64).wrapping_add(u64::from(carry));
                words(u128::from(high) << 64 | u128::from(low))
            },
        ),
        // Wide products.
        (
            "mul.wide.u32 %z0, %a0, %b0; mad.wide.u32 %z1, %a0, %b0, %x1; mul.wide.s32 %z2, %a0, %b0;
            mad.wide.s32 %z3, %a0, %b0, %x1; mov.b64 {%r0, %r1}, %z0; mov.b64 {%r2, %r3}, %z1; mov.b64 {%r4, %r5}, %z2;
            mov.b64 {%r6, %r7}, %z3;",
            |a, b, _| {
                let unsigned = u64::from(a as u32) * u64::from(b as u32);
                let signed = (i64::from(a as i32) * i64::from(b as i32)) as u64;
                let third = (a >> 64) as u64;
                let all = [unsigned, unsigned.wrapping_add(third), signed, signed.wrapping_add(third)];
                all.iter().flat_map(|&x| [x as u32, (x >> 32) as u32]).collect()
            },
        ),
        ("mad.hi.u64 %z0, %x0, %y0, %x1; mad.hi.s64 %z1, %x0, %y0, %x1; mov.b64 {%r0, %r1}, %z0; mov.b64 {%r2, %r3}, %z1;", {
            |a, b, _| {
                let unsigned = ((u128::from(a as u64) * u128::from(b as u64)) >> 64) as u64;
                let signed = ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64;
                let third = (a >> 64) as u64;
                words(u128::from(signed.wrapping_add(third)) << 64 | u128::from(unsigned.wrapping_add(third)))
            }
        }),
    ]);
}

#[test]
fn funnel_shifts() {
    check(&[
        (
            "shf.l.wrap.b32 %r3, %a2, %a3, %c; shf.l.wrap.b32 %r2, %a1, %a2, %c; shf.l.wrap.b32 %r1, %a0, %a1, %c;
            shf.l.wrap.b32 %r0, 0, %a0, %c;",
            |a, _, c| words(a << (c % 32)),
        ),
        (
            "shf.l.clamp.b32 %r3, %a2, %a3, %c; shf.l.clamp.b32 %r2, %a1, %a2, %c; shf.l.clamp.b32 %r1, %a0, %a1, %c;
            shf.l.clamp.b32 %r0, 0, %a0, %c;",
            |a, _, c| words(a << c.min(32)),
        ),
        (
            "shf.r.wrap.b32 %r0, %a0, %a1, %c; shf.r.wrap.b32 %r1, %a1, %a2, %c; shf.r.wrap.b32 %r2, %a2, %a3, %c;
            shf.r.wrap.b32 %r3, %a3, 0, %c;",
            |a, _, c| words(a >> (c % 32)),
        ),
        // With the sign.
        (
            "shr.s32 %t0, %a3, 31; shf.r.clamp.b32 %r0, %a0, %a1, %c; shf.r.clamp.b32 %r1, %a1, %a2, %c;
            shf.r.clamp.b32 %r2, %a2, %a3, %c; shf.r.clamp.b32 %r3, %a3, %t0, %c;",
            |a, _, c| words((a as i128 >> c.min(32)) as u128),
        ),
        // A shift of double words by any amount, as compilers write it.
        (
            "sub.u32 %t1, 64, %c; sub.u32 %t2, %c, 64; shl.b64 %z0, %x0, %c; shl.b64 %z1, %x1, %c; shr.u64 %z2, %x0, %t1;
            or.b64 %z1, %z1, %z2; shl.b64 %z3, %x0, %t2; or.b64 %z1, %z1, %z3; mov.b64 {%r0, %r1}, %z0;
            mov.b64 {%r2, %r3}, %z1;",
            |a, _, c| words(a.checked_shl(c).unwrap_or(0)),
        ),
    ]);
}

#[test]
fn bytes_and_tables() {
    check(&[
        ("prmt.b32 %r0, %a0, %b0, %a1; prmt.b32 %r1, %a0, %b0, %c;", |a, b, c| {
            let permute = |selector: u32| {
                let pair = u64::from(b as u32) << 32 | u64::from(a as u32);
                let byte = |i: u32| {
                    let nibble = selector >> (4 * i) & 15;
                    let byte = (pair >> (8 * (nibble & 7))) as u8;
                    if nibble > 7 { (byte as i8 >> 7) as u8 } else { byte }
                };
                u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)])
            };
            vec![permute((a >> 32) as u32), permute(c)]
        }),
        (
            "prmt.b32.b4e %r0, %a0, %b0, %a1; prmt.b32.ecl %r1, %a0, %b0, %a1; prmt.b32.ecr %r2, %a0, %b0, %a1;",
            |a, b, _| {
                let bytes = (u64::from(b as u32) << 32 | u64::from(a as u32)).to_le_bytes();
                let first = (a >> 32) as usize & 3;
                // The ISA's tables, written out for selectors 0 to 3 (the lowest byte of the result first).
                let backward = [[0, 7, 6, 5], [1, 0, 7, 6], [2, 1, 0, 7], [3, 2, 1, 0]];
                let left = [[0, 1, 2, 3], [1, 1, 2, 3], [2, 2, 2, 3], [3, 3, 3, 3]];
                let right = [[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 2, 2], [0, 1, 2, 3]];
                [backward, left, right].map(|table| u32::from_le_bytes(table[first].map(|i: usize| bytes[i]))).to_vec()
            },
        ),
        ("bfi.b32 %r0, %a0, %b0, %c, %a1; bfi.b64 %z0, %x0, %y0, %c, %a3; mov.b64 {%r1, %r2}, %z0;", |a, b, c| {
            let insert = |a: u64, b: u64, length: u128, bits: u32| {
                let length = (length & 255) as u32;
                (0..bits).fold(0_u64, |sum, bit| {
                    let inside = bit >= c && bit - c < length;
                    sum | (if inside { a >> (bit - c) } else { b >> bit } & 1) << bit
                })
            };
            let wide = insert(a as u64, b as u64, a >> 96, 64);
            let narrow = insert(u64::from(a as u32), u64::from(b as u32), a >> 32, 32);
            vec![narrow as u32, wide as u32, (wide >> 32) as u32]
        }),
    ]);
}

#[test]
fn every_table_of_lop3() {
    let tables = (0..256).map(|table| {
        format!(
            ".visible .entry k{table}(.param .u64 to) {{ .reg .b32 %d; .reg .b64 %to; ld.param.u64 %to, [to];
            lop3.b32 %d, 0xf0f0aa55, 0xccccf00f, 0xaaaa5af0, {table}; st.global.u32 [%to], %d; ret; }}\n"
        )
    });
    let machine = Machine::new(&tables.collect::<String>());
    for table in 0..256 {
        let to = machine.upload(&[7]);
        machine.launch(&format!("k{table}"), 1, 1, &[to]).unwrap();
        let bit = |x: u32, i: u32| x >> i & 1;
        let expected = (0..32).fold(0, |sum, i| {
            let place = bit(0xf0f0_aa55, i) << 2 | bit(0xcccc_f00f, i) << 1 | bit(0xaaaa_5af0, i);
            sum | bit(table, place) << i
        });
        assert_eq!(machine.download(to, 1), [expected], "table {table:#x}");
    }
}

/// The product of each of two halves of `a` with a byte of `b` from `first` on, and `c`.
fn halves(a: u128, b: u128, c: u32, first: u32, signed: (bool, bool)) -> u32 {
    let half = |i: u32| {
        let half = (a >> (16 * i)) as u16;
        if signed.0 { i64::from(half as i16) } else { i64::from(half) }
    };
    let byte = |i: u32| {
        let byte = (b >> (8 * i)) as u8;
        if signed.1 { i64::from(byte as i8) } else { i64::from(byte) }
    };
    (half(0) * byte(first) + half(1) * byte(first + 1) + i64::from(c)) as u32
}

/// The low 24 bits with their sign.
fn signed24(x: u128) -> i64 {
    i64::from((x as i32) << 8 >> 8)
}

#[test]
fn narrow_products() {
    check(&[
        ("dp2a.lo.s32.s32 %r0, %a0, %b0, %c; dp2a.hi.s32.u32 %r1, %a0, %b0, %c;", |a, b, c| {
            vec![halves(a, b, c, 0, (true, true)), halves(a, b, c, 2, (true, false))]
        }),
        ("dp2a.lo.u32.s32 %r0, %a0, %b0, %c; dp2a.hi.u32.s32 %r1, %a0, %b0, %c;", |a, b, c| {
            vec![halves(a, b, c, 0, (false, true)), halves(a, b, c, 2, (false, true))]
        }),
        ("dp4a.u32.s32 %r0, %a0, %b0, %a1;", |a, b, _| {
            let products = (0..4).map(|i| i64::from((a >> (8 * i)) as u8) * i64::from((b >> (8 * i)) as u8 as i8));
            vec![(products.sum::<i64>() + i64::from((a >> 32) as u32)) as u32]
        }),
        (
            "mad24.hi.u32 %r0, %a0, %b0, %c; mad24.lo.s32 %r1, %a0, %b0, %c; mad24.hi.s32 %r2, %a0, %b0, %c;",
            |a, b, c| {
                let unsigned = (a as u64 & 0xff_ffff) * (b as u64 & 0xff_ffff);
                let signed = signed24(a) * signed24(b);
                let add = |x: u64| (x as u32).wrapping_add(c);
                vec![add(unsigned >> 16), add(signed as u64), add((signed >> 16) as u64)]
            },
        ),
        (
            "sad.u64 %z0, %x0, %y0, %x1; sad.s64 %z1, %x0, %y0, %x1; mov.b64 {%r0, %r1}, %z0; mov.b64 {%r2, %r3}, %z1;",
            {
                |a, b, _| {
                    let third = (a >> 64) as u64;
                    let unsigned = third.wrapping_add((a as u64).abs_diff(b as u64));
                    let signed = third.wrapping_add((a as i64).abs_diff(b as i64));
                    words(u128::from(signed) << 64 | u128::from(unsigned))
                }
            },
        ),
    ]);
}

#[test]
fn places_of_bits() {
    check(&[
        ("szext.clamp.s32 %r0, %a0, %c; szext.wrap.u32 %r1, %a0, %c;", |a, _, c| {
            let spare = 64 - c.min(32);
            let clamped = if c == 0 { 0 } else { (i64::from(a as u32) << spare >> spare) as u32 };
            vec![clamped, (a as u64 & ((1 << (c % 32)) - 1)) as u32]
        }),
        ("and.b32 %t0, %c, 31; shr.u32 %t1, %b0, 27; sub.u32 %t1, %t1, 16; fns.b32 %r0, %a0, %t0, %t1;", |a, b, c| {
            let (base, offset) = (c & 31, ((b as u32 >> 27) as i32) - 16);
            let set = |&place: &u32| a as u32 >> place & 1 != 0;
            let found = match offset {
                0 => Some(base).filter(set),
                1.. => (base..32).filter(set).nth(offset as usize - 1),
                _ => (0..=base).rev().filter(set).nth(offset.unsigned_abs() as usize - 1),
            };
            vec![found.unwrap_or(u32::MAX)]
        }),
        (
            "clz.b64 %r0, %x0; popc.b64 %r1, %x0; bfind.u64 %r2, %x0; brev.b64 %z0, %x0; mov.b64 {%r3, %r4}, %z0;",
            |a, _, _| {
                let x = a as u64;
                let highest = x.checked_ilog2().unwrap_or(u32::MAX);
                let turned = x.reverse_bits();
                vec![x.leading_zeros(), x.count_ones(), highest, turned as u32, (turned >> 32) as u32]
            },
        ),
    ]);
}
