//! Checkpoint folders: what is saved comes back bit for bit, and a failed save changes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use igpt_engine::checkpoint::{
    BestAccuracy, CheckpointContents, CheckpointError, Progress, TrainingState, load_model, load_training, palette_of,
    save,
};
use igpt_engine::device::prelude::*;
use igpt_engine::device::{Activation, CpuDevice, Norm};
use igpt_engine::model::{ModelConfig, Preset, parameter_specs};
use igpt_engine::optim::Skipped;
use igpt_engine::tape::Parameters;

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden").join(name)
}

pub fn device() -> CpuDevice {
    CpuDevice::new(Some(1)).unwrap()
}

pub fn tiny(norm: Norm, activation: Activation, bias: bool, sos: bool) -> ModelConfig {
    let base = ModelConfig::preset(Preset::Tiny, 3);
    ModelConfig { layers: 2, width: 6, heads: 3, vocabulary: 5, sos, norm, activation, bias, ..base }
}

pub fn variants() -> Vec<ModelConfig> {
    let mut all = Vec::new();
    for norm in [Norm::Rms, Norm::Layer] {
        for activation in [Activation::QuickGelu, Activation::Gelu] {
            for (bias, sos) in [(false, false), (false, true), (true, false), (true, true)] {
                all.push(tiny(norm, activation, bias, sos));
            }
        }
    }
    all
}

/// Values that tell every element of every tensor apart, awkward floats among them.
pub fn distinct(config: &ModelConfig, salt: f32) -> Parameters<CpuDevice> {
    Parameters::from_fn(&device(), parameter_specs(config), |index, spec| {
        let value = |i: usize| (i as f32 + 1.0) / 3.0 + index as f32 * 1000.0 + salt;
        let mut values: Vec<f32> = (0..spec.elements()).map(value).collect();
        values[0] = [f32::MIN_POSITIVE / 8.0, -0.0, f32::MAX, f32::EPSILON][index % 4];
        Ok::<_, igpt_engine::device::Error>(values)
    })
    .unwrap()
}

pub fn bits(device: &CpuDevice, tensors: &[<CpuDevice as Tensors>::Tensor]) -> Vec<Vec<u32>> {
    tensors.iter().map(|t| device.download(t).unwrap().into_iter().map(f32::to_bits).collect()).collect()
}

pub fn save_weights(dir: &Path, config: &ModelConfig) {
    let (device, parameters) = (device(), distinct(config, 0.5));
    save(
        dir,
        &CheckpointContents {
            device: &device,
            config,
            parameters: &parameters,
            average: None,
            training: None,
            palette: None,
        },
    )
    .unwrap();
}

/// Lets the folder be loaded as it is after an edit, as the message of a refused one says.
pub fn accept_edits(dir: &Path) {
    fs::remove_file(dir.join("igpt-engine.sha256")).unwrap();
    let path = dir.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config.as_object_mut().unwrap().remove("igpt_manifest");
    fs::write(&path, config.to_string()).unwrap();
}

pub fn refusal(dir: &Path) -> CheckpointError {
    load_model(&device(), dir).err().expect("the checkpoint should be refused")
}

