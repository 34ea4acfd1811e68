//! Training from Rust, without the command line: a session, its settings read back, and the same bits after a resume.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use igpt_engine::checkpoint::{self, CheckpointContents, EMA_FILE, MODEL_FILE, OPTIMIZER_FILE};
use igpt_engine::data::{DataSpec, npy};
use igpt_engine::device::prelude::*;
use igpt_engine::device::{CpuDevice, Norm, Precision};
use igpt_engine::eval::Evaluation;
use igpt_engine::model::{ModelConfig, Objective, Preset, Transformer, parameter_specs};
use igpt_engine::plan::{Load, Work, limits};
use igpt_engine::run::metrics_reader::MetricsReader;
use igpt_engine::run::{checkpoints, metrics};
use igpt_engine::sample::Decoder;
use igpt_engine::tape::{Parameters, Recompute};
use igpt_engine::train::{
    Events, FineTuning, Outcome, Pace, Saved, Session, Settings, Silent, StepOutcome, StopReason, TrainError,
};
use igpt_engine::{eval, probe, sample};
use test_support::devices;

/// A model and a run small enough for a test.
fn small(settings: Settings) -> Settings {
    Settings { steps: 4, warmup: 1, batch: 2, eval_images: 2, save_every: 2, ..settings }
}

fn pretraining(out: &Path) -> Settings {
    let settings = Settings::pretraining(DataSpec::Sample, out).unwrap();
    let settings = Settings { layers: Some(1), width: Some(16), heads: Some(2), resolution: Some(8), ..settings };
    small(settings)
}

fn run(settings: Settings, earlier: Option<&Settings>) -> Outcome {
    let device = CpuDevice::new(Some(1)).unwrap();
    let session = Session::open(&device, settings, earlier, false).unwrap();
    session.run(&mut Silent, &AtomicBool::new(false)).unwrap()
}

fn weights(outcome: &Outcome) -> Vec<u8> {
    std::fs::read(outcome.folder.checkpoint(outcome.step).join(MODEL_FILE)).unwrap()
}

#[test]
fn a_resumed_session_ends_with_the_same_weights() {
    let place = tempfile::tempdir().unwrap();
    let (whole, parts) = (place.path().join("whole"), place.path().join("parts"));
    let uninterrupted = run(pretraining(&whole), None);
    assert_eq!((uninterrupted.step, uninterrupted.stop_reason), (4, StopReason::Finished));

    // Half of the steps, under the schedule of all of them.
    let device = CpuDevice::new(Some(1)).unwrap();
    let session = Session::open(&device, pretraining(&parts), None, false).unwrap();
    let stop = AtomicBool::new(false);
    let half = session.run(&mut StopAfter { step: 2, stop: &stop }, &stop).unwrap();
    assert_eq!((half.step, half.stop_reason), (2, StopReason::Interrupted));
    drop(half);

    let earlier = Settings::read(&parts).unwrap();
    let resumed = run(earlier.clone(), Some(&earlier));
    assert_eq!(resumed.step, 4);
    assert!(weights(&resumed) == weights(&uninterrupted), "the weights differ");
}

/// On this machine too a run takes what `--fit` and `plan` count on, to 3 %.
#[test]
fn a_run_on_the_cpu_takes_what_is_planned() {
    let place = tempfile::tempdir().unwrap();
    for (index, (recompute, batch, shape)) in [
        (Recompute::None, 24, [2, 192, 8]),
        (Recompute::Norms, 24, [2, 192, 8]),
        (Recompute::NormsMlp, 12, [3, 192, 12]),
        (Recompute::Block, 16, [4, 128, 16]),
    ]
    .into_iter()
    .enumerate()
    {
        let [layers, width, side] = shape;
        let settings = Settings {
            layers: Some(layers),
            width: Some(width),
            heads: Some(2),
            resolution: Some(side),
            batch,
            steps: 1,
            warmup: 0,
            recompute,
            sample_every: 0,
            ..pretraining(&place.path().join(index.to_string()))
        };
        let device = CpuDevice::new(Some(1)).unwrap();
        let session = Session::open(&device, settings, None, false).unwrap();
        session.run(&mut Silent, &AtomicBool::new(false)).unwrap();

        let config = ModelConfig { layers, width, heads: 2, ..ModelConfig::preset(Preset::Tiny, side) };
        let load = Load::new(&config, Work::Training, batch, config.positions, Precision::F32);
        let planned = limits::memory_on(&device, Load { recompute, ..load }).total();
        let taken = device.memory_use().peak as f64;
        println!(
            "{recompute}: {planned} bytes are planned, {taken} were taken: {:+.2} %",
            100.0 * (planned / taken - 1.0)
        );
        assert!((planned / taken - 1.0).abs() <= 0.03, "{recompute}: {planned} planned, {taken} taken");
    }
}

