//! Flags of `doctor`.

use clap::Args;

use crate::cli::common::ranks::RankArgs;
use crate::device::select::DeviceKind;

/// Show what this machine can do, what is missing, and how to get it
///
/// Lists the processor with its vector instructions, memory, a measured GEMM rate (the bound of training speed on the CPU), and
/// each device with the reason if it cannot be used; of a card what its sensors say now (power, temperature, clocks, memory). Put
/// its output into bug reports.
///
/// With --ranks it tries what several GPUs exchange gradients by, before a run has to: every collective with numbers that are
/// known, and how fast it is.
///
///   torchrun --no-python --nproc-per-node 8 igpt-engine doctor --ranks
///   srun --ntasks-per-node 8 igpt-engine doctor --ranks --json
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct DoctorCommand {
    /// Try the ranks that this is one of, in place of the rest; exit code 3 where one of them fails, never comes, or has wrong numbers
    #[arg(long, conflicts_with = "kernels")]
    pub ranks: bool,
    /// The largest tensor that they exchange, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=65_536), requires = "ranks")]
    pub largest: u32,
    /// Where the ranks have their tensors: cuda, cpu (MPI), or auto
    #[arg(long, value_name = "DEVICE", requires = "ranks")]
    pub device: Option<DeviceKind>,
    #[command(flatten)]
    pub limits: RankArgs,
    /// List every CUDA kernel of this build with its registers and shared memory too
    #[arg(long)]
    pub kernels: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
