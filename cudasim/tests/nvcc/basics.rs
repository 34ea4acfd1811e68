use crate::compile::ptx;
use crate::device::{Device, assert_close, noise, under_all_seeds};
use crate::parameters;
use cudasim::report::FaultKind;

#[test]
fn vector_add() {
    let Some(ptx) = ptx("basics", "compute_80") else { return };
    under_all_seeds(&ptx, |device| {
        let n = 1000;
        let a: Vec<f32> = (0..n).map(noise).collect();
        let b: Vec<f32> = (n..2 * n).map(noise).collect();
        let out = device.allocate::<f32>(n);
        device.launch("vector_add", [8, 1, 1], 128, parameters!(device.upload(&a), device.upload(&b), out, n as i32));
        let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        assert_eq!(device.download::<f32>(out, n), expected);
    });
}

#[test]
fn saxpy() {
    let Some(ptx) = ptx("basics", "compute_80") else { return };
    under_all_seeds(&ptx, |device| {
        let n = 777;
        let x: Vec<f32> = (0..n).map(noise).collect();
        let y: Vec<f32> = (n..2 * n).map(noise).collect();
        let target = device.upload(&y);
        device.launch("saxpy", [3, 1, 1], 96, parameters!(0.75_f32, device.upload(&x), target, n as i32));
        // The compiler fuses the product and the sum.
        let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| 0.75_f32.mul_add(*x, *y)).collect();
        assert_eq!(device.download::<f32>(target, n), expected);
    });
}