/// A fitted run goes on with what was chosen for it, and one that is not fitted any more too.
#[test]
fn a_fitted_run_keeps_its_step_and_what_was_chosen() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("run");
    let fitted = Settings { fit: true, batch: 3, accumulate: 2, ..pretraining(&out) };
    assert_eq!(run(Settings { steps: 2, ..fitted }, None).step, 2);
    // There is memory for all of a step.
    let kept = Settings::read(&out).unwrap();
    assert_eq!((kept.batch, kept.accumulate, kept.recompute), (6, 1, Recompute::None));

    let longer = Settings { steps: 3, ..kept.clone() };
    assert_eq!(run(longer.clone(), Some(&kept)).step, 3);
    // What is computed again may change, the micro-batch may not.
    let again = Settings { steps: 4, recompute: Recompute::Block, fit: true, ..longer };
    assert_eq!(run(again, Some(&kept)).step, 4);
    let last = Settings::read(&out).unwrap();
    assert_eq!((last.batch, last.accumulate, last.recompute), (6, 1, Recompute::None));
}

/// The average follows the weights of each step by its formula, is saved and resumed with the same bits, and scores as the
/// model that it is.
fn average_follows_the_weights<D: Device>(device: &D) {
    let place = tempfile::tempdir().unwrap();
    let settings = |name: &str| Settings {
        width: Some(64),
        resolution: Some(4),
        ema: Some(0.75),
        save_every: 1,
        keep: 9,
        eval_every: 0,
        sample_every: 0,
        ..pretraining(&place.path().join(name))
    };
    let (whole, parts) = (settings("whole"), settings("parts"));
    session(device, &whole, false, 99).unwrap();
    session(device, &parts, false, 2).unwrap();
    session(device, &parts, true, 99).unwrap();

    let folder = |run: &Settings, step| checkpoints::checkpoint_path(&run.out, step);
    let ema = |run: &Settings| std::fs::read(folder(run, 4).join(EMA_FILE)).unwrap();
    assert!(ema(&whole) == ema(&parts), "the bits differ");

    let read = |parameters: &Parameters<D>| -> Vec<f32> {
        parameters.values().iter().flat_map(|tensor| device.download(tensor).unwrap()).collect()
    };
    let of_step = |step| {
        let folder = folder(&whole, step);
        let [weights, average] =
            [checkpoint::load_model(device, &folder), checkpoint::load_averaged_model(device, &folder)];
        [read(&weights.unwrap().1), read(&average.unwrap().1)]
    };
    let [_, mut before] = of_step(1);
    for step in 2..=4 {
        let [weights, average] = of_step(step);
        for ((average, weight), before) in average.iter().zip(&weights).zip(&before) {
            let expected = 0.75 * f64::from(*before) + 0.25 * f64::from(*weight);
            assert!((f64::from(*average) - expected).abs() < 1e-6, "step {step}: {average}, not {expected}");
        }
        assert!(average != before && average != weights);
        before = average;
    }

    let scored = |ema| {
        let settings =
            eval::Settings { ema, limit: Some(3), ..eval::Settings::new(&folder(&whole, 4), DataSpec::Sample) };
        eval::Session::open(device, settings).unwrap().run(|_| ()).unwrap().evaluation.nats_per_token
    };
    assert_ne!(scored(true), scored(false));
}

#[test]
fn an_average_of_the_weights_is_kept() {
    average_follows_the_weights(&CpuDevice::new(Some(1)).unwrap());
}

#[test]
fn a_gpu_keeps_an_average_as_the_cpu_does() {
    let Some(device) = devices::cuda(Precision::Bf16) else { return };
    average_follows_the_weights(&device);
}

