//! `igpt-engine train`: from settings to a run folder.

pub mod args;
mod summary;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;

use self::args::{TrainArgs, TrainSettings};
use super::common::device::on_device;
use super::common::interrupt::stop_flag;
use super::common::progress::watcher;
use super::finetune::args::TuningSettings;
use crate::checkpoint::images::{check_fits, class_names, palette_for, resolution_of};
use crate::checkpoint::{self, BestAccuracy, LoadedTraining, OrderSpec, Progress};
use crate::data::{self, Batches, DataSpec, Examples, OpenOptions, Palette, Prefetcher, Split};
use crate::device::Device;
use crate::device::Precision;
use crate::device::select::{Chosen, DeviceJob, Request};
use crate::fs::atomic_file;
use crate::model::{Criterion, MASK_RATE, Masking, ModelConfig, Objective, Transformer, parameter_specs};
use crate::optim::{Adam, AdamConfig, Schedule};
use crate::plan::limits;
use crate::report::training::grouped;
use crate::run::checkpoints;
use crate::run::folder::RunFolder;
use crate::run::metrics::MetricsLog;
use crate::tape::Parameters;
use crate::train::{Ending, Plan, Run, Trainer};
use summary::{Made, announce, report};

/// Train a model; without arguments, a tiny one on the built-in sample in a few minutes
///
/// Everything a run leaves is in its folder: config.toml, metrics.jsonl, checkpoints/, samples/ and
/// report.html. Ctrl-C saves and ends; the same command with --resume goes on, bit for bit as if it
/// had never stopped.
///
///   igpt-engine train
///   igpt-engine data fetch cifar10 --out data && igpt-engine train --data cifar10:data --steps 5000
///   igpt-engine train --data images:photos --model s --resolution 32 --batch 8 --accumulate 16
///   igpt-engine train --out runs/tiny-001 --resume
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct TrainCommand {
    #[command(flatten)]
    args: TrainArgs,
    /// Settings from a file: the flags' names as keys, e.g. `batch = 32`; flags on the command line win
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Divide the sizes in --config by N, to try a recipe on a smaller machine: layers, width, batch and steps by N, the
    /// resolution by √N. Flags are not divided
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true)]
    scale_down: u64,
    /// Go on with the run in --out (or start it, if it has not been)
    #[arg(long)]
    resume: bool,
    /// Print JSON lines, one a step, and nothing else on standard output
    #[arg(long)]
    json: bool,
}

impl TrainCommand {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let (settings, earlier) = self.settings()?;
        on_device(request(&settings, earlier.as_ref()), TrainJob { settings, earlier, tuning: None, json: self.json })
    }

    /// Merges flags, file and, when resuming, the run's own settings; those are returned too, to compare with.
    fn settings(&self) -> Result<(TrainSettings, Option<TrainSettings>)> {
        if self.scale_down != 1 && self.config.is_none() {
            bail!("--scale-down divides what --config says; give a recipe, or smaller numbers");
        }
        let mut args = self.args.clone();
        if let Some(file) = &self.config {
            args = args.over(TrainArgs::from_file(file, self.scale_down)?)?;
        }
        if !self.resume {
            return Ok((args.resolve()?, None));
        }
        let Some(out) = args.out.clone() else {
            bail!("--resume needs --out DIR, the run to go on with");
        };
        let config = out.join("config.toml");
        if !config.exists() {
            return Ok((args.resolve()?, None));
        }
        let earlier = TrainArgs::from_file(&config, 1)?;
        // The folder may have been moved since.
        let earlier = TrainArgs { out: Some(out), ..earlier };
        Ok((args.over(earlier.clone())?.resolve()?, Some(earlier.resolve()?)))
    }
}

/// The device that a run asks for. A run that is resumed keeps its precision where the device has it, so only another one
/// counts as asked for.
pub(super) fn request(settings: &TrainSettings, earlier: Option<&TrainSettings>) -> Request {
    let kept = earlier.and_then(|earlier| earlier.precision);
    let precision = settings.precision.filter(|precision| Some(*precision) != kept);
    Request { kind: settings.device, precision, kept, threads: settings.threads }
}

/// One run: pre-training, or with `tuning` fine-tuning.
pub(super) struct TrainJob {
    pub settings: TrainSettings,
    /// Settings of the run that is resumed.
    pub earlier: Option<TrainSettings>,
    /// What fine-tuning has beyond that, and all its settings as `config.toml` shows them.
    pub tuning: Option<(TuningSettings, toml::Table)>,
    pub json: bool,
}

