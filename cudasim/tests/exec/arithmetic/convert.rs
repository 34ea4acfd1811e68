use super::{check, doubles, integers, singles};

fn f(x: u64) -> f32 {
    f32::from_bits(x as u32)
}

#[test]
fn integers_are_cut_and_extended() {
    check(
        [64; 4],
        &integers(),
        &[
            ("cvt.s64.s8 {d}, {a};", |a, _, _| a as i8 as u64),
            ("cvt.u64.u8 {d}, {a};", |a, _, _| a & 0xff),
            ("cvt.s64.s16 {d}, {a};", |a, _, _| a as i16 as u64),
            ("cvt.s64.s32 {d}, {a};", |a, _, _| a as i32 as u64),
            ("cvt.u64.s32 {d}, {a};", |a, _, _| a as i32 as u64),
            ("cvt.u64.u32 {d}, {a};", |a, _, _| a & 0xffff_ffff),
            // The destination is wider than the type: extended by its sign.
            ("cvt.s8.s64 {d}, {a};", |a, _, _| a as i8 as u64),
            ("cvt.u16.u64 {d}, {a};", |a, _, _| a & 0xffff),
            ("cvt.sat.s8.s64 {d}, {a};", |a, _, _| (a as i64).clamp(-128, 127) as u64),
            ("cvt.sat.u8.s64 {d}, {a};", |a, _, _| (a as i64).clamp(0, 255) as u64),
            ("cvt.sat.s32.u64 {d}, {a};", |a, _, _| a.min(i32::MAX as u64)),
        ],
    );
    check(
        [32; 4],
        &integers(),
        &[
            ("cvt.u32.u8 {d}, {a};", |a, _, _| a & 0xff),
            ("cvt.s32.s8 {d}, {a};", |a, _, _| a as i8 as u64),
            ("cvt.s32.s16 {d}, {a};", |a, _, _| a as i16 as u64),
            ("cvt.u8.u32 {d}, {a};", |a, _, _| a & 0xff),
            ("cvt.sat.u16.s32 {d}, {a};", |a, _, _| (a as i32).clamp(0, 65535) as u64),
            ("cvt.pack.sat.s16.s32 {d}, {a}, {b};", |a, b, _| {
                let half = |x: u64| (x as i32).clamp(-32768, 32767) as u64 & 0xffff;
                half(a) << 16 | half(b)
            }),
            ("cvt.pack.sat.u8.s32.b32 {d}, {a}, {b}, {c};", |a, b, c| {
                let byte = |x: u64| (x as i32).clamp(0, 255) as u64;
                c << 16 | byte(a) << 8 | byte(b)
            }),
        ],
    );
    check(
        [16, 32, 32, 32],
        &integers(),
        &[("cvt.s8.s32 {d}, {a};", |a, _, _| a as i8 as u64), ("cvt.u16.u32 {d}, {a};", |a, _, _| a)],
    );
}

