//! `--device` and `--threads`: from what the user asked for to a device, and a job run on it.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::device::{CpuDevice, Device};

/// Where to compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// CUDA where a driver, a device and the kernels are there, else the CPU
    #[default]
    Auto,
    /// The processor, with all its cores or `--threads`
    Cpu,
    /// The GPU
    Cuda,
}

/// Flags of every command that computes.
#[derive(Args, Clone, Debug, Default)]
pub struct DeviceArgs {
    /// Where to compute [default: auto]
    #[arg(long, value_name = "DEVICE", hide_possible_values = false)]
    pub device: Option<DeviceKind>,
    /// Threads of the CPU device [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// Something to do on whichever device was chosen.
pub trait DeviceJob {
    /// Does it.
    fn run<D: Device>(self, device: D) -> Result<()>;
}

/// Why this build has no CUDA device.
pub const NO_CUDA: &str = "this build of igpt-engine has no CUDA kernels; use --device cpu (or auto)";

/// What `--device auto` chose, and why, for people; nothing where the user chose.
pub fn reason(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Auto => ", since this build has no CUDA kernels",
        DeviceKind::Cpu | DeviceKind::Cuda => "",
    }
}

/// Largest `--threads`.
const MOST_THREADS: usize = 1024;

/// Opens the device and runs `job` on it.
pub fn on_device(kind: DeviceKind, threads: Option<usize>, job: impl DeviceJob) -> Result<()> {
    match kind {
        DeviceKind::Cuda => bail!(NO_CUDA),
        DeviceKind::Auto | DeviceKind::Cpu => {
            if threads == Some(0) {
                bail!("--threads 0 leaves nobody to work; give 1 or more, or leave it out for all cores");
            }
            if let Some(threads) = threads.filter(|threads| *threads > MOST_THREADS) {
                bail!("--threads {threads} is more than {MOST_THREADS}; leave it out for one a core, the fastest");
            }
            job.run(CpuDevice::new(threads)?)
        }
    }
}
