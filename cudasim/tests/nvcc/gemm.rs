//! GEMMs on tensor cores: `mma.sync` with `cp.async`, and `wgmma` with TMA and mbarriers.

use cudasim::report::FaultKind;
use cudasim::tensor_map::{Arguments, TensorMap};

use crate::compile::ptx;
use crate::device::{Device, assert_close, noise, under_all_seeds};
use crate::parameters;

/// A bf16 number near a pseudo-random one, as bits and as its value.
fn bf16(index: usize) -> (u16, f64) {
    let bits = (noise(index).to_bits() >> 16) as u16;
    (bits, f64::from(f32::from_bits(u32::from(bits) << 16)))
}

struct Problem {
    m: usize,
    n: usize,
    k: usize,
    /// `[m][k]`
    a: Vec<u16>,
    /// `[n][k]`
    b: Vec<u16>,
    expected: Vec<f64>,
}

impl Problem {
    fn new(m: usize, n: usize, k: usize) -> Self {
        let at = |seed: usize, i: usize| bf16(i + 1_000_000 * seed);
        let expected = (0..m * n).map(|i| (0..k).map(|l| at(1, i / n * k + l).1 * at(2, i % n * k + l).1).sum());
        let bits = |seed, count: usize| (0..count).map(|i| at(seed, i).0).collect();
        Self { m, n, k, a: bits(1, m * k), b: bits(2, n * k), expected: expected.collect() }
    }

    /// Sums of k products of numbers below 1, rounded to f32 each 16.
    fn check(&self, c: &[f32]) {
        assert_close(c, &self.expected, 1e-6 * self.k as f64, 0.0);
    }
}

#[test]
fn mma_with_asynchronous_copies() {
    let Some(ptx) = ptx("mma_gemm", "compute_80") else { return };
    // Whole tiles, and odd rows and columns with a last step that is not whole.
    for (m, n, k) in [(64, 128, 96), (70, 33, 40)] {
        let problem = Problem::new(m, n, k);
        under_all_seeds(&ptx, |device| {
            let c = device.allocate::<f32>(m * n);
            let parameters =
                parameters!(device.upload(&problem.a), device.upload(&problem.b), c, m as i32, n as i32, k as i32);
            device.launch("mma_gemm", [n.div_ceil(64) as u32, m.div_ceil(64) as u32, 1], 128, parameters);
            problem.check(&device.download(c, m * n));
        });
    }

    let problem = Problem::new(64, 64, 128);
    let device = Device::new(&ptx);
    let c = device.allocate::<f32>(64 * 64);
    let parameters = parameters!(device.upload(&problem.a), device.upload(&problem.b), c, 64_i32, 64_i32, 128_i32);
    let report = device.try_launch("mma_gemm_lax", [1; 3], 128, parameters).expect_err("a missing wait");

    assert_eq!(report.fault.kind, FaultKind::MissingWait, "{report}");
    assert!(report.source.iter().any(|line| line.file.ends_with("mma_gemm.cu")), "{report}");
}

/// Bytes of the struct `Tiles` of the kernel.
const TILES: u32 = 4 * (64 + 128) * 64 * 2 + 1024;

/// Launches one of the kernels of `wgmma_gemm.cu`.
fn launch(device: &mut Device, problem: &Problem, kernel: &str) -> Result<Vec<f32>, Box<cudasim::report::Report>> {
    let Problem { m, n, k, .. } = *problem;
    let n_major = kernel.ends_with("n_major");
    let b: Vec<u16> = match n_major {
        true => (0..k * n).map(|i| problem.b[i % n * k + i / n]).collect(),
        false => problem.b.clone(),
    };

    let map = |address: u64, rows: usize, columns: usize, extent: [u32; 2]| {
        let arguments = Arguments {
            element: 9,
            rank: 2,
            address,
            dims: &[columns as u64, rows as u64],
            strides: &[2 * columns as u64],
            element_strides: &[1, 1],
            interleave: 0,
            swizzle: 3,
            l2_promotion: 0,
            fill: 0,
        };
        TensorMap::tiled(&arguments, &extent).unwrap_or_else(|message| panic!("{message}")).encode()
    };

    let map_a = map(device.upload(&problem.a), m, k, [64, 64]);
    let map_b = match n_major {
        true => map(device.upload(&b), k, n, [64, 64]),
        false => map(device.upload(&b), n, k, [64, 128]),
    };

    let c = device.allocate::<f32>(m * n);
    let kernel_parameters = device.kernel(kernel).parameters.clone();
    let mut block = vec![0; device.kernel(kernel).parameter_bytes as usize];
    let values: [&[u8]; 6] = [
        &c.to_le_bytes(),
        &map_a,
        &map_b,
        &(m as i32).to_le_bytes(),
        &(n as i32).to_le_bytes(),
        &(k as i32).to_le_bytes(),
    ];

    for (parameter, value) in kernel_parameters.iter().zip(values) {
        block[parameter.offset as usize..][..value.len()].copy_from_slice(value);
    }

    device.dynamic_shared = TILES;
    device.try_launch(kernel, [n.div_ceil(128) as u32, m.div_ceil(64) as u32, 1], 256, block)?;
    Ok(device.download(c, m * n))
}

#[test]
fn wgmma_with_tensor_copies() {
    let Some(ptx) = ptx("wgmma_gemm", "compute_90a") else { return };
    for (m, n, k) in [(64, 128, 384), (72, 136, 104)] {
        let problem = Problem::new(m, n, k);
        for kernel in ["wgmma_gemm", "wgmma_gemm_n_major"] {
            under_all_seeds(&ptx, |device| {
                let mut own = Device::new(&ptx);
                own.options = device.options.clone();
                let c = launch(&mut own, &problem, kernel).unwrap_or_else(|report| panic!("{kernel}: {report}"));
                problem.check(&c);
            });
        }
    }
}

#[test]
fn mutants_of_wgmma_are_caught() {
    let Some(ptx) = ptx("wgmma_gemm", "compute_90a") else { return };
    let problem = Problem::new(64, 128, 640);
    use FaultKind::{InvalidUse, MissingFence, MissingWait, SharedRace, UninitialisedMemory};
    let mutants: [(&str, &[FaultKind]); 4] = [
        ("wgmma_gemm_no_wait_for_copy", &[MissingWait, UninitialisedMemory]),
        // Or a stage is given back, and copied over, while products of it are in flight.
        ("wgmma_gemm_no_wait_for_sums", &[MissingWait, SharedRace]),
        ("wgmma_gemm_no_fence", &[MissingFence]),
        // The producer laps the consumer: it arrives at a barrier whose phase is not over, or overwrites a stage in use.
        ("wgmma_gemm_no_release_wait", &[InvalidUse, MissingWait, SharedRace]),
    ];
    for (kernel, kinds) in mutants {
        let report = launch(&mut Device::new(&ptx), &problem, kernel).expect_err(kernel);
        assert!(kinds.contains(&report.fault.kind), "{kernel}: {report}");
        assert!(report.source.iter().any(|line| line.file.ends_with("wgmma_gemm.cu")), "{report}");
    }
}
