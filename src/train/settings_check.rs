//! Which numbers and combinations of settings can be trained with, as far as no checkpoint is needed to judge them.

use super::settings::Settings;
use super::settings_error::{Result, SettingsError};
use crate::checkpoint::OrderSpec;
use crate::model::{MASK_RATE, Objective};

/// Largest `--batch`, `--accumulate` and `--eval-batch`.
const MAX_IMAGES: usize = 1 << 16;
/// Largest `--resolution`: its square is the longest sequence that a model takes.
const MAX_PIXELS: usize = 256;

impl Settings {
    /// Checks every number that needs no checkpoint to be judged.
    pub(super) fn check(&self) -> Result<()> {
        let fail = |text: String| Err(SettingsError::new(text));
        for (flag, value) in
            [("--batch", self.batch), ("--accumulate", self.accumulate), ("--eval-batch", self.eval_batch.unwrap_or(1))]
        {
            if value == 0 || value > MAX_IMAGES {
                return fail(format!("{flag} is {value}; it must be from 1 to {MAX_IMAGES}"));
            }
        }

        if self.zero.is_some_and(|level| level > 2) {
            return fail(
                "--zero must be 0, 1 or 2: nothing is shared out among ranks, the optimiser is, or gradients are too"
                    .to_owned(),
            );
        }

        // Images.
        if self.resolution.is_some_and(|side| side == 0 || side > MAX_PIXELS) {
            return fail(format!("--resolution must be from 1 to {MAX_PIXELS}; the paper uses 32, 48 and 64"));
        }

        // Optimisation.
        if self.steps == 0 {
            return fail("--steps must be at least 1".to_owned());
        }
        if !((self.lr as f32).is_finite() && self.lr >= 0.0) {
            return fail(format!("--lr {} is not a learning rate; the paper uses 0.0003 to 0.01", self.lr));
        }
        if self.ema.is_some_and(|decay| !(decay > 0.0 && decay < 1.0)) {
            return fail(
                "--ema must be above 0 and below 1; 0.999 and 0.9999 are usual, leave it out for no average".to_owned(),
            );
        }
        self.check_cooldown()?;
        if self.skip_spikes.is_some_and(|sigmas| !(sigmas > 0.0 && sigmas.is_finite())) {
            return fail("--skip-spikes must be above 0; leave it out to skip no spikes".to_owned());
        }
        if self.clip.is_some_and(|clip| !(clip > 0.0 && clip.is_finite())) {
            return fail("--clip must be above 0; leave it out for no limit".to_owned());
        }
        if self.max_skipped == 0 {
            return fail("--max-skipped must be at least 1, which ends the run at the first step whose loss or gradient is not finite".to_owned());
        }
        self.check_run()
    }

    /// Checks the settings of the run around the steps.
    fn check_run(&self) -> Result<()> {
        let fail = |text: String| Err(SettingsError::new(text));
        if self.holdout.is_some_and(|fraction| !(0.0..1.0).contains(&fraction)) {
            return fail("--holdout must be at least 0 and below 1".to_owned());
        }
        if self.data.is_tokens() && self.holdout.is_some_and(|fraction| fraction > 0.0) {
            return fail(format!(
                "--holdout does nothing with {}: tokens are one part, all of which is trained on; leave it out, and score \
                 other tokens by `igpt-engine eval`",
                self.data
            ));
        }
        if self.keep == 0 {
            return fail(
                "--keep 0 would keep no checkpoint; the last one is always kept, so give 1 or more".to_owned(),
            );
        }
        Ok(())
    }

    /// Checks the cool-down, which only some schedules have.
    fn check_cooldown(&self) -> Result<()> {
        let (Some(cooldown), schedule) = (self.cooldown, self.schedule) else { return Ok(()) };
        if !schedule.has_cooldown() {
            let text = format!(
                "--cooldown does nothing with --schedule {schedule}; leave it out, or give --schedule wsd or wsd-sqrt"
            );
            return Err(SettingsError::new(text));
        }
        if self.warmup.saturating_add(cooldown) > self.steps {
            let (warmup, steps) = (self.warmup, self.steps);
            let text = format!(
                "--warmup {warmup} and --cooldown {cooldown} are together more than --steps {steps}; make them fewer"
            );
            return Err(SettingsError::new(text));
        }
        Ok(())
    }

    /// Checks what the objective of the model that is fine-tuned decides; without a rate of masks, BERT's own is taken.
    pub(super) fn take_masks(&mut self) -> Result<()> {
        self.check_masks()?;
        if self.objective == Objective::Bert {
            self.mask_rate.get_or_insert(MASK_RATE);
        }
        Ok(())
    }

    /// Checks the settings that only one of the objectives has: masks and orders.
    pub(super) fn check_masks(&self) -> Result<()> {
        match (self.objective, self.mask_rate) {
            (Objective::Ar, Some(_)) => {
                let text = "--mask-rate is for BERT models; an autoregressive one masks nothing, so leave it out";
                return Err(SettingsError::new(text));
            }
            (Objective::Bert, Some(rate)) if !(rate > 0.0 && rate <= 1.0) => {
                let text =
                    format!("--mask-rate {rate} must be above 0 and at most 1; the paper masks 0.15 of the pixels");
                return Err(SettingsError::new(text));
            }
            _ => {}
        }

        // Orders.
        if self.objective == Objective::Bert && self.order.as_ref().is_some_and(|order| *order != OrderSpec::Raster) {
            let text = "--order is for autoregressive models; a BERT model sees all pixels at once, so leave it out";
            return Err(SettingsError::new(text));
        }
        Ok(())
    }
}
