//! Products in every layout, width and type.

use super::{BF16, Case, check, k_major, mn_major};

#[test]
fn k_major_in_every_swizzle() {
    for (width, slices) in [(16, 1), (32, 1), (64, 2), (128, 4)] {
        for slice in 0..slices {
            check(&Case::new(16, BF16, Some(k_major(width, slice)), k_major(width, slice)));
        }
    }
    check(&Case::new(96, BF16, Some(k_major(32, 0)), k_major(128, 3)));
}

#[test]
fn mn_major_in_every_swizzle() {
    for width in [16, 32, 64, 128] {
        for (a_rows, b_rows) in [(true, false), (false, true), (true, true)] {
            let of = |rows: bool, count: usize| if rows { mn_major(width, count) } else { k_major(width, 0) };
            check(&Case::new(64, BF16, Some(of(a_rows, 64)), of(b_rows, 64)));
        }
        check(&Case::new(128, BF16, None, mn_major(width, 128)));
    }
}

#[test]
fn every_width() {
    for n in (8..=256).step_by(8) {
        check(&Case::new(n, BF16, Some(k_major(128, 1)), k_major(64, 1)));
    }
    for n in [8, 16, 96, 256] {
        for types in [["f16", "f16", "f16"], ["f32", "f16", "f16"], ["f32", "tf32", "tf32"], ["s32", "s8", "u8"]] {
            check(&Case::new(n, types, Some(k_major(128, 2)), k_major(64, 0)));
            check(&Case::new(n, types, None, k_major(64, 1)));
        }
        check(&Case::new(n, BF16, Some(mn_major(128, 64)), mn_major(16, n)));
    }
}

#[test]
fn every_type() {
    let fp8 = ["e4m3", "e5m2"].map(|a| ["e4m3", "e5m2"].map(|b| ["f16", "f32"].map(|d| [d, a, b])));
    let integers = ["u8", "s8"].map(|a| ["u8", "s8"].map(|b| ["s32", a, b]));
    let others = [BF16, ["f16", "f16", "f16"], ["f32", "f16", "f16"], ["f32", "tf32", "tf32"], ["s32", "b1", "b1"]];
    let all = fp8.into_iter().flatten().flatten().chain(integers.into_iter().flatten()).chain(others);

    for types in all {
        for a in [None, Some(k_major(128, 1))] {
            for accumulate in [true, false] {
                let mut case = Case::new(24, types, a, k_major(32, 0));
                case.accumulate = accumulate;
                check(&case);
                if types[0] != "s32" {
                    for signs in [[-1, 1], [1, -1], [-1, -1]] {
                        check(&Case { signs, ..case.clone() });
                    }
                } else if types[1] != "b1" {
                    check(&Case { flags: ".satfinite", ..case });
                }
            }
        }
    }
}
