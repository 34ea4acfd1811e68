//! `igpt-engine doctor`: what this machine can do, what is missing, and how to get it.

mod args;
mod output;
mod ranks;

use anyhow::Result;

pub use args::DoctorCommand;

use super::common::output::print_json;
use crate::device::cuda::enumerate_devices;
use crate::plan::machine::Machine;

impl DoctorCommand {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        if self.ranks {
            return ranks::run(&self);
        }
        let machine = Machine::inspect()?;
        let cuda = enumerate_devices();
        if self.json {
            return print_json(&output::json(&machine, &cuda));
        }
        output::say_machine(&machine)?;
        output::say_cuda(&cuda, machine.nvidia_driver.as_deref())?;
        output::say_kernels(self.kernels)
    }
}