#[test]
fn a_run_of_many_steps_and_grids_leaves_a_small_report() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("run");
    let settings = Settings { sample_every: 0, ..pretraining(&out) };
    drop(run(settings, None));

    // As if it had made many more; each grid is of the size of a real one.
    let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    std::fs::write(out.join("metrics.jsonl"), metrics.repeat(40_000)).unwrap();
    let (grid, samples) = (place.path().join("grid.png"), out.join("samples"));
    std::fs::write(&grid, vec![0x5A; 20_000]).unwrap();
    (1..=10_000).for_each(|step| std::fs::hard_link(&grid, samples.join(format!("step-{step:08}.png"))).unwrap());

    let earlier = Settings::read(&out).unwrap();
    let resumed = run(earlier.clone(), Some(&earlier));
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.len() < 1 << 20, "{} bytes", page.len());
    assert!(page.contains("32 of 10,000 grids") && page.contains("step 1\"") && page.contains("step 10,000\""));
    let shown: Vec<u64> = resumed.report.samples.iter().map(|grid| grid.step).collect();
    assert!(shown.len() == 32 && shown.is_sorted());
    assert_eq!(std::fs::read_to_string(out.join("metrics.jsonl")).unwrap(), metrics.repeat(40_000));
}

#[test]
fn fine_tuning_settings_come_back_from_their_file() {
    let place = tempfile::tempdir().unwrap();
    let (base, tuned) = (place.path().join("base"), place.path().join("tuned"));
    drop(run(pretraining(&base), None));

    let settings = small(Settings::fine_tuning(&base, DataSpec::Sample, &tuned).unwrap());
    let outcome = run(settings, None);
    assert!(outcome.best.is_some(), "no accuracy was measured");
    let read = Settings::read(&tuned).unwrap();
    assert_eq!(read.fine_tuning, Some(FineTuning::default()));
    assert_eq!((read.steps, read.init.as_deref()), (4, Some(base.as_path())));
}

#[test]
fn settings_that_cannot_be_are_refused_before_anything_is_written() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("run");
    let device = CpuDevice::new(Some(1)).unwrap();
    for (bad, flag) in [
        (Settings { batch: 0, ..pretraining(&out) }, "--batch"),
        (Settings { accumulate: 0, ..pretraining(&out) }, "--accumulate"),
        (Settings { lr: f64::NAN, ..pretraining(&out) }, "--lr"),
        (Settings { keep: 0, ..pretraining(&out) }, "--keep"),
        (Settings { mask_rate: Some(0.5), ..pretraining(&out) }, "--mask-rate"),
    ] {
        let error = Session::open(&device, bad, None, false).err().expect(flag).to_string();
        assert!(error.contains(flag), "{error}");
    }
    assert!(!out.exists());
}

#[test]
fn a_trained_model_is_probed_scored_and_completes_images() {
    let place = tempfile::tempdir().unwrap();
    let trained = run(pretraining(&place.path().join("run")), None);
    let checkpoint = trained.folder.checkpoint(trained.step);
    let device = CpuDevice::new(Some(1)).unwrap();

    // Depths 0 and 1 of a model of one layer.
    let settings = probe::Settings {
        images: Some(100),
        solver: probe::Solver::lbfgs(vec![0.1]),
        out: Some(place.path().join("probe")),
        ..probe::Settings::new(DataSpec::Sample, Some(&checkpoint))
    };
    let probed = probe::Session::open(&device, settings).unwrap().run(&mut probe::Silent).unwrap();
    let depths: Vec<_> = probed.fitted.iter().map(|fitted| fitted.depths.clone()).collect();
    assert_eq!((depths, probed.finished), (vec![vec![0], vec![1]], true));
    assert!(probed.report_path().is_file() && probed.json_path().is_file());

    let settings = eval::Settings { limit: Some(3), ..eval::Settings::new(&checkpoint, DataSpec::Sample) };
    let scored = eval::Session::open(&device, settings).unwrap().run(|_| ()).unwrap();
    assert_eq!((scored.evaluation.images, scored.evaluation.tokens), (3, 3 * 64));
    assert!(scored.evaluation.nats_per_token.is_finite());

    let source = sample::Source::DataSet;
    let settings = sample::Settings { count: 2, completions: 2, ..sample::Settings::new(&checkpoint, source) };
    let completed = sample::Session::open(&device, settings).unwrap().run(|_| ()).unwrap();
    assert_eq!(completed.tokens.len(), 2 * 2 * 64);
}