#[test]
fn every_variant_comes_back_bit_for_bit() {
    let place = tempfile::tempdir().unwrap();
    let device = device();
    for (number, config) in variants().iter().enumerate() {
        let dir = place.path().join(number.to_string());
        let [parameters, first, second] = [0.5, 1.5, 2.5].map(|salt| distinct(config, salt));
        let palette = [[0.1, -1.0, 1.0], [1.0 / 3.0, f32::MIN_POSITIVE, -0.7]];
        let progress = Progress {
            step: u64::MAX,
            skipped: Skipped { total: 9, in_a_row: number as u64 },
            samples: 7,
            tokens: 63,
            best_validation: Some(0.1 + 0.2),
            elapsed: 1e-300 / 3.0,
            best: Some(BestAccuracy { step: 3, accuracy: 1.0 / 3.0, validations_since: 2 }),
            spikes: Some([0.0, 1.5, 64.0, 2.25, 0.1, f64::from(0.3f32), 0.0]),
        };
        let (first_moments, second_moments) = (first.values(), second.values());
        let training = Some(TrainingState { first_moments, second_moments, progress });
        let contents = CheckpointContents {
            device: &device,
            config,
            parameters: &parameters,
            average: None,
            training,
            palette: Some(&palette),
        };
        save(&dir, &contents).unwrap();
        let bytes = fs::read(dir.join("model.safetensors")).unwrap();
        save(&dir, &contents).unwrap();
        assert_eq!(fs::read(dir.join("model.safetensors")).unwrap(), bytes, "the same content has the same bytes");

        let (loaded_config, loaded) = load_model(&device, &dir).unwrap();
        assert_eq!(&loaded_config, config);
        assert_eq!(bits(&device, loaded.values()), bits(&device, parameters.values()));
        let state = load_training(&device, &dir, config).unwrap();
        assert_eq!(bits(&device, &state.first_moments), bits(&device, first_moments));
        assert_eq!(bits(&device, &state.second_moments), bits(&device, second_moments));
        assert_eq!(state.progress, progress);
        assert_eq!(palette_of(&dir).unwrap().unwrap(), palette);
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), variants().len(), "nothing temporary is left");
}

#[test]
fn weights_alone_and_torn_training_states_are_not_resumed() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("step");
    let config = tiny(Norm::Rms, Activation::QuickGelu, false, true);
    save_weights(&dir, &config);
    let device = device();
    let resume = |config: &ModelConfig| load_training(&device, &dir, config).err().expect("should be refused");
    assert!(matches!(resume(&config), CheckpointError::NoTrainingState { .. }));
    assert_eq!(palette_of(&dir).unwrap(), None);

    let parameters = distinct(&config, 0.5);
    let (first_moments, second_moments) = (parameters.values(), parameters.values());
    let training = Some(TrainingState { first_moments, second_moments, progress: Progress::default() });
    let contents = CheckpointContents {
        device: &device,
        config: &config,
        parameters: &parameters,
        average: None,
        training,
        palette: None,
    };
    save(&dir, &contents).unwrap();
    let wider = ModelConfig { width: 12, ..config.clone() };
    assert!(matches!(resume(&wider), CheckpointError::WrongShape { .. }));
    let deeper = ModelConfig { layers: 3, ..config.clone() };
    assert!(matches!(resume(&deeper), CheckpointError::MissingTensor { .. }));
    let shallower = ModelConfig { layers: 1, ..config.clone() };
    assert!(matches!(resume(&shallower), CheckpointError::UnexpectedTensor { .. }));
    let mut bytes = fs::read(dir.join("optimizer.safetensors")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(dir.join("optimizer.safetensors"), bytes).unwrap();
    assert!(matches!(resume(&config), CheckpointError::Torn { .. }));
    fs::write(dir.join("training.json"), "{\"progress\": {}}").unwrap();
    assert!(resume(&config).to_string().contains("training.json"));
}

#[test]
fn a_failed_save_leaves_the_old_checkpoint() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("step");
    let config = tiny(Norm::Rms, Activation::QuickGelu, false, true);
    save_weights(&dir, &config);
    let before = fs::read(dir.join("model.safetensors")).unwrap();
    let (device, parameters) = (device(), distinct(&config, 3.0));
    // Too few moments: the failure comes after config and weights have been written.
    let training = Some(TrainingState { first_moments: &[], second_moments: &[], progress: Progress::default() });
    let contents = CheckpointContents {
        device: &device,
        config: &config,
        parameters: &parameters,
        average: None,
        training,
        palette: None,
    };
    save(&dir, &contents).unwrap_err();
    assert_eq!(fs::read(dir.join("model.safetensors")).unwrap(), before);
    assert!(!dir.join("optimizer.safetensors").exists());
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "nothing temporary is left");
}
