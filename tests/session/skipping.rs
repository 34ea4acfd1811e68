//! Steps that are not finite, and spikes: skipped, counted, and the same after a resume.

use std::path::Path;

use igpt_engine::checkpoint::{self, CheckpointContents, MODEL_FILE, OPTIMIZER_FILE};
use igpt_engine::data::{DataSpec, npy};
use igpt_engine::device::prelude::*;
use igpt_engine::device::{CpuDevice, Norm, Precision};
use igpt_engine::model::{ModelConfig, Objective, Preset, parameter_specs};
use igpt_engine::run::metrics_reader::MetricsReader;
use igpt_engine::run::{checkpoints, metrics};
use igpt_engine::tape::Parameters;
use igpt_engine::train::{Settings, TrainError};
use test_support::devices;

use super::session;

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