#[test]
fn layernorm() {
    let Some(ptx) = ptx("basics", "compute_80") else { return };
    under_all_seeds(&ptx, |device| {
        let (rows, d) = (5, 300);
        let x: Vec<f32> = (0..rows * d).map(|i| noise(i) + 0.3).collect();
        let gain: Vec<f32> = (0..d).map(|i| noise(i + 9000)).collect();
        let y = device.allocate::<f32>(rows * d);
        let parameters = parameters!(device.upload(&x), device.upload(&gain), y, d as i32, 1e-5_f32);
        device.launch("layernorm", [rows as u32, 1, 1], 128, parameters);
        let expected: Vec<f64> = x
            .chunks_exact(d)
            .flat_map(|row| {
                let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / d as f64;
                let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / d as f64;
                let scale = 1.0 / (variance + 1e-5).sqrt();
                row.iter()
                    .zip(&gain)
                    .map(move |(&x, &gain)| (f64::from(x) - mean) * scale * f64::from(gain))
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_close(&device.download(y, rows * d), &expected, 1e-6, 1e-5);
    });
}

#[test]
fn library_functions_with_their_slow_paths() {
    let Some(ptx) = ptx("basics", "compute_80") else { return };
    under_all_seeds(&ptx, |device| {
        // Up to 1e8, so that the sine needs its table of 2/pi.
        let x: Vec<f32> = (0..200).map(|i| noise(i) * if i % 5 == 0 { 1e5 } else { 3.0 }).collect();
        let out = device.allocate::<f32>(6 * x.len());
        device.launch("library", [2, 1, 1], 128, parameters!(device.upload(&x), out, x.len() as i32));
        let results = device.download::<f32>(out, 6 * x.len());

        for (&x, results) in x.iter().zip(results.chunks_exact(6)) {
            let wide = f64::from(x);
            let expected = [
                wide.exp(),
                wide.tanh(),
                f64::from(1000.0 * x).sin(),
                erf(wide),
                (f64::from(x.abs() + 0.1)).powf(wide),
                wide.abs().ln_1p(),
            ];
            for (name, (&result, expected)) in
                ["exp", "tanh", "sin", "erf", "pow", "log1p"].iter().zip(results.iter().zip(expected))
            {
                let expected = expected as f32;
                let near = (result - expected).abs() <= 1e-6 + 2e-6 * expected.abs() || result == expected;
                assert!(near || expected.is_infinite() && result > 3e38, "{name}({x}) = {result}, not {expected}");
            }
        }
    });
}

/// By its series for small, and 1 - a continued fraction for large arguments.
fn erf(x: f64) -> f64 {
    let square = x * x;
    if x.abs() < 3.0 {
        let mut term = x;
        let mut sum = x;
        for n in 1..100 {
            term *= -square / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return sum * 2.0 / std::f64::consts::PI.sqrt();
    }
    let fraction = (1..60).rev().fold(0.0, |f, n| f64::from(n) / 2.0 / (x.abs() + f));
    (1.0 - (-square).exp() / (std::f64::consts::PI.sqrt() * (x.abs() + fraction))).copysign(x)
}

#[test]
fn calls_direct_and_through_pointers() {
    let Some(ptx) = ptx("basics", "compute_80") else { return };
    assert!(ptx.contains(".func") && ptx.contains("callprototype"), "the functions are inlined: nothing is tested");
    under_all_seeds(&ptx, |device| {
        let n = 100;
        let (direct, indirect) = (device.allocate::<i32>(n), device.allocate::<i32>(n));
        device.launch("calls", [2, 1, 1], 64, parameters!(direct, indirect, n as i32));
        let collatz = |mut n: i32| {
            let mut steps = 0;
            while n != 1 {
                n = if n % 2 == 1 { 3 * n + 1 } else { n / 2 };
                steps += 1;
            }
            steps
        };

        let expected: Vec<i32> = (0..n as i32).map(|i| if i % 3 != 0 { collatz(i + 1) } else { -1 }).collect();
        assert_eq!(device.download::<i32>(direct, n), expected);
        let expected = (0..n as i32).map(|i| match i % 3 {
            0 => 2 * (i + 1),
            1 => (i + 1) * (i + 1),
            _ => collatz(i + 1),
        });

        assert_eq!(device.download::<i32>(indirect, n), expected.collect::<Vec<_>>());
    });
}

#[test]
fn the_last_block_sums_what_all_left() {
    let Some(ptx) = ptx("basics", "compute_80") else { return };
    under_all_seeds(&ptx, |device| {
        let x: Vec<f32> = (0..5000).map(noise).collect();
        let (partial, out) = (device.allocate::<f32>(7), device.allocate::<f32>(1));
        let arrivals = device.upload(&[0_u32]);
        let parameters = parameters!(device.upload(&x), partial, arrivals, out, x.len() as i32);
        device.launch("last_block_sum", [7, 1, 1], 128, parameters);
        let sum = device.download::<f32>(out, 1);
        assert_close(&sum, &[x.iter().map(|&x| f64::from(x)).sum()], 1e-4, 0.0);
        assert_eq!(device.download::<u32>(arrivals, 1), [0]);
    });
}

#[test]
fn a_histogram_by_atomics() {
    let Some(ptx) = ptx("basics", "compute_80") else { return };
    under_all_seeds(&ptx, |device| {
        let x: Vec<u8> = (0..3000).map(|i| (noise(i) * 60.0 + 100.0) as u8).collect();
        let counts = device.upload(&[0_u32; 256]);
        device.launch("histogram", [4, 1, 1], 256, parameters!(device.upload(&x), counts, x.len() as i32));
        let mut expected = [0_u32; 256];
        x.iter().for_each(|&value| expected[usize::from(value)] += 1);
        assert_eq!(device.download::<u32>(counts, 256), expected);
    });
}

#[test]
fn packed_bf16() {
    let Some(ptx) = ptx("basics", "compute_80") else { return };
    under_all_seeds(&ptx, |device| {
        let x: Vec<u16> = (0..128).map(|i| (noise(i).to_bits() >> 16) as u16).collect();
        let y = device.allocate::<u16>(x.len());
        device.launch("bf16_scale", [1, 1, 1], 64, parameters!(device.upload(&x), y, 0.5_f32, 64_i32));
        // A product with a power of two is exact.
        let half = |x: u16| (f32::from_bits(u32::from(x) << 16) * 0.5).to_bits() >> 16;
        let expected: Vec<u16> = x.iter().map(|&x| half(x) as u16).collect();
        assert_eq!(device.download::<u16>(y, x.len()), expected);
    });
}

#[test]
fn an_assertion_is_reported_with_its_text() {
    let Some(ptx) = ptx("basics", "compute_80") else { return };
    let device = Device::new(&ptx);
    device.launch("speaks", [1, 1, 1], 64, parameters!(device.upload(&[3_i32])));
    let report = device.try_launch("speaks", [1, 1, 1], 64, parameters!(device.upload(&[-3_i32]))).unwrap_err();
    assert_eq!(report.fault.kind, FaultKind::Assert);
    assert!(report.fault.message.contains("x[0] >= 0"), "{report}");
    assert!(report.source.first().is_some_and(|line| line.file.ends_with("basics.cu")), "{report}");
}
