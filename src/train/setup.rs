//! What a session needs before its first step: data, model, weights.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::settings::Settings;
use super::settings_error::SettingsError;
use super::{FineTuning, TrainError};
use crate::checkpoint::images::{ChosenPalette, class_names, palette_for, resolution_of, resumed_palette};
use crate::checkpoint::{self, OrderSpec};
use crate::data::{self, DataSpec, Examples, OpenOptions, Palette, Split};
use crate::device::{Device, Precision};
use crate::model::{Criterion, MASK_RATE, Masking, ModelConfig, Objective};
use crate::optim::Schedule;
use crate::plan::{Load, Shares, Work, gib, limits};
use crate::run::checkpoints;
use crate::run::folder::RunFolder;
use crate::run::images::{Change, ImagesRecord};

type Result<T> = std::result::Result<T, TrainError>;

pub(super) fn refuse<T>(text: impl Into<String>) -> Result<T> {
    Err(SettingsError::new(text).into())
}

/// The run's folder: opened to go on with, or made.
pub(super) fn run_folder(settings: &Settings, resume: bool) -> Result<RunFolder> {
    Ok(match &settings.numbered {
        _ if resume => RunFolder::open(&settings.out)?,
        Some(name) => RunFolder::create_numbered(name, settings.out.parent().unwrap_or(Path::new("")))?,
        None => RunFolder::create(&settings.out)?,
    })
}

/// The folders that a run starts from.
pub(super) struct Origin {
    /// The latest checkpoint of the run that is resumed.
    pub latest: Option<PathBuf>,
    /// The checkpoint that `init` names; the latest one of the run once there is one.
    pub init: Option<PathBuf>,
    /// The model in `init`.
    pub init_config: Option<ModelConfig>,
    /// The model in `latest`.
    pub resumed_config: Option<ModelConfig>,
}

impl Origin {
    pub fn find(settings: &Settings, resume: bool) -> Result<Self> {
        let latest = if resume { checkpoints::latest(&settings.out)?.map(|(_, path)| path) } else { None };
        // A resumed run no longer needs what it was started from.
        let init = match (&settings.init, &latest) {
            (Some(_), Some(latest)) => Some(latest.clone()),
            (init, _) => init.as_deref().map(checkpoints::resolve).transpose()?,
        };
        let init_config = init.as_deref().map(checkpoint::load_config).transpose()?;
        let resumed_config = latest.as_deref().map(checkpoint::load_config).transpose()?;
        Ok(Self { latest, init, init_config, resumed_config })
    }

    /// The colours: of a resumed run those that it began with, else those that are given, come with the weights, or are
    /// built in.
    pub fn palette(&self, settings: &Settings) -> Result<ChosenPalette> {
        let file = settings.palette.as_deref();
        if let Some(latest) = &self.latest {
            return Ok(resumed_palette(file, latest)?);
        }
        let chosen = palette_for(file, self.init.as_deref())?;
        let unknown = matches!(settings.data, DataSpec::Tokens { .. }) && file.is_none() && self.init.is_none();
        if !unknown {
            return Ok(chosen);
        }
        let note = format!(
            "which colours the tokens of {} stand for is not known, so the built-in palette is assumed and saved with the \
             model; give theirs with --palette",
            settings.data
        );
        Ok(ChosenPalette { note: Some(note), ..chosen })
    }
}

/// How the images are opened; `progress` shows bars while they are looked through.
pub(super) fn open_options(
    settings: &Settings,
    init: Option<&ModelConfig>,
    palette: &Arc<Palette>,
    progress: bool,
) -> Result<OpenOptions> {
    let resolution = match (settings.resolution, init) {
        (Some(resolution), _) => resolution,
        // Token sequences have their own length.
        (None, _) if settings.data.is_tokens() => 32,
        (None, Some(config)) => resolution_of(config)?,
        (None, None) if settings.data == DataSpec::Sample => 16,
        (None, None) => 32,
    };

    let Ok(resolution) = u32::try_from(resolution) else { return refuse("--resolution is too large") };
    Ok(OpenOptions {
        resolution,
        filter: settings.filter,
        skip_bad: settings.skip_bad,
        alpha: settings.alpha,
        of_model: settings.resolution.is_none() && init.is_some(),
        augment: !settings.no_augment,
        holdout: settings.holdout,
        seed: settings.seed,
        progress,
        ..OpenOptions::new(Arc::clone(palette))
    })
}