#[test]
fn floats_become_integers() {
    check(
        [32; 4],
        &singles(),
        &[
            // Rust's casts saturate and make NaN 0, as the instruction does for 32 bits.
            ("cvt.rzi.s32.f32 {d}, {a};", |a, _, _| f(a) as i32 as u64),
            ("cvt.rzi.u32.f32 {d}, {a};", |a, _, _| u64::from(f(a) as u32)),
            ("cvt.rni.s32.f32 {d}, {a};", |a, _, _| f(a).round_ties_even() as i32 as u64),
            ("cvt.rmi.s32.f32 {d}, {a};", |a, _, _| f(a).floor() as i32 as u64),
            ("cvt.rpi.s32.f32 {d}, {a};", |a, _, _| f(a).ceil() as i32 as u64),
            (
                "cvt.rpi.ftz.s32.f32 {d}, {a};",
                |a, _, _| if f(a).is_subnormal() { 0 } else { f(a).ceil() as i32 as u64 },
            ),
            ("cvt.rzi.u8.f32 {d}, {a};", |a, _, _| u64::from(f(a) as u8)),
            ("cvt.rzi.s16.f32 {d}, {a};", |a, _, _| f(a) as i16 as u64),
            ("cvt.rni.f32.f32 {d}, {a};", |a, _, _| {
                if f(a).is_nan() { 0x7fff_ffff } else { f(a).round_ties_even().to_bits().into() }
            }),
            (
                "cvt.rmi.f32.f32 {d}, {a};",
                |a, _, _| if f(a).is_nan() { 0x7fff_ffff } else { f(a).floor().to_bits().into() },
            ),
            ("cvt.sat.f32.f32 {d}, {a};", |a, _, _| if f(a) > 0.0 { f(a).min(1.0).to_bits().into() } else { 0 }),
        ],
    );
    check(
        [64, 64, 64, 64],
        &doubles(),
        &[
            ("cvt.rzi.s64.f64 {d}, {a};", |a, _, _| {
                let x = f64::from_bits(a);
                if x.is_nan() { 1 << 63 } else { x as i64 as u64 }
            }),
            ("cvt.rni.f64.f64 {d}, {a}; setp.nan.f64 {q}, {d}, {d}; @{q} mov.b64 {d}, 0;", |a, _, _| {
                let x = f64::from_bits(a).round_ties_even();
                if x.is_nan() { 0 } else { x.to_bits() }
            }),
        ],
    );
}

#[test]
fn integers_become_floats() {
    check(
        [32; 4],
        &integers(),
        &[
            ("cvt.rn.f32.s32 {d}, {a};", |a, _, _| (a as i32 as f32).to_bits().into()),
            ("cvt.rn.f32.u32 {d}, {a};", |a, _, _| (a as u32 as f32).to_bits().into()),
            ("cvt.rn.f32.s8 {d}, {a};", |a, _, _| f32::from(a as i8).to_bits().into()),
            ("cvt.rz.f32.u32 {d}, {a};", |a, _, _| {
                // Cut to 24 bits: then the conversion is exact.
                let spare = 8_u32.saturating_sub((a as u32).leading_zeros());
                ((a as u32 >> spare << spare) as f32).to_bits().into()
            }),
        ],
    );

    check([64, 32, 32, 32], &integers(), &[("cvt.rn.f64.s32 {d}, {a};", |a, _, _| f64::from(a as i32).to_bits())]);
    check(
        [32, 64, 64, 64],
        &integers(),
        &[
            ("cvt.rn.f32.u64 {d}, {a};", |a, _, _| (a as f32).to_bits().into()),
            ("cvt.rn.f32.s64 {d}, {a};", |a, _, _| (a as i64 as f32).to_bits().into()),
        ],
    );

    check([64; 4], &integers(), &[("cvt.rn.f64.u64 {d}, {a};", |a, _, _| (a as f64).to_bits())]);
}

/// bf16 nearest to an f32, ties to even: by adding half of the last place.
fn bf16(x: f32) -> u64 {
    if x.is_nan() { 0x7fff } else { u64::from((x.to_bits() + 0x7fff + (x.to_bits() >> 16 & 1)) >> 16) }
}

#[test]
fn between_float_formats() {
    check(
        [32; 4],
        &singles(),
        &[
            ("cvt.rn.bf16x2.f32 {d}, {a}, {b};", |a, b, _| bf16(f(a)) << 16 | bf16(f(b))),
            ("cvt.rz.bf16x2.f32 {d}, {a}, {b};", |a, b, _| {
                let cut = |x: u64| if f(x).is_nan() { 0x7fff } else { x >> 16 };
                cut(a) << 16 | cut(b)
            }),
            ("cvt.rn.relu.bf16x2.f32 {d}, {a}, {b};", |a, b, _| {
                let relu = |x: u64| if f(x).is_sign_negative() && !f(x).is_nan() { 0 } else { bf16(f(x)) };
                relu(a) << 16 | relu(b)
            }),
            ("cvt.rna.tf32.f32 {d}, {a}; and.b32 {d}, {d}, 0xffffe000;", |a, _, _| {
                if f(a).is_nan() {
                    return 0x7fff_e000;
                }
                // Halves go away from zero: add half of the last of ten bits to the magnitude.
                let magnitude = (a & 0x7fff_ffff) + 0x1000;
                if f(a).is_infinite() { a } else { a & 0x8000_0000 | magnitude & 0x7fff_e000 }
            }),
        ],
    );

    check([16, 32, 32, 32], &singles(), &[("cvt.rn.bf16.f32 {d}, {a};", |a, _, _| bf16(f(a)))]);
    check(
        [32, 16, 16, 16],
        &integers(),
        &[("cvt.f32.bf16 {d}, {a};", |a, _, _| {
            let x = f32::from_bits((a as u32) << 16);
            if x.is_nan() { 0x7fff_ffff } else { x.to_bits().into() }
        })],
    );
}

