//! `igpt-engine doctor`: what this machine can do, what is missing, and how to get it.

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::device::NO_CUDA;
use super::memory::{available_gib, field, total_gib};
use super::output::{print_json, say};
use crate::device::{CpuDevice, Device, WeightLayout};

/// Show what this machine can do, what is missing, and how to get it
///
/// Lists the processor with its vector instructions, memory, a measured matrix-product rate (what training speed is a share
/// of), and each device with the reason if it cannot be used. Put its output into bug reports.
#[derive(Args)]
pub struct DoctorCommand {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Rows, inputs and outputs of the matrix product that is timed.
const PRODUCT: usize = 1024;

impl DoctorCommand {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        let memory = total_gib();
        let available = available_gib();
        let driver = std::fs::read_to_string("/proc/driver/nvidia/version")
            .ok()
            .and_then(|text| text.lines().next().map(str::to_owned));
        let rate = measure_product()?;
        if self.json {
            return print_json(&json!({
                "version": env!("CARGO_PKG_VERSION"),
                "os": std::env::consts::OS,
                "arch": std::env::consts::ARCH,
                "processor": processor,
                "cores": cores,
                "simd": simd(),
                "memory_gib": memory,
                "memory_available_gib": available,
                "gemm_gflops": rate,
                "nvidia_driver": driver,
                "devices": [{"name": "cpu", "ready": true}, {"name": "cuda", "ready": false, "why": NO_CUDA}],
            }));
        }
        let gib = |value: Option<f64>| value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:.1} GiB"));
        say(format_args!(
            "igpt-engine {} on {} {}",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            std::env::consts::ARCH
        ))?;
        say(format_args!(""))?;
        say(format_args!("  processor   {processor}, {cores} cores"))?;
        say(format_args!("  SIMD        {}", simd()))?;
        say(format_args!("  memory      {}, {} of it free", gib(memory), gib(available)))?;
        say(format_args!("  GEMM        {rate:.0} GFLOP/s measured ({PRODUCT}³, f32, all cores)"))?;
        say(format_args!(""))?;
        say(format_args!("  device cpu   ready"))?;
        say(format_args!("  device cuda  {NO_CUDA}"))?;
        match driver {
            Some(driver) => say(format_args!("               a driver is installed: {driver}")),
            None => say(format_args!("               no NVIDIA driver is loaded either")),
        }
    }
}

/// The widest vector instructions that the CPU device's loops are compiled for and this processor has.
fn simd() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return "AVX-512";
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return "AVX2 and FMA";
        }
        "SSE2 only: expect a fraction of the speed"
    }
    #[cfg(target_arch = "aarch64")]
    {
        "NEON"
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        "none known"
    }
}

/// GFLOP/s of a square matrix product, the best of a few.
fn measure_product() -> Result<f64> {
    let device = CpuDevice::new(None)?;
    let matrix = device.upload(&[PRODUCT, PRODUCT], &vec![0.5; PRODUCT * PRODUCT])?;
    let mut best = f64::INFINITY;
    for _ in 0..8 {
        let start = Instant::now();
        device.linear(&matrix, &matrix, WeightLayout::InOut, None)?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(2.0 * (PRODUCT as f64).powi(3) / best / 1e9)
}