/// Nats per token that a checkpoint's model gives `images`, a pixel at a time, with keys and values cached in `cache`.
fn nats_as_drawn(checkpoint: &Path, cache: Precision, images: &[u16]) -> f64 {
    let device = CpuDevice::new(Some(1)).unwrap().with_cache(cache);
    let (config, parameters) = checkpoint::load_model(&device, checkpoint).unwrap();
    let model = Transformer::new(config.clone()).unwrap();
    let (length, colours) = (config.positions, config.vocabulary);
    let count = images.len() / length;
    let mut decoder = Decoder::new(&device, &model, &parameters, count, length).unwrap();
    let mut tokens = vec![model.sos(); count];
    let mut nats = 0.0;
    for position in 0..length {
        let logits = device.download(&decoder.step(&tokens).unwrap()).unwrap();
        tokens = images.iter().skip(position).step_by(length).copied().collect();
        for (logits, token) in logits.chunks_exact(colours).zip(&tokens) {
            let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
            nats += sum.ln() - f64::from(logits[usize::from(*token)]);
        }
    }
    nats / images.len() as f64
}

/// What a model has learnt is worth as much with keys and values rounded to bf16.
#[test]
fn caches_in_bf16_cost_no_quality() {
    let place = tempfile::tempdir().unwrap();
    let settings = pretraining(&place.path().join("run"));
    let settings = Settings { layers: Some(3), width: Some(64), heads: Some(4), batch: 8, ..settings };
    let trained = run(Settings { steps: 200, warmup: 20, lr: 3e-3, save_every: 200, ..settings }, None);
    let checkpoint = trained.folder.checkpoint(trained.step);
    let device = CpuDevice::new(Some(1)).unwrap();
    let of_data = sample::Source::DataSet;
    let drawn = sample::Settings { count: 12, completions: 4, ..sample::Settings::new(&checkpoint, of_data) };
    let images = sample::Session::open(&device, drawn).unwrap().run(|_| ()).unwrap().tokens;

    let [exact, rounded] = [Precision::F32, Precision::Bf16].map(|cache| nats_as_drawn(&checkpoint, cache, &images));
    println!("{exact:.6} nats per token, {rounded:.6} with keys and values in bf16");
    assert!(exact < 0.9 * 512_f64.ln(), "a model that has learnt nothing shows nothing: {exact}");
    assert!((exact - rounded).abs() < 1e-3, "{exact} and {rounded}");
}

/// Asks the run to stop once a step is done.
struct StopAfter<'a> {
    step: u64,
    stop: &'a AtomicBool,
}