/// How a run ended.
pub(super) struct Outcome {
    pub ending: Ending,
    pub best: Option<BestAccuracy>,
}

impl DeviceJob for TrainJob {
    type Output = Result<()>;

    fn run<D: Device>(self, device: D, chosen: &Chosen) -> Result<()> {
        self.train(&device, chosen).map(drop)
    }
}

impl TrainJob {
    /// Starts the run or goes on with it, to its end or a stop, and says how it ended.
    pub fn train<D: Device>(self, device: &D, chosen: &Chosen) -> Result<Outcome> {
        let Self { mut settings, earlier, mut tuning, json } = self;
        settings.precision = Some(chosen.precision);
        if let Some((_, table)) = &mut tuning {
            table.insert("precision".to_owned(), toml::Value::try_from(chosen.precision)?);
        }
        let stop = stop_flag()?;
        let mut events = watcher(json, stop);
        let latest = match &earlier {
            Some(earlier) => {
                refuse_other_course(&settings, earlier)?;
                checkpoints::latest(&settings.out)?.map(|(_, path)| path)
            }
            None => None,
        };
        // A resumed run needs its beginning no more.
        let init = match (&settings.init, &latest) {
            (Some(_), Some(latest)) => Some(latest.clone()),
            (init, _) => init.as_deref().map(checkpoints::resolve).transpose()?,
        };
        let init_config = init.as_deref().map(checkpoint::load_config).transpose()?;
        let resumed_config = latest.as_deref().map(checkpoint::load_config).transpose()?;
        let palette = palette_for(settings.palette.as_deref(), init.as_deref())?;
        let options = open_options(&settings, init_config.as_ref(), &palette, json)?;
        let train: Arc<dyn Examples> = data::open(&settings.data, Split::Train, &options)?.into();
        let validation = open_validation(&settings, &options)?;
        if tuning.is_some() {
            settings.objective = init_config.as_ref().map_or(settings.objective, ModelConfig::objective);
        }
        let mut config = model_config(&settings, init_config, resumed_config.as_ref(), train.as_ref())?;
        if let Some((tuning, table)) = &mut tuning {
            settings.check_masks()?;
            if settings.objective == Objective::Bert {
                let rate = settings.mask_rate.get_or_insert(MASK_RATE);
                table.insert("mask-rate".to_owned(), (*rate).into());
            }
            config.classes = classes_of(train.as_ref(), validation.as_deref(), tuning)?;
            if validation.is_none() {
                events.note("no images are held out, so all --steps are made and no accuracy is measured");
            }
        }
        check_fits(&config, train.as_ref())?;
        let precision = settings.precision.unwrap_or(Precision::F32);
        limits::check_training(device, &config, settings.batch, train.sequence_length(), precision)?;

        let folder = match &earlier {
            Some(_) => RunFolder::open(&settings.out)?,
            None => RunFolder::create(&settings.out)?,
        };
        let (parameters, adam, progress) = match (&latest, &init) {
            (Some(saved), _) => resume_from(device, saved, &config, &settings)?,
            (None, Some(init)) => fresh(device, checkpoint::load_body(device, init, &config)?, &settings)?,
            (None, None) => {
                fresh(device, Parameters::init(device, parameter_specs(&config), settings.seed)?, &settings)?
            }
        };
        if progress.step > settings.steps {
            bail!(
                "{} has made {} steps, and --steps {} is fewer; give more, or start another run with --out",
                settings.out.display(),
                progress.step,
                settings.steps
            );
        }
        let resolved = match &tuning {
            None => toml::to_string_pretty(&settings)?,
            Some((_, table)) => toml::to_string_pretty(table)?,
        };
        write_text(&folder.config(), &resolved)?;
        let parameter_count = config.parameter_count();
        if progress.step == settings.steps {
            events.note(&format!("the run has made its {} steps; give more with --steps", settings.steps));
        }
        events.note(&format!(
            "{} {} parameters ({} layers × {}, {} heads, {} tokens an image) on {}, on the device {}{}",
            if tuning.is_some() { "fine-tuning" } else { "training" },
            grouped(parameter_count as u64),
            config.layers,
            config.width,
            config.heads,
            train.sequence_length(),
            train.describe(),
            device.describe(),
            chosen.why
        ));

        let length = train.sequence_length();
        let batches = Batches::training(Arc::clone(&train), settings.seed, !settings.no_shuffle)?
            .with_workers(settings.workers.unwrap_or(0))?;
        let model = Transformer::new(config)?;
        let schedule =
            Schedule { kind: settings.schedule, peak: settings.lr, warmup: settings.warmup, steps: settings.steps };
        let mut run = Run {
            trainer: Trainer::new(device, model, parameters, adam, schedule, criterion(&settings, tuning.as_ref()))?
                .with_graphs(!settings.no_graph),
            batches: Prefetcher::start(batches, progress.samples, settings.batch, 4)?,
            length,
            validation: validation.as_deref(),
            palette: &palette,
            folder: &folder,
            log: MetricsLog::resume(&folder.metrics(), Some(progress.step))?,
            plan: plan(&settings, tuning.as_ref()),
            progress,
            finished: None,
        };
        let ending = run.train(events.as_mut(), stop)?;
        drop(events);
        let config = run.trainer.model().config();
        let report = report(&folder, config, settings.steps, train.describe(), device.describe(), resolved)?;
        write_text(&folder.report(), &report.render())?;
        let Progress { step, best, .. } = run.progress;
        let made = match (&tuning, settings.objective) {
            (Some(_), _) => Made::Classifier,
            (None, Objective::Ar) => Made::Painter,
            (None, Objective::Bert) => Made::Guesser,
        };
        announce(&folder, &ending, &report, json, step, best, made)?;
        Ok(Outcome { ending, best })
    }
}

