//! A training session: from settings to a run folder with checkpoints, metrics, samples and a report.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::common_start;
use super::fit::fit;
use super::loop_schedule::LoopSchedule;
use super::settings::Settings;
use super::setup::{self, Origin};
use super::shared_step::Sharing;
use super::skipping::Skipping;
use super::state::State;
use super::together::Together;
use super::training_loop::{Records, StopReason, TrainingLoop};
use super::under_way::Saving;
use super::yardstick::{self, Yardstick};
use super::{Events, Silent, TrainError, Trainer};
use crate::checkpoint::images::{ChosenPalette, check_fits, note_on_classes};
use crate::checkpoint::{BestAccuracy, Progress};
use crate::data::{self, Batches, Examples, Palette, Prefetcher, Split};
use crate::device::{self, Device, Precision};
use crate::fs::{atomic_dir, atomic_file};
use crate::model::{ModelConfig, Objective, Transformer, parameter_specs};
use crate::report::card::ExpectedEnergy;
use crate::report::compute::Compute;
use crate::report::grids;
use crate::report::history::History;
use crate::report::html::{describe_model, grouped};
use crate::report::training::{Report, SampleGrid};
use crate::run::folder::{RunFolder, RunFolderError};
use crate::run::images::ImagesRecord;
use crate::run::run_log::RunLog;

type Result<T> = std::result::Result<T, TrainError>;

/// What kind of model a run trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelKind {
    /// A model that completes and draws images.
    Autoregressive,
    /// A model that predicts masked pixels; it cannot draw.
    Bert,
    /// A fine-tuned model.
    Classifier,
}

/// How a session ended, and what it wrote.
pub struct Outcome {
    /// Why it stopped.
    pub stop_reason: StopReason,
    /// Steps made so far, over all sessions.
    pub step: u64,
    /// The best accuracy on the validation images, where it was measured.
    pub best: Option<BestAccuracy>,
    /// What was trained.
    pub kind: ModelKind,
    /// What `report.html` shows.
    pub report: Report,
    /// The run's folder.
    pub folder: RunFolder,
}

/// A run that is ready to train: everything is open, checked and in memory.
pub struct Session<'a, D: Device> {
    settings: Settings,
    train: Arc<dyn Examples>,
    validation: Option<Box<dyn Examples>>,
    palette: Arc<Palette>,
    /// Of rank 0 alone.
    folder: Option<RunFolder>,
    together: Together<D>,
    trainer: Trainer<'a, D>,
    progress: Progress,
    /// Images that are validated at a time.
    eval_batch: usize,
    /// How its checkpoints are written.
    saving: Saving<D>,
    /// What a person should know before it starts.
    notes: Vec<String>,
}

impl<'a, D: Device> Session<'a, D> {
    /// Opens the images, builds or loads the model and makes the run folder; with the settings of an `earlier` session
    /// of the same run, goes on where that one stopped. `show_progress` shows bars while images are looked through.
    ///
    /// # Errors
    /// Whatever does not fit together or cannot be read, before anything is trained.
    pub fn open(device: &'a D, settings: Settings, earlier: Option<&Settings>, show_progress: bool) -> Result<Self> {
        Self::open_with(device, Together::alone(), settings, earlier, show_progress)
    }

