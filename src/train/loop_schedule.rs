//! When the training loop validates, samples and saves.

use super::settings::Settings;

/// Grids of a run that are shown beside its curves at most, and the last: pictures are large, and TensorBoard shows ten.
const SHOWN: u64 = 100;

/// When the loop does what.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoopSchedule {
    /// Steps in all.
    pub steps: u64,
    /// Images per micro-batch.
    pub batch: usize,
    /// Micro-batches per step.
    pub accumulate: usize,
    /// Steps between validations; 0 for none.
    pub eval_every: u64,
    /// Validation images scored each time; 0 for all.
    pub eval_images: usize,
    /// Images scored at a time.
    pub eval_batch: usize,
    /// Images in a row that each of several ranks scores in turn: as many as one process would at a time.
    pub eval_share: usize,
    /// Steps between sample grids; 0 for none.
    pub sample_every: u64,
    /// Steps between checkpoints; 0 for the last step only.
    pub save_every: u64,
    /// Checkpoints kept.
    pub keep: usize,
    /// Fine-tuning: validations in a row without a better accuracy after which to stop; never if `None`.
    pub patience: Option<u64>,
    /// Seed of the samples.
    pub seed: u64,
}

impl LoopSchedule {
    pub fn of(settings: &Settings) -> Self {
        Self {
            steps: settings.steps,
            batch: settings.batch,
            accumulate: settings.accumulate,
            eval_every: settings.eval_every,
            eval_images: settings.eval_images,
            eval_batch: settings.eval_batch.unwrap_or(settings.batch),
            eval_share: settings.eval_batch.unwrap_or(settings.batch),
            sample_every: settings.sample_every,
            save_every: settings.save_every,
            keep: settings.keep,
            patience: settings.fine_tuning.map(|tuning| tuning.patience).filter(|patience| *patience > 0),
            seed: settings.seed,
        }
    }

    /// Whether the grid that is drawn after `step` updates is shown beside the curves.
    pub fn shows(&self, step: u64) -> bool {
        let every = self.sample_every.max(1);
        let grids = self.steps / every;
        step == self.steps || (step / every).is_multiple_of(grids.div_ceil(SHOWN).max(1))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::data::DataSpec;

    #[test]
    fn a_hundred_grids_are_shown_at_most_and_the_last() {
        let schedule = LoopSchedule::of(&Settings::pretraining(DataSpec::Sample, Path::new("run")).unwrap());
        for (steps, sample_every, expected) in [(6, 3, 2), (7, 3, 3), (100, 1, 100), (1_000_000, 100, 100)] {
            let schedule = LoopSchedule { steps, sample_every, ..schedule };
            let drawn = (1..=steps).filter(|step| step.is_multiple_of(sample_every) || *step == steps);
            let shown: Vec<u64> = drawn.filter(|step| schedule.shows(*step)).collect();
            assert_eq!((shown.len(), shown.last()), (expected, Some(&steps)), "{steps} steps");
        }
        assert!(LoopSchedule { sample_every: 0, ..schedule }.shows(schedule.steps));
    }
}
