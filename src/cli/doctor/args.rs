//! Flags of `doctor`.

use clap::Args;

/// Show what this machine can do, what is missing, and how to get it
///
/// Lists the processor with its vector instructions, memory, a measured GEMM rate (the bound of training speed on the CPU), and
/// each device with the reason if it cannot be used; of a card what its sensors say now (power, temperature, clocks, memory). Put
/// its output into bug reports.
#[derive(Args)]
pub struct DoctorCommand {
    /// List every CUDA kernel of this build with its registers and shared memory too
    #[arg(long)]
    pub kernels: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
