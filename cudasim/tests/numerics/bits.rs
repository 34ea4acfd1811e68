//! Bit manipulation against the ISA's pseudo-code, bit by bit.

use cudasim::numerics::bits::*;

use crate::exact::Bits;

/// Words with structure, then random ones.
fn words() -> Vec<u64> {
    let mut bits = Bits(6);
    let fixed = [0, 1, 0x8000_0000, 0x7fff_ffff, 0xffff_ffff, 1 << 63, u64::MAX, 0x0123_4567_89ab_cdef];
    fixed.into_iter().chain(std::iter::repeat_with(|| bits.next()).take(8)).collect()
}

/// Positions and lengths, some past the width and some past eight bits.
const AMOUNTS: [u32; 17] = [0, 1, 2, 5, 8, 15, 16, 31, 32, 33, 47, 63, 64, 65, 255, 256, 0x1_0003];

#[test]
fn shifts_clamp() {
    for amount in AMOUNTS.into_iter().chain([u32::MAX]) {
        for a in words() {
            let (a16, a32) = (a as u16, a as u32);
            let by = amount.min(127);
            assert_eq!(shl_b16(a16, amount), (u128::from(a16) << by.min(64)) as u16);
            assert_eq!(shl_b32(a32, amount), (u128::from(a32) << by.min(64)) as u32);
            assert_eq!(shl_b64(a, amount), (u128::from(a) << by.min(64)) as u64);
            assert_eq!(shr_u16(a16, amount), (u128::from(a16) >> by) as u16);
            assert_eq!(shr_u32(a32, amount), (u128::from(a32) >> by) as u32);
            assert_eq!(shr_u64(a, amount), (u128::from(a) >> by) as u64);
            assert_eq!(shr_s16(a16 as i16, amount), (i128::from(a16 as i16) >> by) as i16);
            assert_eq!(shr_s32(a32 as i32, amount), (i128::from(a32 as i32) >> by) as i32);
            assert_eq!(shr_s64(a as i64, amount), (i128::from(a as i64) >> by) as i64);
        }
    }
}

#[test]
fn funnel_shifts() {
    let (a, b) = (0x89ab_cdef, 0x0123_4567);
    for (amount, wrapped, clamped) in [(0, 0, 0), (4, 4, 4), (31, 31, 31), (32, 0, 32), (36, 4, 32), (u32::MAX, 31, 32)]
    {
        let left = |n: u32| ((u128::from(0x0123_4567_89ab_cdef_u64) << n) >> 32) as u32;
        let right = |n: u32| (0x0123_4567_89ab_cdef_u64 >> n) as u32;
        assert_eq!(shf_l(Amount::Wrap, a, b, amount), left(wrapped));
        assert_eq!(shf_l(Amount::Clamp, a, b, amount), left(clamped));
        assert_eq!(shf_r(Amount::Wrap, a, b, amount), right(wrapped));
        assert_eq!(shf_r(Amount::Clamp, a, b, amount), right(clamped));
    }
    assert_eq!(shf_l(Amount::Clamp, a, b, 32), a);
    assert_eq!(shf_r(Amount::Clamp, a, b, 32), b);
}

/// The ISA's `bfe`.
fn bfe(signed: bool, msb: u32, a: u64, position: u32, length: u32) -> u64 {
    let (position, length) = (position & 0xff, length & 0xff);
    let bit = |i: u32| a >> i & 1;
    let sign = if !signed || length == 0 { 0 } else { bit((position + length - 1).min(msb)) };
    (0..=msb).map(|i| if i < length && position + i <= msb { bit(position + i) << i } else { sign << i }).sum()
}

/// The ISA's `bfi`.
fn bfi(msb: u32, a: u64, b: u64, position: u32, length: u32) -> u64 {
    let (position, length) = (position & 0xff, length & 0xff);
    let mut field = b;
    for i in (0..length).take_while(|i| position + i <= msb) {
        field = field & !(1 << (position + i)) | (a >> i & 1) << (position + i);
    }
    field
}

#[test]
fn bit_fields() {
    for a in words() {
        for position in AMOUNTS {
            for length in AMOUNTS {
                for signed in [false, true] {
                    let narrow = u64::from(bfe_32(signed, a as u32, position, length));
                    assert_eq!(
                        narrow,
                        bfe(signed, 31, a & 0xffff_ffff, position, length),
                        "{a:#x} {position} {length}"
                    );
                    assert_eq!(bfe_64(signed, a, position, length), bfe(signed, 63, a, position, length));
                }

                let b = a.rotate_left(17) ^ 0x5555;
                let narrow = u64::from(bfi_32(a as u32, b as u32, position, length));
                assert_eq!(narrow, bfi(31, a & 0xffff_ffff, b & 0xffff_ffff, position, length));
                assert_eq!(bfi_64(a, b, position, length), bfi(63, a, b, position, length));
            }
        }
    }
}

