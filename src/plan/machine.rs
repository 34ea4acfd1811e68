//! What this machine is and has: processor, memory, driver, and the GEMM rate that it reaches.

use std::path::Path;
use std::time::Instant;

use crate::device::{CpuDevice, LinearOps, Result, Tensors, WeightLayout};

/// Rows, inputs and outputs of the GEMM whose rate is measured.
pub const GEMM_SIDE: usize = 1024;

/// Runs of the GEMM, of which the fastest counts.
const GEMM_RUNS: usize = 8;

/// What there is to compute with, apart from GPUs.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The processor's name, or its architecture where the system does not name it.
    pub processor: String,
    /// Hardware threads that this process may use.
    pub cores: usize,
    /// The widest vector instructions that the CPU device's loops are compiled for and this processor has.
    pub simd: &'static str,
    /// Memory in bytes; `None` where the system does not say.
    pub memory: Option<f64>,
    /// Bytes of it that programs could still be given.
    pub available: Option<f64>,
    /// What NVIDIA's kernel driver says of itself, if it is loaded.
    pub nvidia_driver: Option<String>,
    /// FLOP/s of a square f32 GEMM of side [`GEMM_SIDE`] on all cores.
    pub gemm_flops: f64,
}

impl Machine {
    /// Looks at this machine and measures its GEMM rate, which takes a fraction of a second.
    ///
    /// # Errors
    /// Those of the CPU device.
    pub fn inspect() -> Result<Self> {
        let processor = field("/proc/cpuinfo", "model name");
        let driver = std::fs::read_to_string("/proc/driver/nvidia/version").ok();
        Ok(Machine {
            processor: processor.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            simd: simd(),
            memory: total_memory(),
            available: available_memory(),
            nvidia_driver: driver.and_then(|text| text.lines().next().map(str::to_owned)),
            gemm_flops: measure_gemm()?,
        })
    }
}

/// The machine's memory in bytes; `None` where the system does not say (it does on Linux).
pub fn total_memory() -> Option<f64> {
    field("/proc/meminfo", "MemTotal").and_then(|text| bytes(&text))
}

/// Bytes of memory that programs could still be given; `None` where the system does not say.
pub fn available_memory() -> Option<f64> {
    field("/proc/meminfo", "MemAvailable").and_then(|text| bytes(&text))
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

/// FLOP/s of a square f32 GEMM of side [`GEMM_SIDE`] on all cores, the best of a few runs.
fn measure_gemm() -> Result<f64> {
    let device = CpuDevice::new(None)?;
    let matrix = device.upload(&[GEMM_SIDE, GEMM_SIDE], &vec![0.5; GEMM_SIDE * GEMM_SIDE])?;
    let mut best = f64::INFINITY;
    for _ in 0..GEMM_RUNS {
        let start = Instant::now();
        device.linear(&matrix, &matrix, WeightLayout::InOut, None)?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(2.0 * (GEMM_SIDE as f64).powi(3) / best)
}

/// The value of `key: value` in one of Linux's text files; nothing elsewhere.
fn field(path: impl AsRef<Path>, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    })
}

/// `24634804 kB` in bytes.
fn bytes(text: &str) -> Option<f64> {
    let kibibytes: f64 = text.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_memory_figures() {
        assert_eq!(bytes("2097152 kB"), Some(2.0 * (1_u64 << 30) as f64));
        assert_eq!(bytes("lots"), None);
    }
}