impl Events for StopAfter<'_> {
    fn started(&mut self, _step: u64, _steps: u64) {}
    fn stepped(&mut self, outcome: &StepOutcome, _pace: &Pace) {
        if outcome.step == self.step {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
    fn evaluated(&mut self, _step: u64, _evaluation: &Evaluation) {}
    fn saved(&mut self, _saved: &Saved<'_>) {}
    fn sampled(&mut self, _step: u64, _picture: &Path) {}
    fn note(&mut self, _text: &str) {}
}

/// Pixels of an image of the skipping runs, and a token whose embedding, finite as it is, makes their layer norms overflow.
const PIXELS: usize = 16;
const OVERFLOWING: u16 = 511;

/// A checkpoint of such a model, and images in file order of which the third and fourth are of [`OVERFLOWING`] alone; settings
/// to train on them, an image per step and a checkpoint after each.
fn skipping(place: &Path, name: &str, objective: Objective, fine_tuned: bool) -> Settings {
    let device = CpuDevice::new(Some(1)).unwrap();
    let config = ModelConfig {
        layers: 1,
        width: 64,
        heads: 2,
        norm: Norm::Layer,
        sos: objective == Objective::Ar,
        ..ModelConfig::preset(Preset::Tiny, 4)
    };
    let parameters = Parameters::from_fn(&device, parameter_specs(&config), |index, spec| {
        let mut values = spec.initial_values(3, index);
        if spec.name == "transformer.wte.weight" {
            values[usize::from(OVERFLOWING) * config.width..][..config.width].fill(3e38);
        }
        Ok::<_, igpt_engine::device::Error>(values)
    });
    let (init, parameters) = (place.join(format!("{name}-init")), parameters.unwrap());
    let contents = CheckpointContents {
        device: &device,
        config: &config,
        parameters: &parameters,
        average: None,
        training: None,
        palette: None,
    };
    checkpoint::save(&init, &contents).unwrap();

    // Seven images, of two classes.
    let of_image = |image: usize| (0..PIXELS).map(move |pixel| (image, pixel));
    let tokens: Vec<u16> = (0..7)
        .flat_map(of_image)
        .map(
            |(image, pixel)| {
                if [2, 3].contains(&image) { OVERFLOWING } else { ((image * 31 + pixel * 7) % 500) as u16 }
            },
        )
        .collect();
    let (tokens_file, labels_file) = (place.join(format!("{name}.npy")), place.join(format!("{name}-labels.npy")));
    npy::write_u16(&tokens_file, &[7, PIXELS], &tokens).unwrap();
    npy::write_u16(&labels_file, &[7], &[0, 1, 0, 1, 0, 1, 0]).unwrap();
    let data = DataSpec::Tokens { tokens: tokens_file, labels: Some(labels_file) };

    let out = place.join(name);
    let settings = match fine_tuned {
        true => Settings::fine_tuning(&init, data, &out).unwrap(),
        false => Settings { objective, init: Some(init), ..Settings::pretraining(data, &out).unwrap() },
    };
    let mask_rate = (objective == Objective::Bert).then_some(0.5);
    Settings {
        steps: 7,
        warmup: 0,
        batch: 1,
        no_shuffle: true,
        eval_every: 0,
        sample_every: 0,
        save_every: 1,
        keep: 9,
        mask_rate,
        precision: Some(Precision::Bf16),
        ..settings
    }
}

fn session<D: Device>(device: &D, settings: &Settings, resume: bool, until: u64) -> Result<u64, TrainError> {
    let stop = AtomicBool::new(false);
    let earlier = resume.then(|| Settings::read(&settings.out).unwrap());
    let session = Session::open(device, settings.clone(), earlier.as_ref(), false)?;
    session.run(&mut StopAfter { step: until, stop: &stop }, &stop).map(|outcome| outcome.step)
}

/// Weights and moments of a run after `step`.
fn state(settings: &Settings, step: u64) -> [Vec<u8>; 2] {
    let folder = checkpoints::checkpoint_path(&settings.out, step);
    [MODEL_FILE, OPTIMIZER_FILE].map(|file| std::fs::read(folder.join(file)).unwrap())
}

/// Of each step of a run, how many in a row had been skipped, and whether its loss was finite.
fn skipped(settings: &Settings) -> Vec<(u64, bool)> {
    let records = MetricsReader::open(&settings.out.join("metrics.jsonl")).unwrap();
    let train = records.filter_map(|record| match record.unwrap() {
        metrics::Record::Train(record) => Some((record.skipped, record.loss.is_finite())),
        metrics::Record::Validation(_) => None,
    });
    train.collect()
}

const PATTERN: [(u64, bool); 7] = [(0, true), (0, true), (1, false), (2, false), (0, true), (0, true), (0, true)];

/// Skipped steps leave all that is saved as it was, are logged, and a run that was stopped between two of them ends with the
/// bits of one that was not.
fn skips_and_resumes<D: Device>(device: &D) {
    let kinds = [("ar", Objective::Ar, false), ("bert", Objective::Bert, false), ("tuned", Objective::Ar, true)];
    for (name, objective, fine_tuned) in kinds {
        let place = tempfile::tempdir().unwrap();
        let whole = skipping(place.path(), name, objective, fine_tuned);
        assert_eq!(session(device, &whole, false, 99).unwrap(), 7);
        assert_eq!(skipped(&whole), PATTERN, "{name}");
        assert!(state(&whole, 2) == state(&whole, 4) && state(&whole, 4) != state(&whole, 5), "{name}");

        let parts = Settings { out: place.path().join("parts"), ..whole.clone() };
        assert_eq!(session(device, &parts, false, 3).unwrap(), 3, "between the two skipped steps");
        assert_eq!(session(device, &parts, true, 99).unwrap(), 7);
        assert!(state(&parts, 7) == state(&whole, 7), "{name}: the bits differ");
        assert_eq!(skipped(&parts), PATTERN);
        let report = std::fs::read_to_string(parts.out.join("report.html")).unwrap();
        assert!(report.contains("Skipped steps") && report.contains("2: loss or gradient"), "{name}");
    }
}

/// Too many in a row end the run, whose last good state is saved; it goes on from there as if it had been allowed more.
fn ends_after_too_many<D: Device>(device: &D) {
    let place = tempfile::tempdir().unwrap();
    let whole = skipping(place.path(), "whole", Objective::Ar, false);
    session(device, &whole, false, 99).unwrap();
    for save_every in [1, 0] {
        let out = place.path().join(format!("short-{save_every}"));
        let short = Settings { out, max_skipped: 2, save_every, ..whole.clone() };
        let error = session(device, &short, false, 99).unwrap_err();
        let TrainError::Kept { reason, step: saved, .. } = &error else { panic!("{error}") };
        assert!(matches!(**reason, TrainError::Skipped { step: 4, in_a_row: 2, made: 2, .. }), "{reason:?}");
        let text = error.to_string();
        for word in ["loss is NaN at step 4", "2 in a row", "after step 2", "--lr", "are saved", "--resume"] {
            assert!(text.contains(word), "no {word}: {text}");
        }

        // A device that is a step ahead has made that one too.
        let ahead = u64::from(D::ASYNCHRONOUS && save_every == 0);
        assert_eq!(*saved, 4 + ahead);
        assert!(state(&short, *saved) == state(&whole, *saved), "the bits differ");
        assert_eq!(session(device, &short, true, 99).unwrap(), 7);
        assert!(state(&short, 7) == state(&whole, 7), "the bits differ after the resume");
    }

    // At the first one.
    let first = Settings { out: place.path().join("first"), max_skipped: 1, ..whole };
    let error = session(device, &first, false, 99).unwrap_err().to_string();
    assert!(
        error.contains("at step 3, so it was skipped: 1 in a row") && error.contains("3 steps that were made"),
        "{error}"
    );
}

#[test]
fn steps_that_are_not_finite_are_skipped_and_end_a_run_only_in_a_row() {
    let cpu = CpuDevice::new(Some(1)).unwrap();
    skips_and_resumes(&cpu);
    ends_after_too_many(&cpu);
}

#[test]
fn a_gpu_skips_steps_as_the_cpu_does() {
    let Some(device) = devices::cuda(Precision::Bf16) else { return };
    skips_and_resumes(&device);
    ends_after_too_many(&device);
}

/// With a limit of less than a deviation many steps are spikes: they leave weights and moments as they were, and a run that was stopped
/// in between goes on with what it knew of the steps before.
#[test]
fn spikes_are_skipped_and_a_resumed_run_skips_the_same() {
    let device = CpuDevice::new(Some(1)).unwrap();
    let place = tempfile::tempdir().unwrap();
    let seven = skipping(place.path(), "spikes", Objective::Ar, false);
    let whole = Settings {
        out: place.path().join("whole"),
        data: igpt_engine::data::DataSpec::Sample,
        init: None,
        layers: Some(1),
        width: Some(16),
        heads: Some(2),
        resolution: Some(4),
        steps: 84,
        skip_spikes: Some(0.3),
        max_skipped: 60,
        save_every: 1,
        keep: 99,
        ..seven
    };
    assert_eq!(session(&device, &whole, false, 999).unwrap(), 84);
    let seen = skipped(&whole);
    let spikes: Vec<usize> = (0..84).filter(|step| seen[*step].0 > 0).collect();
    assert!(spikes.len() > 2 && spikes[0] >= 64 && seen.iter().all(|(_, finite)| *finite), "{seen:?}");
    for step in spikes {
        assert!(state(&whole, step as u64) == state(&whole, step as u64 + 1), "step {}", step + 1);
    }

    let parts = Settings { out: place.path().join("parts"), ..whole.clone() };
    session(&device, &parts, false, 70).unwrap();
    assert_eq!(session(&device, &parts, true, 999).unwrap(), 84);
    assert_eq!(skipped(&parts), seen);
    assert!(state(&parts, 84) == state(&whole, 84), "the bits differ");
}
