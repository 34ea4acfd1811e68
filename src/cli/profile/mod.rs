//! `igpt-engine profile`: where the time of a step goes, predicted for a card or measured on the CPU.

mod args;
mod cpu_output;
mod output;
mod picture;

use anyhow::{Result, bail};

pub use args::ProfileCommand;

use super::common::output::print_json;
use crate::device::{CudaDevice, Precision};
use crate::fs::Output;
use crate::model::{ModelConfig, Transformer};
use crate::plan::{Load, Work};
use crate::profile::{Card, cpu_drawing_profile, cpu_profile, profile as predicted};

impl ProfileCommand {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let config = ModelConfig::preset(self.model, self.resolution);
        if self.device.is_some() {
            return self.on_cpu(config);
        }
        let card = Card::named(&self.card)?;
        config.validate()?;
        let svg = self.svg.as_deref().map(Output::open).transpose()?;

        let work = if self.draw { Work::Sampling } else { Work::Training };
        let precision = self.precision.unwrap_or_default();
        let load = Load::new(&config, work, self.images(), config.positions, precision);
        let mut profile = predicted(&card, load)?;
        if self.measure {
            let device = CudaDevice::new(0, precision)?;
            profile = profile.measured(&load.timed(&device)?)?;
        }
        if let Some(svg) = svg {
            svg.write_whole(picture::svg(&profile)?.as_bytes())?;
        }
        if self.json {
            return print_json(&profile);
        }
        output::say_profile(&self, &profile)
    }

    /// Measures a step here.
    fn on_cpu(self, config: ModelConfig) -> Result<()> {
        let model = Transformer::new(config.clone())?;
        let profile = match (self.draw, self.precision.unwrap_or(Precision::F32)) {
            (true, precision) => cpu_drawing_profile(&config, &model, self.images(), precision, self.threads)?,
            (false, Precision::F32) => cpu_profile(&config, &model, self.images(), self.threads)?,
            (false, Precision::Bf16) => {
                bail!("the CPU has bf16 while images are drawn alone: give --draw, or leave out --precision")
            }
        };
        if self.json {
            return print_json(&profile);
        }
        cpu_output::say_profile(&self, &profile)
    }

    /// Images of a step.
    fn images(&self) -> usize {
        self.batch.unwrap_or(match (self.device.is_some(), self.draw) {
            (_, true) => 16,
            (true, _) => 1,
            _ => 32,
        })
    }
}