#[test]
fn f16_to_bf16_without_a_rounding_goes_to_the_nearest() {
    // As Triton spells it, and ptxas takes it.
    let nearest = |a: u64, _, _| bf16(cudasim::numerics::formats::f16_to_f32(a as u16));
    check(
        [16, 16, 16, 32],
        &(0..=0xffff_u64).step_by(7).map(|x| [x, 0, 0]).collect::<Vec<_>>(),
        &[("cvt.bf16.f16 {d}, {a};", nearest), ("cvt.rn.bf16.f16 {d}, {a};", nearest)],
    );
}

#[test]
fn wider_formats_keep_every_value() {
    // There and back is the same, for every f16 but the NaNs.
    check(
        [16, 16, 16, 32],
        &(0..=0xffff_u64).step_by(7).map(|x| [x, 0, 0]).collect::<Vec<_>>(),
        &[("cvt.f32.f16 {c}, {a}; cvt.rn.f16.f32 {d}, {c};", |a, _, _| if a & 0x7fff > 0x7c00 { 0x7fff } else { a })],
    );

    check(
        [64, 32, 32, 32],
        &singles(),
        &[("cvt.f64.f32 {d}, {a}; setp.nan.f64 {q}, {d}, {d}; @{q} mov.b64 {d}, 0;", |a, _, _| {
            if f(a).is_nan() { 0 } else { f64::from(f(a)).to_bits() }
        })],
    );

    check(
        [32, 64, 64, 64],
        &doubles(),
        &[("cvt.rn.f32.f64 {d}, {a};", |a, _, _| {
            let x = f64::from_bits(a) as f32;
            if x.is_nan() { 0x7fff_ffff } else { x.to_bits().into() }
        })],
    );
}

#[test]
fn singles_to_eight_bits() {
    // e4m3: 1.0 is 0x38, 448 the largest 0x7e, e5m2: 1.0 is 0x3c, 57344 the largest 0x7b.
    let values = [1.0_f32, -1.0, 448.0, 1.0e9, 0.0, 2.0, 57344.0];
    let pairs: Vec<[u64; 3]> = values.iter().map(|x| [x.to_bits().into(), 1.0_f32.to_bits().into(), 0]).collect();
    check(
        [16, 32, 32, 32],
        &pairs,
        &[
            ("cvt.rn.satfinite.e4m3x2.f32 {d}, {a}, {b};", |a, _, _| {
                let byte = match f(a) {
                    x if x.abs() >= 448.0 => 0x7e,
                    0.0 => 0,
                    2.0 => 0x40,
                    1.0 => 0x38,
                    _ => 0xb8,
                };
                byte << 8 | 0x38
            }),
            ("cvt.rn.satfinite.e5m2x2.f32 {d}, {a}, {b};", |a, _, _| {
                let byte = match f(a) {
                    x if x >= 57344.0 => 0x7b,
                    448.0 => 0x5f,
                    0.0 => 0,
                    2.0 => 0x40,
                    1.0 => 0x3c,
                    _ => 0xbc,
                };
                byte << 8 | 0x3c
            }),
        ],
    );
}
