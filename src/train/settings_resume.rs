//! Which settings a resumed run may change.

use super::settings::Settings;
use super::settings_error::{Result, SettingsError};

impl Settings {
    /// Refuses to go on with a run of the settings `earlier` under these. It may go on longer, cool down earlier or later, be watched or saved more
    /// often, pass over bad files (others stand in for them, and the order stays), give up on bad steps later, or move to other
    /// hardware; what decides the numbers must stay.
    pub(super) fn check_resume_compatible(&self, earlier: &Self) -> Result<()> {
        // Settings that may change, set to what they were.
        let free = Self {
            steps: earlier.steps,
            cooldown: earlier.cooldown,
            skip_bad: earlier.skip_bad,
            eval_every: earlier.eval_every,
            eval_images: earlier.eval_images,
            eval_batch: earlier.eval_batch,
            sample_every: earlier.sample_every,
            save_every: earlier.save_every,
            keep: earlier.keep,
            sync_checkpoints: earlier.sync_checkpoints,
            no_tensorboard: earlier.no_tensorboard,
            max_skipped: earlier.max_skipped,
            skip_spikes: earlier.skip_spikes,
            device: earlier.device,
            precision: earlier.precision,
            no_graph: earlier.no_graph,
            no_overlap: earlier.no_overlap,
            zero: earlier.zero,
            offload_optimizer: earlier.offload_optimizer,
            recompute: earlier.recompute,
            threads: earlier.threads,
            workers: earlier.workers,
            ..self.clone()
        };

        // Everything else must be the same.
        let (now, before) = (toml::Table::try_from(&free)?, toml::Table::try_from(earlier)?);
        for key in now.keys().chain(before.keys()) {
            let show = |table: &toml::Table| table.get(key).map_or("not given".to_owned(), ToString::to_string);
            if now.get(key) != before.get(key) {
                let out = self.out.display();
                return Err(SettingsError::new(format!(
                    "{out} was trained with {key} = {}, and now it is {}; a resumed run keeps its settings. Leave --{key} \
                     out, or start a new run from its weights: --init {out} --out NEW",
                    show(&before),
                    show(&now),
                )));
            }
        }

        // The factors of the losses decide the numbers; patience only when to stop.
        let (Some(now), Some(before)) = (&self.fine_tuning, &earlier.fine_tuning) else { return Ok(()) };
        for (flag, now, before) in [
            ("generative-weight", now.generative_weight, before.generative_weight),
            ("classification-weight", now.classification_weight, before.classification_weight),
        ] {
            if now != before {
                return Err(SettingsError::new(format!(
                    "the run was started with {flag} = {before}, and now it is {now}; leave --{flag} out, or give a new --out"
                )));
            }
        }
        Ok(())
    }
}