    /// The same as one of several ranks, all of which open it.
    ///
    /// # Errors
    /// Those of [`Session::open`]; ranks that do not fit the settings, or each other.
    pub fn open_with(
        device: &'a D,
        together: Together<D>,
        mut settings: Settings,
        earlier: Option<&Settings>,
        show_progress: bool,
    ) -> Result<Self> {
        check_settings(&settings, earlier, together.size())?;

        // Where the run starts from, and its images.
        let mut origin = Origin::find(&settings, earlier.is_some())?;
        let ChosenPalette { palette, note } = origin.palette(&settings)?;
        let mut notes: Vec<String> = note.into_iter().collect();
        let options = setup::open_options(&settings, origin.init_config.as_ref(), &palette, show_progress)?;
        let train: Arc<dyn Examples> = data::open(&settings.data, Split::Train, &options)?.into();
        let validation = setup::open_validation(&settings, &options)?;
        let record =
            ImagesRecord { data: settings.data.to_string(), fingerprint: train.fingerprint()?, palette: palette.id() };
        if earlier.is_some() {
            notes.extend(setup::check_images(&settings, &record)?);
        }

        // The model.
        if settings.fine_tuning.is_some() {
            settings.objective = origin.init_config.as_ref().map_or(settings.objective, ModelConfig::objective);
        }
        let init_config = origin.init_config.take();
        let mut config = setup::model_config(&settings, init_config, origin.resumed_config.as_ref(), train.as_ref())?;
        if let Some(tuning) = settings.fine_tuning {
            settings.take_masks()?;
            config.classes = setup::classes_of(train.as_ref(), validation.as_deref(), &tuning)?;
        }
        check_fits(&config, train.as_ref())?;
        if settings.fit {
            notes.push(fit(device, &mut settings, &config, &together, earlier.is_some()));
            settings.check_ranks(together.size())?;
        }
        let sharing = Sharing::of(&settings, &together);
        let shares = (sharing.shares(together.size()), together.beside());
        let room = setup::check_memory(device, &settings, &config, train.sequence_length(), shares)?;
        notes.extend(room.notes);
        notes.extend(setup::note_offload(device, &settings));

        // The folder, and the weights.
        let folder = common_start::folder(device, &together, &mut settings, earlier.is_some())?;
        let buckets = sharing.buckets(&together, &parameter_specs(&config));
        let state = State::of(device, &origin, &config, &settings, buckets.as_ref())?;
        let progress = state.progress;
        setup::check_steps(&settings, progress.step, &settings.out)?;
        if let Some(folder) = &folder {
            write_text(&folder.config(), &settings.to_toml()?)?;
            record.write(folder.root())?;
        }
        let facts = common_start::facts(&settings, &record, state.fingerprint, progress)?;
        let in_background = together.agree(device, &facts, room.holds_snapshot)? && !settings.sync_checkpoints;

        // The trainer.
        if let Some(earlier) = earlier {
            notes.extend(setup::resume_notes(&settings, earlier, progress.step));
        }
        let (schedule, criterion) = (setup::schedule(&settings), setup::criterion(&settings));
        let model = Transformer::new(config)?.recomputing(settings.recompute);
        let trainer = Trainer::shared(device, model, state, (schedule, criterion), (&together, sharing))?
            .with_graphs(!settings.no_graph)
            .skipping_spikes(settings.skip_spikes, progress.spikes, progress.skipped.in_a_row)?;
        let (eval_batch, saving) = (room.eval_batch, Saving::new(in_background));
        Ok(Self {
            settings,
            train,
            validation,
            palette,
            folder,
            together,
            trainer,
            progress,
            eval_batch,
            saving,
            notes,
        })
    }

    /// What is about to happen, for people: `training 1,055,104 parameters (..) on .., on the device cpu (2 threads)`.
    pub fn describe(&self) -> String {
        let config = self.trainer.model().config();
        format!(
            "{} {} parameters ({} layers × {}, {} heads, {} tokens per image) on {}, on the device {}",
            if self.settings.fine_tuning.is_some() { "fine-tuning" } else { "training" },
            grouped(config.parameter_count() as u64),
            config.layers,
            config.width,
            config.heads,
            self.train.sequence_length(),
            self.train.describe(),
            self.trainer.device().describe(),
        )
    }

    /// What ranks share out, for people.
    pub fn describe_sharing(&self) -> &'static str {
        match self.settings.zero_of(self.together.size()) {
            0 => "each has all of the optimiser (--zero 0)",
            1 => "they share out moments and master weights (--zero 1)",
            _ => "they share out moments, master weights and gradients (--zero 2)",
        }
    }

    /// What people should know of the images: what was passed over, which classes have none.
    pub fn notes(&self) -> Vec<String> {
        self.train.notes()
    }

    /// Trains until the last step, until patience ends, or until `stop` is set, and writes the report.
    ///
    /// # Errors
    /// A device, image or file that fails on the way, or training that diverges; the last checkpoint stays good. On another rank
    /// than 0, which has no folder: [`Session::follow`] is for those.
    pub fn run(mut self, events: &mut dyn Events, stop: &AtomicBool) -> Result<Outcome> {
        let Some(mut folder) = self.folder.take() else {
            return Err(device::Error::unavailable("only rank 0 leads a run", "call Session::follow").into());
        };
        self.notes.iter().for_each(|note| events.note(note));
        let first = first_notes(&self.settings, self.train.as_ref(), self.validation.is_some(), self.progress.step);
        first.iter().for_each(|note| events.note(note));
        let (made, settings, data) = (self.progress.step, self.settings.clone(), self.train.describe());
        let log = RunLog::resume(&folder, made, !settings.no_tensorboard)?;
        missing_metrics(&folder, log.steps(), made).iter().for_each(|note| events.note(note));

        // The loop.
        let config = settings.to_toml()?;
        let ended = self.train(Some(Records { folder: &mut folder, log, config }), events, stop)?;
        // Renamed first: the other ranks may still write into it what they do.
        let _ = atomic_dir::remove_folder(&folder.root().join(RunFolder::RANKS));

        // The report.
        let Ended { stop_reason, step, best, config, device, compute, energy } = ended;
        let report = Report { compute: Some(compute), energy, ..report(&folder, &config, &settings, data, device)? };
        write_text(&folder.report(), &report.render())?;
        let kind = match (&settings.fine_tuning, settings.objective) {
            (Some(_), _) => ModelKind::Classifier,
            (None, Objective::Ar) => ModelKind::Autoregressive,
            (None, Objective::Bert) => ModelKind::Bert,
        };
        Ok(Outcome { stop_reason, step, best, kind, report, folder })
    }

    /// The same as another rank than 0: trains with it, and writes nothing.
    ///
    /// # Errors
    /// Those of [`Session::run`].
    pub fn follow(self, stop: &AtomicBool) -> Result<StopReason> {
        self.train(None, &mut Silent, stop).map(|ended| ended.stop_reason)
    }

    fn train(self, records: Option<Records<'_>>, events: &mut dyn Events, stop: &AtomicBool) -> Result<Ended> {
        let Self { settings, train, validation, palette, together, trainer, progress, eval_batch, saving, .. } = self;
        let batches = Batches::training(Arc::clone(&train), settings.seed, !settings.no_shuffle)?
            .with_workers(settings.workers.unwrap_or(0))?;
        let (config, precision) = (trainer.model().config().clone(), settings.precision.unwrap_or(Precision::F32));
        let (device, length) = (trainer.device(), train.sequence_length());
        let tokens = settings.batch * settings.accumulate * length / together.size();
        let Yardstick { compute, energy, note } = Yardstick::of(device, &config, precision, [length, tokens])?;
        note.iter().for_each(|note| events.note(note));
        let compute = compute.on_cards(together.size());

        let joules = records.as_ref().map_or(0.0, |records| records.log.joules());
        let share = [together.rank(), together.size()];
        let mut training = TrainingLoop {
            compute: compute.clone(),
            monitor: yardstick::monitor(device, joules),
            trainer,
            batches: Prefetcher::start_share(batches, progress.samples, settings.batch, 4, share)?,
            length,
            validation: validation.as_deref(),
            palette: &palette,
            records,
            together,
            schedule: LoopSchedule { eval_batch, ..LoopSchedule::of(&settings) },
            progress,
            finished: None,
            check_image: Vec::new(),
            skipping: Skipping::new(settings.max_skipped),
            asked_to_stop: false,
            saving_failed: false,
            saving,
        };
        let stop_reason = training.run(events, stop)?;
        let Progress { step, best, .. } = training.progress;
        Ok(Ended { stop_reason, step, best, config, device: device.describe(), compute, energy })
    }
}

