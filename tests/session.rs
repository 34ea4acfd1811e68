//! Training from Rust, without the command line: a session, its settings read back, and the same bits after a resume.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use igpt_engine::checkpoint::MODEL_FILE;
use igpt_engine::data::DataSpec;
use igpt_engine::device::CpuDevice;
use igpt_engine::eval::Evaluation;
use igpt_engine::train::{Events, FineTuning, Outcome, Pace, Session, Settings, Silent, StepOutcome, StopReason};
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
    fn saved(&mut self, _step: u64, _checkpoint: &Path) {}
    fn sampled(&mut self, _step: u64, _picture: &Path) {}
    fn note(&mut self, _text: &str) {}
}
