//! `igpt-engine plan`: what a recipe costs before it is run.

mod args;
mod gpus;
mod output;

use anyhow::{Result, bail};
use serde_json::json;

pub use args::PlanCommand;

use super::common::output::print_json;
use crate::model::Preset;
use crate::named::Named;
use crate::plan::machine::host_memory;
use crate::plan::{Cost, OnDevice, devices_named};
use crate::recipe::Recipe;

impl PlanCommand {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        if !(self.utilisation > 0.0 && self.utilisation <= 1.0) {
            bail!("--utilisation {} must be above 0 and at most 1; 0.3 to 0.5 is usual", self.utilisation);
        }
        let mut recipe = self.recipe()?;
        if !self.gpus.is_empty() {
            return self.over_gpus(&recipe);
        }
        for (key, value) in [("batch", self.batch), ("accumulate", self.accumulate)] {
            if let Some(value) = value {
                recipe.settings.insert(key.to_owned(), i64::from(value.max(1)).into());
            }
        }
        if let Some(recompute) = self.recompute {
            recipe.settings.insert("recompute".to_owned(), recompute.name().into());
        }

        if self.offload_optimizer {
            recipe.settings.insert("offload-optimizer".to_owned(), true.into());
        }

        let cost = Cost::of(&recipe)?;
        let devices = devices_named(&self.device_model)?;
        let runs: Vec<OnDevice> =
            devices.into_iter().map(|device| cost.on(device, self.precision, self.utilisation)).collect();
        let here = host_memory();
        if self.json {
            let here = output::here_json(&cost, &here);
            return print_json(&json!({"cost": cost, "utilisation": self.utilisation, "devices": runs, "here": here}));
        }
        output::say_plan(&cost, self.utilisation, &runs, &here)
    }

    /// The file's, or that of a size with the paper's batch.
    fn recipe(&self) -> Result<Recipe> {
        if let Some(config) = &self.config {
            return Ok(Recipe::read(config)?.scaled_down(self.scale_down)?);
        }
        let model = self.model.unwrap_or_default();
        let batch = if model == Preset::Xl { 64 } else { 128 };
        let mut text =
            format!("model = \"{model}\"\nresolution = {}\nbatch = {batch}\n", self.resolution.unwrap_or(32));
        text.extend(self.heads.map(|heads| format!("heads = {heads}\n")));
        Ok(Recipe::parse(&format!("--model {model}"), &text)?.scaled_down(self.scale_down)?)
    }
}
