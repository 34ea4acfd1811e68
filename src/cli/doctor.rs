//! `igpt-engine doctor`: what this machine can do, what is missing, and how to get it.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::{device::NO_CUDA, watch::print_json};
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
        let memory = field("/proc/meminfo", "MemTotal").and_then(|text| gibibytes(&text));
        let available = field("/proc/meminfo", "MemAvailable").and_then(|text| gibibytes(&text));
        let driver = std::fs::read_to_string("/proc/driver/nvidia/version")
            .ok()
            .and_then(|text| text.lines().next().map(str::to_owned));
        let rate = measure_product()?;
        if self.json {
            print_json(&json!({
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
            return Ok(());
        }
        let gib = |value: Option<f64>| value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:.1} GiB"));
        println!("igpt-engine {} on {} {}", env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);
        println!();
        println!("  processor   {processor}, {cores} cores");
        println!("  SIMD        {}", simd());
        println!("  memory      {}, {} of it free", gib(memory), gib(available));
        println!("  GEMM        {rate:.0} GFLOP/s measured ({PRODUCT}³, f32, all cores)");
        println!();
        println!("  device cpu   ready");
        println!("  device cuda  {NO_CUDA}");
        match driver {
            Some(driver) => println!("               a driver is installed: {driver}"),
            None => println!("               no NVIDIA driver is loaded either"),
        }
        Ok(())
    }
}

/// The value of `key: value` in one of Linux's text files; nothing elsewhere.
fn field(path: impl AsRef<Path>, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    })
}

/// `24634804 kB` in GiB.
fn gibibytes(text: &str) -> Option<f64> {
    let kibibytes: f64 = text.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes / 1024.0 / 1024.0)
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

#[cfg(test)]
mod tests {
    #[test]
    fn kernel_memory_figures() {
        assert_eq!(super::gibibytes("2097152 kB"), Some(2.0));
        assert_eq!(super::gibibytes("lots"), None);
    }
}
