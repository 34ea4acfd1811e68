//! Training from Rust, without the command line: a session, its settings read back, and the same bits after a resume.

mod average;
mod drawing;
mod skipping;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use igpt_engine::checkpoint::MODEL_FILE;
use igpt_engine::data::DataSpec;
use igpt_engine::device::{CpuDevice, Device, Precision};
use igpt_engine::eval::Evaluation;
use igpt_engine::model::{ModelConfig, Preset};
use igpt_engine::plan::{Load, Work, limits};
use igpt_engine::tape::Recompute;
use igpt_engine::train::{
    Events, FineTuning, Outcome, Pace, Saved, Session, Settings, Silent, StepOutcome, StopReason, TrainError,
};
use igpt_engine::{eval, probe, sample};

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

/// Runs a session until this step is done, or to its end; the step that it came to.
fn session<D: Device>(device: &D, settings: &Settings, resume: bool, until: u64) -> Result<u64, TrainError> {
    let stop = AtomicBool::new(false);
    let earlier = resume.then(|| Settings::read(&settings.out).unwrap());
    let session = Session::open(device, settings.clone(), earlier.as_ref(), false)?;
    session.run(&mut StopAfter { step: until, stop: &stop }, &stop).map(|outcome| outcome.step)
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
