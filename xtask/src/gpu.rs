//! What is done with a GPU at hand: `cargo xtask gpu bench | first-hour`.

mod bench;
mod first_hour;
mod page;
mod runner;

use anyhow::Result;
use clap::Subcommand;

/// What to do with the card.
#[derive(Subcommand)]
pub enum Gpu {
    /// Measure the kernels beside what the card reaches in the same run, cuBLASLt and PyTorch; `-- --help` lists its flags
    Bench {
        /// Passed on to the benchmark: [--quick] [--json FILE] [--compare FILE] [--only TEXT] ...
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Check everything on a card that nobody has tried: one page, and one folder to send back
    FirstHour(first_hour::FirstHour),
}

/// # Errors
/// When something cannot be started, or did not pass.
pub fn gpu(task: Gpu) -> Result<()> {
    match task {
        Gpu::Bench { arguments } => bench::run(&arguments),
        Gpu::FirstHour(arguments) => first_hour::run(&arguments),
    }
}
