//! What this machine is and has: processor, memory, driver, and the GEMM rate that it reaches.

use std::path::Path;
use std::time::Instant;

use super::memory_limits::{self, MemoryLimit};
use crate::device::{CpuDevice, LinearOps, Result, Tensors, WeightLayout};

/// Rows, inputs and outputs of the GEMM whose rate is measured.
pub const GEMM_SIDE: usize = 1024;

/// Bytes that the GEMM is given for its measurement, its threads included.
pub(super) const GEMM_ROOM: f64 = (1_u64 << 29) as f64;

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
    /// Lower limits, of containers and shells.
    pub limits: Vec<MemoryLimit>,
    /// What NVIDIA's kernel driver says of itself, if it is loaded.
    pub nvidia_driver: Option<String>,
    /// FLOP/s of a square f32 GEMM of side [`GEMM_SIDE`] on all cores; `None` where a shell's limit leaves it no room.
    pub gemm_flops: Option<f64>,
}

impl Machine {
    /// Looks at this machine and measures its GEMM rate, which takes a fraction of a second.
    ///
    /// # Errors
    /// Those of the CPU device.
    pub fn inspect() -> Result<Self> {
        let processor = field("/proc/cpuinfo", "model name");
        let driver = std::fs::read_to_string("/proc/driver/nvidia/version").ok();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let has_room = host_memory().reachable() >= GEMM_ROOM;
        Ok(Machine {
            processor: processor.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores,
            simd: simd(),
            memory: total_memory(root()),
            available: available_memory(),
            limits: memory_limits::limits(root()),
            nvidia_driver: driver.and_then(|text| text.lines().next().map(str::to_owned)),
            gemm_flops: has_room.then(measure_gemm).transpose()?,
        })
    }
}

/// The memory that this process can have: the machine's, or less where a container or a shell limits it.
#[derive(Clone, Debug, PartialEq)]
pub struct HostMemory {
    /// The machine's, in bytes; `None` where the system does not say (it does on Linux).
    pub machine: Option<f64>,
    /// The tightest limit below that.
    pub limit: Option<MemoryLimit>,
}

impl HostMemory {
    /// Of the system whose `/proc` and `/sys` are below `root`.
    pub fn below(root: &Path) -> Self {
        let machine = total_memory(root);
        let limits = memory_limits::limits(root);
        let tightest = memory_limits::tightest(&limits);
        let limit = tightest.filter(|limit| machine.is_none_or(|machine| limit.reachable() < machine)).cloned();
        Self { machine, limit }
    }

    /// Bytes that new work can have at most.
    pub fn reachable(&self) -> f64 {
        self.limit.as_ref().map_or(self.machine.unwrap_or(f64::INFINITY), MemoryLimit::reachable)
    }

    /// The same, with what this process holds already.
    pub fn total(&self) -> f64 {
        self.limit.as_ref().map_or(self.machine.unwrap_or(f64::INFINITY), |limit| limit.bytes)
    }

    /// Who has no more, as the subject of a sentence: `this machine`, `this process (ulimit -v)`.
    pub fn owner(&self) -> String {
        match &self.limit {
            Some(limit) => format!("{} ({})", limit.owner(), limit.source),
            None => "this machine".to_owned(),
        }
    }
}

/// The memory that this process can have.
pub fn host_memory() -> HostMemory {
    HostMemory::below(root())
}

/// Bytes of memory that this process could still be given; `None` where the system does not say.
pub fn available_memory() -> Option<f64> {
    let machine = field(root().join("proc/meminfo"), "MemAvailable").and_then(|text| bytes(&text));
    memory_limits::limits(root()).iter().map(MemoryLimit::free).chain(machine).min_by(f64::total_cmp)
}

fn total_memory(root: &Path) -> Option<f64> {
    field(root.join("proc/meminfo"), "MemTotal").and_then(|text| bytes(&text))
}

fn root() -> &'static Path {
    Path::new("/")
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
    fn the_least_of_machine_container_and_shell_is_what_there_is() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let mebibytes = |memory: &HostMemory| memory.reachable() / f64::from(1 << 20);

        let nothing = HostMemory::below(root.path());
        assert_eq!((nothing.reachable(), nothing.owner().as_str()), (f64::INFINITY, "this machine"));
        write("proc/meminfo", "MemTotal:  1048576 kB\nMemAvailable: 5 kB\n");
        assert_eq!(mebibytes(&HostMemory::below(root.path())), 1024.0);

        write("proc/self/cgroup", "0::/job\n");
        write("sys/fs/cgroup/job/memory.max", "2147483648\n");
        let roomy = HostMemory::below(root.path());
        assert_eq!((mebibytes(&roomy), roomy.owner().as_str()), (1024.0, "this machine"));
        write("sys/fs/cgroup/job/memory.max", "536870912\n");
        let held = HostMemory::below(root.path());
        assert_eq!(
            (mebibytes(&held), held.owner().as_str()),
            (512.0, "this container (/sys/fs/cgroup/job/memory.max)")
        );

        write("proc/self/limits", "Max address space  268435456  unlimited  bytes\n");
        let shell = HostMemory::below(root.path());
        assert_eq!((mebibytes(&shell), shell.owner().as_str()), (256.0, "this process (ulimit -v)"));
    }

    #[test]
    fn kernel_memory_figures() {
        assert_eq!(bytes("2097152 kB"), Some(2.0 * (1_u64 << 30) as f64));
        assert_eq!(bytes("lots"), None);
    }
}
