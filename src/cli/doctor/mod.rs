//! `igpt-engine doctor`: what this machine can do, what is missing, and how to get it.

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::common::memory::{available_gib, field, total_gib};
use super::common::output::{print_json, say};
use crate::device::cuda::kernel::{KERNELS, KernelInfo, MODULES};
use crate::device::cuda::{Survey, survey};
use crate::device::{self, CpuDevice, Device, WeightLayout};

/// Show what this machine can do, what is missing, and how to get it
///
/// Lists the processor with its vector instructions, memory, a measured matrix-product rate (what training speed is a share
/// of), and each device with the reason if it cannot be used. Put its output into bug reports.
#[derive(Args)]
pub struct DoctorCommand {
    /// List every CUDA kernel of this build with its registers and shared memory too
    #[arg(long)]
    kernels: bool,
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
        let cuda = survey();
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
                "cuda_driver": cuda.as_ref().ok().map(|found| format!("{}.{}", found.driver.0, found.driver.1)),
                "devices": devices(&cuda),
                "kernels": KERNELS.iter().copied().map(kernel_json).collect::<Vec<_>>(),
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
        self.say_cuda(&cuda, driver.as_deref())
    }

    /// The CUDA devices, the driver, the kernels, and what is missing of them.
    fn say_cuda(&self, cuda: &device::Result<Survey>, driver: Option<&str>) -> Result<()> {
        match cuda {
            Ok(Survey { driver, devices }) => {
                for (number, found) in devices.iter().enumerate() {
                    let (major, minor) = found.capability;
                    let gib = found.memory as f64 / f64::from(1 << 30);
                    let ready =
                        why_not(found.able).map_or_else(|| "ready".to_owned(), |why| format!("unusable: {why}"));
                    say(format_args!(
                        "  device cuda:{number}  {}, compute capability {major}.{minor}, {gib:.1} GiB, {} multiprocessors; \
                         {ready}",
                        found.name, found.multiprocessors
                    ))?;
                }
                if devices.is_empty() {
                    say(format_args!("  device cuda  the driver knows of no device"))?;
                }
                say(format_args!("  CUDA driver  release {}.{}", driver.0, driver.1))?;
            }
            Err(error) => say(format_args!("  device cuda  {error}"))?,
        }
        if let Some(driver) = driver {
            say(format_args!("               {driver}"))?;
        }
        if KERNELS.is_empty() {
            return say(format_args!("  kernels      none in this build; {BUILD_KERNELS}"));
        }
        let architectures: Vec<String> =
            KERNELS[0].resources.iter().map(|used| format!("{}.{}", used.arch / 10, used.arch % 10)).collect();
        say(format_args!(
            "  kernels      {} from {} files, for compute capabilities {} and, as PTX, later ones",
            KERNELS.len(),
            MODULES.len(),
            architectures.join(" and ")
        ))?;
        if !self.kernels {
            return say(format_args!("               (doctor --kernels lists them)"));
        }
        let columns: String = architectures.iter().map(|arch| format!("  registers, shared bytes on {arch}")).collect();
        say(format_args!("\n  {:<44} threads{columns}", "kernel"))?;
        for kernel in KERNELS {
            let used: String =
                kernel.resources.iter().map(|used| format!("  {:>14} {:>15}", used.registers, used.shared)).collect();
            say(format_args!("  {:<44} {:>7}{used}", kernel.name, kernel.max_threads))?;
        }
        Ok(())
    }
}

/// How to get kernels.
const BUILD_KERNELS: &str = "`cargo xtask toolkit` installs the compiler (no GPU needed); then build again";

/// What keeps a CUDA device from being used.
fn why_not(able: bool) -> Option<&'static str> {
    match (able, KERNELS.is_empty()) {
        (_, true) => Some("this build has no CUDA kernels"),
        (false, _) => Some("the kernels need compute capability 8.0 or later"),
        (true, false) => None,
    }
}

fn devices(cuda: &device::Result<Survey>) -> Vec<serde_json::Value> {
    let mut devices = vec![json!({"name": "cpu", "ready": true})];
    match cuda {
        Ok(survey) if !survey.devices.is_empty() => {
            devices.extend(survey.devices.iter().enumerate().map(|(number, found)| {
                json!({
                    "name": format!("cuda:{number}"),
                    "ready": why_not(found.able).is_none(),
                    "why": why_not(found.able),
                    "model": found.name,
                    "compute_capability": format!("{}.{}", found.capability.0, found.capability.1),
                    "memory_gib": found.memory as f64 / f64::from(1 << 30),
                    "multiprocessors": found.multiprocessors,
                })
            }));
        }
        Ok(_) => devices.push(json!({"name": "cuda", "ready": false, "why": "the driver knows of no device"})),
        Err(error) => devices.push(json!({"name": "cuda", "ready": false, "why": error.to_string()})),
    }
    devices
}

fn kernel_json(kernel: &KernelInfo) -> serde_json::Value {
    let resources = kernel.resources.iter().map(|used| {
        json!({
            "compute_capability": format!("{}.{}", used.arch / 10, used.arch % 10),
            "registers": used.registers,
            "shared": used.shared,
            "spills": used.spill_stores + used.spill_loads,
        })
    });
    json!({"name": kernel.name, "threads": kernel.max_threads, "resources": resources.collect::<Vec<_>>()})
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
