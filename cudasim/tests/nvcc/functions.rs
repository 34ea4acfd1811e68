//! Recursion, pointers to functions, virtual functions and `alloca`.

use crate::compile::ptx;
use crate::device::{Device, noise, under_all_seeds};
use crate::parameters;
use cudasim::report::FaultKind;

#[test]
fn each_lane_recurses_as_deep_as_it_needs() {
    let Some(ptx) = ptx("functions", "compute_80") else { return };
    fn ackermann(m: i32, n: i32) -> i32 {
        match (m, n) {
            (0, n) => n + 1,
            (m, 0) => ackermann(m - 1, 1),
            (m, n) => ackermann(m - 1, ackermann(m, n - 1)),
        }
    }
    fn parity(even: bool, n: u32, steps: u32) -> u32 {
        match (even, n) {
            (true, 0) => 2 * steps,
            (true, n) => parity(false, n - 1, steps + 1).wrapping_add(n),
            (false, 0) => 2 * steps + 1,
            (false, n) => parity(true, n - 1, steps + 1).wrapping_mul(3),
        }
    }
    under_all_seeds(&ptx, |device| {
        let out = device.allocate::<i32>(64);
        device.launch("ackermanns", [1; 3], 64, parameters!(out));
        let expected: Vec<i32> = (0..64).map(|i| ackermann(i % 3, i % 5)).collect();
        assert_eq!(device.download::<i32>(out, 64), expected);

        let out = device.allocate::<u32>(40);
        device.launch("parities", [1; 3], 40, parameters!(out));
        let expected: Vec<u32> = (0..40).map(|i| parity(true, i * 7 % 50, 0)).collect();
        assert_eq!(device.download::<u32>(out, 40), expected);
    });
}

#[test]
fn activations_have_variables_of_their_own() {
    let Some(ptx) = ptx("functions", "compute_80") else { return };
    fn walk(outer: &[i32; 8], depth: i32, end: i32) -> i32 {
        let own: [i32; 8] = std::array::from_fn(|i| outer[(i + 1) % 8].wrapping_add(depth));
        if depth == end {
            return own.iter().fold(0, |sum, &x| sum.wrapping_add(x));
        }
        (0..8).fold(walk(&own, depth + 1, end), |result, i| {
            result.wrapping_mul(3).wrapping_add(outer[i].wrapping_mul(own[i]))
        })
    }
    under_all_seeds(&ptx, |device| {
        let ends: Vec<i32> = (0..128).map(|i| i * 37 % 60).collect();
        let out = device.allocate::<i32>(128);
        device.launch("walks", [2, 1, 1], 64, parameters!(device.upload(&ends), out));
        let expected: Vec<i32> =
            (0..128).zip(&ends).map(|(i, &end)| walk(&std::array::from_fn(|k| i + k as i32), 0, end)).collect();
        assert_eq!(device.download::<i32>(out, 128), expected);
    });
}

#[test]
fn deep_stacks_and_their_end() {
    let Some(ptx) = ptx("functions", "compute_80") else { return };
    let device = Device::new(&ptx);
    // The first rows are sorted already: as deep as they are long.
    let count = 200;
    let x: Vec<i32> = (0..16 * count).map(|i| if i < 4 * count { i as i32 } else { (noise(i) * 1e6) as i32 }).collect();
    let to = device.upload(&x);
    device.launch("sort_rows", [1; 3], 16, parameters!(to, count as i32));
    let mut expected = x;
    expected.chunks_exact_mut(count).for_each(<[i32]>::sort_unstable);
    assert_eq!(device.download::<i32>(to, expected.len()), expected);

    let out = device.upload(&[0_i32; 4]);
    let report = device.try_launch("never", [1; 3], 1, parameters!(out)).unwrap_err();
    assert_eq!(report.fault.kind, FaultKind::InvalidCall);
    assert!(report.fault.message.contains("stack is full"), "{report}");
}

#[test]
fn virtual_functions_and_tables() {
    let Some(ptx) = ptx("functions", "compute_80") else { return };
    fn call(which: i32, a: i32, b: i32) -> i32 {
        match which {
            0 => a.wrapping_add(b),
            1 => a.wrapping_mul(b),
            _ if b < 1 => a,
            _ => call(b % 3, a, b - 1).wrapping_add(b),
        }
    }
    under_all_seeds(&ptx, |device| {
        // Whole numbers: exact, however products and sums are fused.
        let x: Vec<f32> = (0..96).map(|i| (noise(i) * 20.0).trunc()).collect();
        let out = device.allocate::<f32>(96);
        device.launch("shapes", [1; 3], 96, parameters!(device.upload(&x), out, 3_i32));
        let expected: Vec<f32> = (0..96)
            .zip(&x)
            .map(|(i, &x)| {
                let square = x * x + 3.0 * x;
                let ring = 12.0 * x * x - square;
                [square, ring, 27.0 * x * x - ring][i % 3]
            })
            .collect();
        assert_eq!(device.download::<f32>(out, 96), expected);

        let which: Vec<i32> = (0..96).map(|i| i * 5 % 3).collect();
        let out = device.allocate::<i32>(96);
        device.launch("calls", [1; 3], 96, parameters!(device.upload(&which), out));
        let expected: Vec<i32> = (0..96).map(|i| call(i * 5 % 3, i, i % 7)).collect();
        assert_eq!(device.download::<i32>(out, 96), expected);
    });
}

#[test]
fn memory_from_the_stack() {
    let Some(ptx) = ptx("functions", "compute_80") else { return };
    under_all_seeds(&ptx, |device| {
        let counts: Vec<i32> = (0..64).map(|i| i * 11 % 23).collect();
        let out = device.allocate::<i32>(64);
        device.launch("arrays", [1; 3], 64, parameters!(device.upload(&counts), out));
        let expected: Vec<i32> = counts
            .iter()
            .map(|&count| {
                let squares: i32 = (0..count).step_by(2).map(|i| i * i).sum();
                1000 * squares + (1..=count).map(|n| n * (n + 1) / 2).sum::<i32>()
            })
            .collect();
        assert_eq!(device.download::<i32>(out, 64), expected);
    });
}
