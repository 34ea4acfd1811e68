//! `igpt-engine profile`: where the time of a step goes, predicted.

mod args;
mod output;
mod picture;

use anyhow::Result;

pub use args::ProfileCommand;

use super::common::output::print_json;
use crate::device::CudaDevice;
use crate::fs::Output;
use crate::model::ModelConfig;
use crate::plan::{Load, Work};
use crate::profile::{Card, profile as predicted};

impl ProfileCommand {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let card = Card::named(&self.card)?;
        let config = ModelConfig::preset(self.model, self.resolution);
        config.validate()?;
        let svg = self.svg.as_deref().map(Output::open).transpose()?;

        let load = Load {
            config: &config,
            work: Work::Training,
            images: self.batch,
            length: config.positions,
            precision: self.precision,
            ema: false,
            eval_images: None,
        };
        let mut profile = predicted(&card, load)?;
        if self.measure {
            let device = CudaDevice::new(0, self.precision)?;
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
}