/// Refuses to go on with a run whose images are others by now; `now` is what they are. Returns what to say of them.
pub(super) fn check_images(settings: &Settings, now: &ImagesRecord) -> Result<Option<String>> {
    let (out, data) = (settings.out.display(), &settings.data);
    let Some(before) = ImagesRecord::read(&settings.out)? else { return Ok(None) };
    match before.change(&now.fingerprint) {
        Change::None => Ok(None),
        Change::Times => Ok(Some(format!(
            "files of {data} were written anew or copied since the run began; names, sizes and labels are the same, so it \
             goes on. If their contents changed, start a new run"
        ))),
        Change::Contents => refuse(format!(
            "{data} has changed since the run in {out} began: {} images then, {} now, and not the same ones. Images that \
             were trained on could be held out now. Put the data back as they were, or start a new run from these weights: \
             --init {out} --out NEW",
            before.fingerprint.count, now.fingerprint.count
        )),
    }
}

/// The held-out images; `None` where nothing is held out.
pub(super) fn open_validation(settings: &Settings, options: &OpenOptions) -> Result<Option<Box<dyn Examples>>> {
    let fraction = settings.holdout.unwrap_or(settings.data.default_holdout());
    if fraction == 0.0 || settings.data.is_tokens() {
        return Ok(None);
    }
    Ok(Some(data::open(&settings.data, Split::Validation, options)?))
}

/// The model's shape: the initial checkpoint's, else the preset's with what the settings change.
///
/// The order of a file is that of the `resumed` run, whatever has become of the file.
pub(super) fn model_config(
    settings: &Settings,
    init: Option<ModelConfig>,
    resumed: Option<&ModelConfig>,
    train: &dyn Examples,
) -> Result<ModelConfig> {
    let given = init.is_some();
    let config = match init {
        // Pre-training has no class head; fine-tuning brings its own.
        Some(config) => ModelConfig { classes: Vec::new(), ..config },
        None => preset_config(settings, train)?,
    };

    // With the settings' changes.
    let order = match (&settings.order, resumed) {
        (None, _) => config.order.clone(),
        (Some(OrderSpec::File(_)), Some(resumed)) => resumed.order.clone(),
        (Some(order), _) => order.order()?,
    };
    let preset = settings.model.map(|preset| preset.shape());
    let wanted = ModelConfig {
        layers: settings.layers.or(preset.map(|shape| shape.0)).unwrap_or(config.layers),
        width: settings.width.or(preset.map(|shape| shape.1)).unwrap_or(config.width),
        heads: settings.heads.or(preset.map(|shape| shape.2)).unwrap_or(config.heads),
        norm: settings.norm.unwrap_or(config.norm),
        activation: settings.activation.unwrap_or(config.activation),
        bias: settings.bias.unwrap_or(config.bias),
        order,
        ..config.clone()
    };

    // The model of a checkpoint cannot be changed.
    if given && settings.objective != config.objective() {
        let (brought, asked) = (config.objective(), settings.objective);
        return refuse(format!(
            "--init brings a model trained for {brought}, and --objective is {asked}; give --objective {brought}"
        ));
    }
    if given && wanted != config {
        return refuse(format!(
            "--init brings a model of {}; the flags ask for {}. Leave the model's flags out",
            shape(&config),
            shape(&wanted)
        ));
    }
    wanted.validate()?;
    Ok(wanted)
}

/// The named size, for the images' length and colours.
fn preset_config(settings: &Settings, train: &dyn Examples) -> Result<ModelConfig> {
    let length = train.sequence_length();
    let resolution = settings.resolution.unwrap_or(length.isqrt());
    if settings.resolution.is_none() && resolution * resolution != length {
        return refuse(format!("images of {length} tokens are not square; give the model's --resolution"));
    }
    Ok(ModelConfig {
        vocabulary: train.vocabulary(),
        sos: settings.objective == Objective::Ar,
        ..ModelConfig::preset(settings.model.unwrap_or_default(), resolution)
    })
}

pub(super) fn shape(config: &ModelConfig) -> String {
    let ModelConfig { layers, width, heads, norm, activation, bias, classes, positions, .. } = config;
    let order = config.order.name();
    let head = if classes.is_empty() { String::new() } else { format!(", {} classes", classes.len()) };
    format!(
        "{layers} layers × {width}, {heads} heads, norm {norm:?}, activation {activation:?}, bias {bias}, order {order}, \
         {positions} tokens per image{head}"
    )
}

/// The classes that the images have; fine-tuning learns them all.
pub(super) fn classes_of(
    train: &dyn Examples,
    validation: Option<&dyn Examples>,
    tuning: &FineTuning,
) -> Result<Vec<String>> {
    let count = train.classes();
    if count < 2 || train.label(0).is_none() {
        return refuse(format!(
            "fine-tuning needs images of two or more classes, and {} has {count}; give images of a data set with labels, \
             or tokens:FILE.npy,LABELS.npy",
            train.describe()
        ));
    }

    if tuning.fold_validation && validation.is_none() {
        return refuse(
            "--fold-validation needs images that are held out to find the number of steps; give a --holdout above 0",
        );
    }
    Ok(class_names(train))
}

