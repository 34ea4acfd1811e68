use super::{check, integers};

#[test]
fn registers_are_packed_and_unpacked() {
    check(
        [64, 32, 32, 64],
        &integers(),
        &[
            ("mov.b64 {d}, {{a}, {b}};", |a, b, _| b << 32 | a),
            ("{ .reg .b32 %x, %y; mov.b64 {%x, %y}, {c}; mov.b64 {d}, {%y, %x}; }", |_, _, c| c.rotate_left(32)),
            (
                "{ .reg .b16 %s<4>; mov.b64 {%s0, %s1, %s2, %s3}, {c}; mov.b64 {d}, {%s3, %s2, %s1, %s0}; }",
                |_, _, c| {
                    let part = |place: u32| c >> (16 * place) & 0xffff;
                    part(0) << 48 | part(1) << 32 | part(2) << 16 | part(3)
                },
            ),
            ("{ .reg .b128 %q; mov.b128 %q, {{c}, 7}; mov.b128 {{d}, _}, %q; }", |_, _, c| c),
            ("{ .reg .b128 %q; mov.b128 %q, {7, {c}}; mov.b128 {_, {d}}, %q; }", |_, _, c| c),
            ("mov.u64 {d}, {c};", |_, _, c| c),
            ("mov.b64 {d}, 0x123456789abcdef0;", |_, _, _| 0x1234_5678_9abc_def0),
            ("mov.f64 {d}, 0d4000000000000000;", |_, _, _| 2.0_f64.to_bits()),
        ],
    );
    check(
        [32, 32, 16, 16],
        &integers(),
        &[
            ("mov.b32 {d}, {{b}, {c}};", |_, b, c| c << 16 | b),
            ("mov.b32 {d}, {0, {b}};", |_, b, _| b << 16),
            ("{ .reg .b16 %x, %y; mov.b32 {%x, %y}, {a}; mov.b32 {d}, {%y, %x}; }", |a, _, _| {
                u64::from((a as u32).rotate_left(16))
            }),
            ("mov.f32 {d}, 0f3F800000;", |_, _, _| 1.0_f32.to_bits().into()),
            ("mov.u32 {d}, -1;", |_, _, _| u64::MAX),
            ("mov.u32 {d}, WARP_SZ;", |_, _, _| 32),
        ],
    );
}

#[test]
fn windows_of_the_generic_space_are_apart() {
    check(
        [64; 4],
        &[[0x400, 16, 0]],
        &[
            ("cvta.shared.u64 {d}, {a}; cvta.to.shared.u64 {d}, {d};", |a, _, _| a),
            ("cvta.local.u64 {d}, {a}; cvta.to.local.u64 {d}, {d};", |a, _, _| a),
            ("cvta.global.u64 {d}, {a};", |a, _, _| a),
            (
                "cvta.shared.u64 {d}, {a}; { .reg .b64 %x; cvta.local.u64 %x, {a}; setp.eq.u64 {q}, {d}, %x; } selp.b64 {d}, 1, 0, {q};",
                |_, _, _| 0,
            ),
        ],
    );
}