#[test]
fn highest_bits() {
    for i in 0..64 {
        let a = (1_u64 << i) | (1 << i) >> 3;

        assert_eq!((bfind_u64(false, a), bfind_u64(true, a)), (i, 63 - i));
        if i < 63 {
            assert_eq!((bfind_s64(false, !a as i64), bfind_s64(true, a as i64)), (i, 63 - i));
        }

        if i < 32 {
            assert_eq!((bfind_u32(false, a as u32), bfind_u32(true, a as u32)), (i, 31 - i));
        }

        if i < 31 {
            assert_eq!((bfind_s32(false, a as i32), bfind_s32(true, !a as i32)), (i, 31 - i));
        }
    }
    for shift_amount in [false, true] {
        assert_eq!(bfind_u32(shift_amount, 0), u32::MAX);
        assert_eq!(bfind_s32(shift_amount, -1), u32::MAX);
        assert_eq!(bfind_s64(shift_amount, 0), u32::MAX);
    }
    assert_eq!((bfind_s32(false, i32::MIN), bfind_s64(true, i64::MIN)), (30, 1));
}

#[test]
fn nth_set_bit() {
    let mask = 0b1001_0110;
    for (base, offset, expected) in [
        (0, 1, 1),
        (1, 1, 1),
        (1, 2, 2),
        (1, 4, 7),
        (1, 5, u32::MAX),
        (7, -1, 7),
        (6, -1, 4),
        (6, -3, 1),
        (6, -4, u32::MAX),
        (4, 0, 4),
        (3, 0, u32::MAX),
        (31, 1, u32::MAX),
        (32, 1, u32::MAX),
        (0, i32::MIN, u32::MAX),
    ] {
        assert_eq!(fns(mask, base, offset), expected, "{base} {offset}");
    }
}

#[test]
fn byte_permutations() {
    // Byte i of [b:a] has the value i, so that the result reads as the ISA's table: d.b3 to d.b0 for selectors 0 to 3.
    let (a, b) = (0x0302_0100, 0x0706_0504);

    for (mode, table) in [
        (Permute::Forward4, [0x0302_0100, 0x0403_0201, 0x0504_0302, 0x0605_0403]),
        (Permute::Backward4, [0x0506_0700, 0x0607_0001, 0x0700_0102, 0x0001_0203]),
        (Permute::Replicate8, [0x0000_0000, 0x0101_0101, 0x0202_0202, 0x0303_0303]),
        (Permute::EdgeLeft, [0x0302_0100, 0x0302_0101, 0x0302_0202, 0x0303_0303]),
        (Permute::EdgeRight, [0x0000_0000, 0x0101_0100, 0x0202_0100, 0x0302_0100]),
        (Permute::Replicate16, [0x0100_0100, 0x0302_0302, 0x0100_0100, 0x0302_0302]),
    ] {
        for (selector, expected) in (0..).zip(table) {
            assert_eq!(prmt(mode, a, b, selector), expected, "{mode:?} {selector}");
            assert_eq!(prmt(mode, a, b, selector | 0xffff_fff0), expected, "only two bits of the selector count");
        }
    }

    assert_eq!(prmt(Permute::Index, a, b, 0x7520), 0x0705_0200);
    assert_eq!(prmt(Permute::Index, a, b, 0xabcd_7520), 0x0705_0200);
    // The top bit of a nibble replicates the sign of its byte.
    assert_eq!(prmt(Permute::Index, 0x8000_7f80, 0xff00_0000, 0xf98b), 0xff00_ffff);
}

#[test]
fn every_lop3_table() {
    for table in 0..=255_u8 {
        for (a, b, c) in [(0xf0, 0xcc, 0xaa), (0x1234_5678, 0x9abc_def0, 0x0f1e_2d3c)] {
            let expected = (0..32).map(|i| {
                let index = (a >> i & 1) << 2 | (b >> i & 1) << 1 | (c >> i & 1);
                u32::from(table >> index & 1) << i
            });
            assert_eq!(lop3(a, b, c, table), expected.sum::<u32>(), "{table:#x}");
        }
        assert_eq!(lop3(0xf0, 0xcc, 0xaa, table) & 0xff, table.into(), "the ISA's way to make a table");
    }
}

#[test]
fn extension_and_masks() {
    for (mode, signed, a, b, expected) in [
        (Amount::Wrap, false, 0xabcd, 8, 0xcd),
        (Amount::Wrap, true, 0xabcd, 8, 0xffff_ffcd),
        (Amount::Wrap, true, 0x7f, 8, 0x7f),
        (Amount::Wrap, true, 0xffff_ffff, 32, 0),
        (Amount::Clamp, true, 0x1234_5678, 32, 0x1234_5678),
        (Amount::Clamp, false, 0x1234_5678, 300, 0x1234_5678),
        (Amount::Wrap, false, 0x1234_5678, 36, 0x8),
        (Amount::Clamp, true, 0xffff_ffff, 0, 0),
        (Amount::Clamp, true, 1, 1, 0xffff_ffff),
    ] {
        assert_eq!(szext(mode, signed, a, b), expected, "szext {mode:?} {signed} {a:#x} {b}");
    }
    for (mode, a, b, expected) in [
        (Amount::Wrap, 4, 8, 0xff0),
        (Amount::Clamp, 28, 8, 0xf000_0000),
        (Amount::Wrap, 36, 8, 0xff0),
        (Amount::Clamp, 36, 8, 0),
        (Amount::Wrap, 0, 32, 0),
        (Amount::Clamp, 0, 32, u32::MAX),
        (Amount::Clamp, 4, 1000, 0xffff_fff0),
        (Amount::Wrap, 3, 0, 0),
    ] {
        assert_eq!(bmsk(mode, a, b), expected, "bmsk {mode:?} {a} {b}");
    }
}