/// The training loss.
pub(super) fn criterion(settings: &Settings) -> Criterion {
    let masking = Masking { rate: settings.mask_rate.unwrap_or(MASK_RATE), seed: settings.seed };
    let pretraining = Criterion::pretraining(settings.objective, masking);
    match &settings.fine_tuning {
        None => pretraining,
        Some(tuning) => Criterion {
            generative_weight: tuning.generative_weight as f32,
            classification_weight: tuning.classification_weight as f32,
            ..pretraining
        },
    }
}

/// What a person should know of a run that goes on after `made` steps: where it starts anew, and where more steps move
/// the learning rate.
pub(super) fn resume_notes(settings: &Settings, earlier: &Settings, made: u64) -> Vec<String> {
    if made == 0 {
        let out = settings.out.display();
        return vec![format!("note: {out} has no checkpoint, so the run starts anew from step 0")];
    }

    let rate = |settings: &Settings, step| schedule(settings).learning_rate(step);
    let (then, now) = (rate(earlier, made - 1), rate(settings, made));
    let is_same = (settings.steps, settings.cooldown) == (earlier.steps, earlier.cooldown);
    if is_same || rate(earlier, made) == now {
        return Vec::new();
    }
    let cooldown = |settings: &Settings| match settings.cooldown {
        None => String::new(),
        Some(cooldown) => format!(" with a cool-down of {cooldown}"),
    };
    vec![format!(
        "note: the learning rate's schedule is now that of {} steps{}, not of {}{}: it was {then:.2e} at step {made} and is \
         {now:.2e} at step {}",
        settings.steps,
        cooldown(settings),
        earlier.steps,
        cooldown(earlier),
        made + 1
    )]
}

/// The learning rate over the whole run.
pub(super) fn schedule(settings: &Settings) -> Schedule {
    let Settings { schedule: kind, lr: peak, warmup, steps, cooldown, .. } = *settings;
    Schedule { kind, peak, warmup, steps, cooldown: cooldown.unwrap_or(0) }
}

/// What a run has memory for.
pub(super) struct Room {
    /// Images that are validated at a time.
    pub eval_batch: usize,
    /// Whether the host can hold a copy of a checkpoint while it is written.
    pub holds_snapshot: bool,
    /// What to say of it.
    pub notes: Vec<String>,
}

/// Refuses a run that does not fit into the memory of one of its ranks, which share steps as `shares` says, `beside` of them on this
/// machine. Images are validated fewer at a time, halved until they fit beside the steps.
pub(super) fn check_memory<D: Device>(
    device: &D,
    settings: &Settings,
    config: &ModelConfig,
    length: usize,
    (shares, beside): (Shares, usize),
) -> Result<Room> {
    let (images, ema, precision) =
        (settings.batch, settings.ema.is_some(), settings.precision.unwrap_or(Precision::F32));
    let load = Load::new(config, Work::Training, images, length, precision);
    let load = Load { ema, recompute: settings.recompute, shares, ..load };
    let holds_snapshot = limits::holds_snapshot(device, load, beside);
    let mut notes = Vec::new();
    if !holds_snapshot && !settings.sync_checkpoints {
        let bytes = gib(shares.snapshot(config, ema));
        notes.push(format!(
            "note: this machine has no {bytes} to copy a checkpoint to, so training stands still while one is written"
        ));
    }
    let Some(wanted) = settings.eval_batch else {
        limits::check_training(device, load, beside)?;
        return Ok(Room { eval_batch: images, holds_snapshot, notes });
    };

    let mut fits = wanted;
    loop {
        match limits::check_training(device, Load { eval_images: Some(fits), ..load }, beside) {
            Ok(()) => break,
            // As few as a step has need next to nothing beyond it.
            Err(error) if fits <= images => return Err(error.into()),
            Err(_) => fits = (fits / 2).max(images.min(fits)),
        }
    }
    notes.extend((fits < wanted).then(|| {
        format!("note: validating {wanted} images at a time needs more memory than there is; it will be {fits} (--eval-batch)")
    }));
    Ok(Room { eval_batch: fits, holds_snapshot, notes })
}

/// What to say of an optimiser that would move to where it is.
pub(super) fn note_offload<D: Device>(device: &D, settings: &Settings) -> Option<String> {
    let moves_nowhere = settings.offload_optimizer && device.own_memory().is_none();
    moves_nowhere.then(|| "note: --offload-optimizer changes nothing on the CPU, whose memory is the host's".to_owned())
}

/// Refuses to go on with a run that has made more steps than it is to make in all.
pub(super) fn check_steps(settings: &Settings, made: u64, out: &Path) -> Result<()> {
    if made > settings.steps {
        return refuse(format!(
            "{} has made {made} steps, and --steps {} is fewer; give more, or start another run with --out",
            out.display(),
            settings.steps
        ));
    }
    Ok(())
}
