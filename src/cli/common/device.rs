//! `--device`, `--precision` and `--threads`.

use anyhow::Result;
use clap::Args;

use crate::cli::common::named::named;
use crate::device::Precision;
use crate::device::select::{self, DeviceJob, DeviceKind, Request};

/// Flags of every command that computes.
#[derive(Args, Clone, Debug, Default)]
pub struct DeviceArgs {
    /// Where to compute: auto (the GPU if there is one that can be used), cpu, cuda, or cuda:N [default: auto]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceKind>,
    /// How a GPU stores activations and matmul weights; the CPU has f32, and bf16 for keys, values and weights where images are drawn
    /// [default: bf16 on a GPU, f32 on the CPU]
    #[arg(long, value_parser = named::<Precision>(), value_name = "PRECISION")]
    pub precision: Option<Precision>,
    /// Threads of the CPU device [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl From<&DeviceArgs> for Request {
    fn from(args: &DeviceArgs) -> Self {
        let DeviceArgs { device, precision, threads } = *args;
        Self { kind: device.unwrap_or_default(), precision, kept: None, threads, draws: false, local_rank: None }
    }
}

/// Opens the device and runs `job` on it.
pub fn on_device(request: Request, job: impl DeviceJob<Output = Result<()>>) -> Result<()> {
    select::on_device(request, job)?
}