/// Refuses settings that fit neither each other, nor as many `ranks`, nor those of an `earlier` session of the run.
fn check_settings(settings: &Settings, earlier: Option<&Settings>, ranks: usize) -> Result<()> {
    settings.check()?;
    // What is to fit is divided once the model is known.
    if !settings.fit {
        settings.check_ranks(ranks)?;
    }
    if settings.fine_tuning.is_none() {
        settings.check_masks()?;
    }
    atomic_dir::check_folder(&settings.out).map_err(RunFolderError::from)?;
    match earlier {
        Some(earlier) => Ok(settings.check_resume_compatible(earlier)?),
        None => Ok(()),
    }
}

/// How a rank's loop ended.
struct Ended {
    stop_reason: StopReason,
    step: u64,
    best: Option<BestAccuracy>,
    config: ModelConfig,
    device: String,
    compute: Compute,
    energy: Option<ExpectedEnergy>,
}

/// What is to be known of a run before it goes on, of whose steps `made` are made.
fn first_notes(settings: &Settings, train: &dyn Examples, validates: bool, made: u64) -> Vec<String> {
    let mut notes = Vec::new();
    if settings.fine_tuning.is_some() {
        notes.extend(note_on_classes(train));
        if !validates {
            notes.push("no images are held out, so all --steps are made and no accuracy is measured".to_owned());
        }
    }
    if made == settings.steps {
        notes.push(format!("the run has made its {made} steps; give more with --steps"));
    }
    notes
}

/// That a run's metrics hold fewer steps than were made, if they do.
fn missing_metrics(folder: &RunFolder, held: u64, made: u64) -> Option<String> {
    (held < made).then(|| {
        format!(
            "note: {} holds {held} of the {made} steps that were made, so the report's curves lack the others; the run itself \
             goes on as if it had all",
            folder.metrics().display()
        )
    })
}

/// What `report.html` shows.
fn report(
    folder: &RunFolder,
    config: &ModelConfig,
    settings: &Settings,
    data: String,
    device: String,
) -> Result<Report> {
    // Of the sample grids that the folder holds, those of earlier sessions too, as many as a page shows.
    let grids = folder.sample_grids()?;
    let mut samples = Vec::new();
    for (step, path) in grids::shown(&grids) {
        let png = std::fs::read(&path).map_err(|source| TrainError::Read { path, source })?;
        let shown = config.order.describe_prompt();
        let caption = format!("validation images, {shown}, which the model sees, and its completions");
        samples.push(SampleGrid { step, caption, png });
    }

    Ok(Report {
        title: format!("igpt-engine: {}", folder.root().display()),
        model: describe_model(config),
        parameters: config.parameter_count(),
        vocabulary: config.vocabulary,
        data,
        device,
        planned_steps: settings.steps,
        history: History::read(&folder.metrics())?,
        compute: None,
        energy: None,
        samples,
        sample_count: grids.len(),
        config: settings.to_toml()?,
    })
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    atomic_file::write_file(path, |file| file.write_all(text.as_bytes()))
        .map_err(|source| TrainError::Write { path: path.to_owned(), source })
}