/// The classes that the images have; fine-tuning learns them all.
fn classes_of(train: &dyn Examples, validation: Option<&dyn Examples>, tuning: &TuningSettings) -> Result<Vec<String>> {
    let count = train.classes();
    if count < 2 || train.label(0).is_none() {
        bail!(
            "fine-tuning needs images of two or more classes, and {} has {count}; give images of a data set with labels, \
             or tokens:FILE.npy,LABELS.npy",
            train.describe()
        );
    }
    if tuning.fold_validation && validation.is_none() {
        bail!("--fold-validation needs images that are held out to find the number of steps; give a --holdout above 0");
    }
    Ok(class_names(train))
}

fn criterion(settings: &TrainSettings, tuning: Option<&(TuningSettings, toml::Table)>) -> Criterion {
    let masking = Masking { rate: settings.mask_rate.unwrap_or(MASK_RATE), seed: settings.seed };
    let pretraining = Criterion::pretraining(settings.objective, masking);
    match tuning {
        None => pretraining,
        Some((tuning, _)) => Criterion {
            generative_weight: tuning.generative_weight as f32,
            classification_weight: tuning.classification_weight as f32,
            ..pretraining
        },
    }
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    atomic_file::write_file(path, |file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// A resumed run may go on longer, be watched or saved more often, or move to other hardware; what decides the numbers
/// must stay.
fn refuse_other_course(settings: &TrainSettings, earlier: &TrainSettings) -> Result<()> {
    let free = TrainSettings {
        steps: earlier.steps,
        eval_every: earlier.eval_every,
        eval_images: earlier.eval_images,
        sample_every: earlier.sample_every,
        save_every: earlier.save_every,
        keep: earlier.keep,
        device: earlier.device,
        precision: earlier.precision,
        no_graph: earlier.no_graph,
        threads: earlier.threads,
        workers: earlier.workers,
        ..settings.clone()
    };
    let (now, before) = (toml::Table::try_from(&free)?, toml::Table::try_from(earlier)?);
    for key in now.keys().chain(before.keys()) {
        let show = |table: &toml::Table| table.get(key).map_or("not given".to_owned(), ToString::to_string);
        if now.get(key) != before.get(key) {
            bail!(
                "{} was trained with {key} = {}, and now it is {}; a resumed run keeps its settings. Leave --{key} out, \
                 or start a new run from its weights: --init {} --out NEW",
                settings.out.display(),
                show(&before),
                show(&now),
                settings.out.display()
            );
        }
    }
    Ok(())
}

fn open_options(
    settings: &TrainSettings,
    init: Option<&ModelConfig>,
    palette: &Arc<Palette>,
    quiet: bool,
) -> Result<OpenOptions> {
    let resolution = match (settings.resolution, init) {
        (Some(resolution), _) => resolution,
        // Sequences of tokens have their own length.
        (None, _) if settings.data.is_tokens() => 32,
        (None, Some(config)) => resolution_of(config)?,
        (None, None) if settings.data == DataSpec::Sample => 16,
        (None, None) => 32,
    };
    Ok(OpenOptions {
        resolution: u32::try_from(resolution).context("--resolution is too large")?,
        filter: settings.filter,
        skip_bad: settings.skip_bad,
        augment: !settings.no_augment,
        holdout: settings.holdout,
        seed: settings.seed,
        progress: !quiet,
        ..OpenOptions::new(Arc::clone(palette))
    })
}

/// The held-out images; none where nothing is held out.
fn open_validation(settings: &TrainSettings, options: &OpenOptions) -> Result<Option<Box<dyn Examples>>> {
    let share = settings.holdout.unwrap_or(settings.data.default_holdout());
    if share == 0.0 || settings.data.is_tokens() {
        return Ok(None);
    }
    Ok(Some(data::open(&settings.data, Split::Validation, options)?))
}

/// The model's shape: the initial checkpoint's, else the preset's with what the flags change.
///
/// The order of a file is that of the `resumed` run, whatever has become of the file.
fn model_config(
    settings: &TrainSettings,
    init: Option<ModelConfig>,
    resumed: Option<&ModelConfig>,
    train: &dyn Examples,
) -> Result<ModelConfig> {
    let length = train.sequence_length();
    let given = init.is_some();
    let mut config = match init {
        // Pre-training has no class head; fine-tuning brings its own.
        Some(config) => ModelConfig { classes: Vec::new(), ..config },
        None => {
            let resolution = settings.resolution.unwrap_or(length.isqrt());
            if settings.resolution.is_none() && resolution * resolution != length {
                bail!("images of {length} tokens are no squares; give the model's --resolution");
            }
            ModelConfig {
                vocabulary: train.vocabulary(),
                sos: settings.objective == Objective::Ar,
                ..ModelConfig::preset(settings.model.unwrap_or_default(), resolution)
            }
        }
    };
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
    if given && settings.objective != config.objective() {
        let (brought, asked) = (config.objective(), settings.objective);
        bail!("--init brings a model trained for {brought}, and --objective is {asked}; give --objective {brought}");
    }
    if given && wanted != config {
        bail!(
            "--init brings a model of {}; the flags ask for {}. Leave the model's flags out",
            shape(&config),
            shape(&wanted)
        );
    }
    config = wanted;
    config.validate()?;
    Ok(config)
}

fn shape(config: &ModelConfig) -> String {
    let ModelConfig { layers, width, heads, norm, activation, bias, classes, .. } = config;
    let order = config.order.name();
    let head = if classes.is_empty() { String::new() } else { format!(", {} classes", classes.len()) };
    format!(
        "{layers} layers × {width}, {heads} heads, norm {norm:?}, activation {activation:?}, bias {bias}, order {order}{head}"
    )
}

type Start<D> = (Parameters<D>, Adam<D>, Progress);

fn adam_config(settings: &TrainSettings) -> AdamConfig {
    AdamConfig { clip: settings.clip, ..AdamConfig::default() }
}

fn fresh<D: Device>(device: &D, parameters: Parameters<D>, settings: &TrainSettings) -> Result<Start<D>> {
    let adam = Adam::new(device, &parameters, adam_config(settings))?;
    Ok((parameters, adam, Progress::default()))
}

fn resume_from<D: Device>(
    device: &D,
    folder: &Path,
    config: &ModelConfig,
    settings: &TrainSettings,
) -> Result<Start<D>> {
    let (saved, parameters) = checkpoint::load_model(device, folder)?;
    if saved != *config {
        bail!("{} holds a model of {}; this run's is {}", folder.display(), shape(&saved), shape(config));
    }
    let LoadedTraining { first_moments, second_moments, progress } = checkpoint::load_training(device, folder, config)?;
    Ok((parameters, Adam::resume(adam_config(settings), first_moments, second_moments, progress.step), progress))
}

fn plan(settings: &TrainSettings, tuning: Option<&(TuningSettings, toml::Table)>) -> Plan {
    Plan {
        steps: settings.steps,
        accumulate: settings.accumulate,
        batch: settings.batch,
        eval_every: settings.eval_every,
        eval_images: settings.eval_images,
        sample_every: settings.sample_every,
        save_every: settings.save_every,
        keep: settings.keep,
        patience: tuning.map(|(tuning, _)| tuning.patience).filter(|patience| *patience > 0),
        seed: settings.seed,
    }
}
