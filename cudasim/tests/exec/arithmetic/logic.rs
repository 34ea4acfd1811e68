use super::{check, integers};

#[test]
fn words() {
    check(
        [32; 4],
        &integers(),
        &[
            ("and.b32 {d}, {a}, {b};", |a, b, _| a & b),
            ("or.b32 {d}, {a}, {b};", |a, b, _| a | b),
            ("xor.b32 {d}, {a}, {b};", |a, b, _| a ^ b),
            ("not.b32 {d}, {a};", |a, _, _| !a),
            ("cnot.b32 {d}, {a};", |a, _, _| u64::from(a == 0)),
            ("shl.b32 {d}, {a}, {b};", |a, b, _| if b > 31 { 0 } else { a << b }),
            ("shr.u32 {d}, {a}, {b};", |a, b, _| if b > 31 { 0 } else { a >> b }),
            ("shr.b32 {d}, {a}, {b};", |a, b, _| if b > 31 { 0 } else { a >> b }),
            ("shr.s32 {d}, {a}, {b};", |a, b, _| (i64::from(a as i32) >> b.min(63)) as u64),
            ("shf.l.wrap.b32 {d}, {a}, {b}, {c};", |a, b, c| (b << 32 | a) << (c & 31) >> 32),
            ("shf.r.wrap.b32 {d}, {a}, {b}, {c};", |a, b, c| (b << 32 | a) >> (c & 31)),
            ("shf.l.clamp.b32 {d}, {a}, {b}, {c};", |a, b, c| if c > 31 { a } else { (b << 32 | a) << c >> 32 }),
            ("shf.r.clamp.b32 {d}, {a}, {b}, {c};", |a, b, c| (b << 32 | a) >> c.min(32)),
            // a & b | ~a & c, as 0xf0, 0xcc and 0xaa make it: 0xca.
            ("lop3.b32 {d}, {a}, {b}, {c}, 0xca;", |a, b, c| a & b | !a & c),
            ("lop3.b32 {d}, {a}, {b}, {c}, 0x96;", |a, b, c| a ^ b ^ c),
            ("lop3.or.b32 {d}|{q}, {a}, {b}, {c}, 0x80, {p}; selp.u32 {d}, 1, 0, {q};", |a, b, c| {
                u64::from(a & b & c != 0 || c & 1 != 0)
            }),
            ("lop3.and.b32 {d}|{q}, {a}, {b}, {c}, 0x80, !{p}; selp.u32 {d}, 1, 0, {q};", |a, b, c| {
                u64::from(a & b & c != 0 && c & 1 == 0)
            }),
        ],
    );
}

#[test]
fn bit_fields_and_permutations_of_words() {
    check(
        [32; 4],
        &integers(),
        &[
            ("bfe.u32 {d}, {a}, {b}, {c};", |a, b, c| field(a, b & 255, c & 255)),
            ("bfe.s32 {d}, {a}, {b}, {c};", |a, b, c| {
                let (position, length) = (b & 255, (c & 255).min(32));
                let whole = a as i32 as i64 >> position.min(63);
                if length == 0 { 0 } else { (whole << (64 - length) >> (64 - length)) as u64 }
            }),
            ("bfi.b32 {d}, {a}, {b}, 5, 7;", |a, b, _| b & !(0x7f << 5) | (a & 0x7f) << 5),
            ("bfi.b32 {d}, {a}, {b}, 28, 9;", |a, b, _| b & 0x0fff_ffff | a << 28),
            ("bfind.u32 {d}, {a};", |a, _, _| 63_u64.wrapping_sub(a.leading_zeros().into())),
            (
                "bfind.shiftamt.u32 {d}, {a};",
                |a, _, _| if a == 0 { u64::MAX } else { u64::from((a as u32).leading_zeros()) },
            ),
            ("bfind.s32 {d}, {a};", |a, _, _| {
                let differing = if a >> 31 != 0 { !a & 0xffff_ffff } else { a };
                if differing == 0 { u64::MAX } else { 63 - u64::from(differing.leading_zeros()) }
            }),
            ("brev.b32 {d}, {a};", |a, _, _| a.reverse_bits() >> 32),
            ("clz.b32 {d}, {a};", |a, _, _| u64::from(a.leading_zeros()) - 32),
            ("popc.b32 {d}, {a};", |a, _, _| a.count_ones().into()),
            ("bmsk.clamp.b32 {d}, {a}, {b};", |a, b, _| if a > 31 { 0 } else { ((1 << b.min(32)) - 1) << a }),
            ("bmsk.wrap.b32 {d}, {a}, {b};", |a, b, _| ((1 << (b & 31)) - 1) << (a & 31)),
            ("szext.clamp.u32 {d}, {a}, {b};", |a, b, _| a & ((1 << b.min(32)) - 1)),
            ("szext.wrap.s32 {d}, {a}, {b};", |a, b, _| {
                let spare = 64 - (b & 31);
                if spare == 64 { 0 } else { ((a << spare) as i64 >> spare) as u64 }
            }),
            ("prmt.b32 {d}, {a}, {b}, 0x5410;", |a, b, _| a & 0xffff | b << 16),
            ("prmt.b32 {d}, {a}, {b}, 0x0123;", |a, _, _| u64::from((a as u32).swap_bytes())),
            // A set top bit of a nibble repeats the byte's sign.
            ("prmt.b32 {d}, {a}, {b}, 0xb210;", |a, _, _| a & 0xff_ffff | if a >> 31 != 0 { 0xff00_0000 } else { 0 }),
            ("prmt.b32.f4e {d}, {a}, {b}, {c};", |a, b, c| (b << 32 | a) >> (8 * (c & 3))),
            ("prmt.b32.rc16 {d}, {a}, {b}, {c};", |a, _, c| {
                let half = a >> (16 * (c & 1)) & 0xffff;
                half << 16 | half
            }),
            ("prmt.b32.rc8 {d}, {a}, {b}, {c};", |a, _, c| (a >> (8 * (c & 3)) & 0xff) * 0x0101_0101),
            ("fns.b32 {d}, {a}, 0, 1;", |a, _, _| if a == 0 { u64::MAX } else { a.trailing_zeros().into() }),
            ("fns.b32 {d}, {a}, 31, -1;", |a, _, _| 63_u64.wrapping_sub(a.leading_zeros().into())),
        ],
    );
}

fn field(a: u64, position: u64, length: u64) -> u64 {
    let shifted = if position > 63 { 0 } else { a >> position };
    if length > 63 { shifted } else { shifted & ((1 << length) - 1) }
}

#[test]
fn double_words() {
    check(
        [64, 64, 64, 32],
        &integers(),
        &[
            ("and.b64 {d}, {a}, {b};", |a, b, _| a & b),
            ("or.b64 {d}, {a}, {b};", |a, b, _| a | b),
            ("xor.b64 {d}, {a}, {b};", |a, b, _| a ^ b),
            ("not.b64 {d}, {a};", |a, _, _| !a),
            ("cnot.b64 {d}, {a};", |a, _, _| u64::from(a == 0)),
            ("shl.b64 {d}, {a}, {c};", |a, _, c| if c > 63 { 0 } else { a << c }),
            ("shr.u64 {d}, {a}, {c};", |a, _, c| if c > 63 { 0 } else { a >> c }),
            ("shr.s64 {d}, {a}, {c};", |a, _, c| (a as i64 >> c.min(63)) as u64),
            ("bfe.u64 {d}, {a}, 9, {c};", |a, _, c| field(a, 9, c & 255)),
            ("bfe.s64 {d}, {a}, 9, 20;", |a, _, _| ((a << 35) as i64 >> 44) as u64),
            ("bfi.b64 {d}, {a}, {b}, 13, 30;", |a, b, _| b & !(0x3fff_ffff << 13) | (a & 0x3fff_ffff) << 13),
            ("brev.b64 {d}, {a};", |a, _, _| a.reverse_bits()),
        ],
    );
    check(
        [32, 64, 64, 32],
        &integers(),
        &[
            ("clz.b64 {d}, {a};", |a, _, _| a.leading_zeros().into()),
            ("popc.b64 {d}, {a};", |a, _, _| a.count_ones().into()),
            ("bfind.u64 {d}, {a};", |a, _, _| 63_u64.wrapping_sub(a.leading_zeros().into())),
            ("bfind.s64 {d}, {a};", |a, _, _| {
                let differing = if (a as i64) < 0 { !a } else { a };
                63_u64.wrapping_sub(differing.leading_zeros().into())
            }),
            ("bfind.shiftamt.u64 {d}, {a};", |a, _, _| if a == 0 { u64::MAX } else { a.leading_zeros().into() }),
        ],
    );
}

#[test]
fn half_words() {
    check(
        [16, 16, 16, 32],
        &integers(),
        &[
            ("and.b16 {d}, {a}, {b};", |a, b, _| a & b),
            ("or.b16 {d}, {a}, {b};", |a, b, _| a | b),
            ("xor.b16 {d}, {a}, {b};", |a, b, _| a ^ b),
            ("not.b16 {d}, {a};", |a, _, _| !a),
            ("shl.b16 {d}, {a}, {c};", |a, _, c| if c > 15 { 0 } else { a << c }),
            ("shr.u16 {d}, {a}, {c};", |a, _, c| if c > 15 { 0 } else { a >> c }),
            ("shr.s16 {d}, {a}, {c};", |a, _, c| (i64::from(a as i16) >> c.min(63)) as u64),
        ],
    );
}

#[test]
fn predicates() {
    check(
        [32; 4],
        &integers(),
        &[
            ("setp.lt.u32 {q}, {a}, {b}; and.pred {q}, {q}, {p}; selp.u32 {d}, 1, 0, {q};", |a, b, c| {
                u64::from(a < b && c & 1 != 0)
            }),
            ("setp.lt.u32 {q}, {a}, {b}; or.pred {q}, {q}, {p}; selp.u32 {d}, 1, 0, {q};", |a, b, c| {
                u64::from(a < b || c & 1 != 0)
            }),
            ("setp.lt.u32 {q}, {a}, {b}; xor.pred {q}, {q}, {p}; selp.u32 {d}, 1, 0, {q};", |a, b, c| {
                u64::from((a < b) != (c & 1 != 0))
            }),
            ("not.pred {q}, {p}; selp.u32 {d}, 1, 0, {q};", |_, _, c| 1 - (c & 1)),
            (
                "mov.pred {q}, {p}; @{q} mov.u32 {d}, {a}; @!{q} mov.u32 {d}, {b};",
                |a, b, c| if c & 1 != 0 { a } else { b },
            ),
        ],
    );
}
