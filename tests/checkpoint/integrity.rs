//! Damage is noticed: one flipped bit anywhere, a file that is missing, added, or of another checkpoint.

use std::fs;
use std::path::Path;

use igpt_engine::checkpoint::{
    CheckpointContents, CheckpointError, Progress, TrainingState, convert, load_body, load_config, load_model,
    load_training, palette_of, save,
};
use igpt_engine::device::{Activation, Norm};
use igpt_engine::model::{ModelConfig, Order, Permutation};

use crate::folders::{accept_edits, device, distinct, tiny};

const LIST: &str = "igpt-engine.sha256";

/// A checkpoint with everything that one can hold, of a model with an order of its own; or one of weights alone.
fn saved(dir: &Path, step: Option<u64>, order: Order) -> ModelConfig {
    let config = ModelConfig {
        order,
        classes: ["cat", "dog"].map(str::to_owned).to_vec(),
        ..tiny(Norm::Rms, Activation::QuickGelu, false, true)
    };
    let (device, parameters) = (device(), distinct(&config, 0.5));
    let training = step.map(|step| TrainingState {
        first_moments: parameters.values(),
        second_moments: parameters.values(),
        progress: Progress { step, ..Progress::default() },
    });
    let palette = Some(&[[0.5, 0.25, -1.0]; 5][..]);
    save(
        dir,
        &CheckpointContents {
            device: &device,
            config: &config,
            parameters: &parameters,
            average: None,
            training,
            palette,
        },
    )
    .unwrap();
    config
}

fn own_order() -> Order {
    Order::Fixed(Permutation::new([8, 0, 1, 7, 2, 6, 3, 5, 4]).unwrap())
}

/// Every way in which a folder is read; the first error.
fn read(dir: &Path, config: &ModelConfig) -> Result<(), CheckpointError> {
    let device = device();
    load_model(&device, dir)?;
    palette_of(dir)?;
    if dir.join("training.json").exists() {
        load_training(&device, dir, config)?;
    }
    Ok(())
}

/// Bytes to damage: both ends and many in between, the same ones each time.
fn places(length: usize) -> impl Iterator<Item = usize> {
    let step = (length / 61).max(1);
    (0..length).step_by(step).chain([length - 1])
}

/// Flips bits of every file in `dir` and asserts that `read` then fails and names the file.
fn assert_every_flip_is_noticed(dir: &Path, read: impl Fn() -> Result<(), CheckpointError>) -> usize {
    read().unwrap();
    let mut flips = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let whole = fs::read(&path).unwrap();

        for (number, place) in places(whole.len()).enumerate() {
            let mut bytes = whole.clone();
            bytes[place] ^= 1 << (number % 8);
            fs::write(&path, bytes).unwrap();
            let message = read().expect_err(&format!("byte {place} of {name}")).to_string();
            assert!(message.contains(&name), "byte {place} of {name}: {message}");
            flips += 1;
        }
        fs::write(&path, whole).unwrap();
    }
    read().unwrap();
    flips
}

#[test]
fn every_flipped_bit_of_a_checkpoint_is_noticed() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("step-00000007");
    let config = saved(&dir, Some(7), own_order());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 7, "every file that a checkpoint can have");
    assert!(assert_every_flip_is_noticed(&dir, || read(&dir, &config)) > 400);
}

#[test]
fn every_flipped_bit_of_weights_alone_and_of_an_export_is_noticed() {
    let place = tempfile::tempdir().unwrap();
    let [best, exported, out] = ["best", "exported", "out"].map(|name| place.path().join(name));
    let config = saved(&best, None, Order::Raster);
    convert::export(&best, &exported, false, false).unwrap();
    for dir in [&best, &exported] {
        assert_every_flip_is_noticed(dir, || read(dir, &config));
        // Conversions, and what fine-tuning starts from.
        assert_every_flip_is_noticed(dir, || {
            convert::import(dir, &out, false, true)?;
            convert::export(dir, &out, false, true).map(drop)
        });
        assert_every_flip_is_noticed(dir, || {
            let config = ModelConfig { classes: vec!["a".to_owned(); 3], ..load_config(dir)? };
            load_body(&device(), dir, &config)?;
            palette_of(dir).map(drop)
        });
    }
}

#[test]
fn a_folder_of_another_step_or_with_other_files_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let [dir, later, renamed] = ["step-00000007", "step-00000009", "step-00000008"].map(|name| place.path().join(name));
    let config = saved(&dir, Some(7), Order::Raster);
    saved(&later, Some(9), Order::Raster);
    let refused = |dir: &Path, word: &str| {
        let message = read(dir, &config).expect_err(word).to_string();
        assert!(message.contains(LIST) && message.contains(word), "{word}: {message}");
    };

    // Renamed, and moved to where no step is promised.
    fs::rename(&dir, &renamed).unwrap();
    refused(&renamed, "step 7");
    let elsewhere = place.path().join("mine");
    fs::rename(&renamed, &elsewhere).unwrap();
    read(&elsewhere, &config).unwrap();
    fs::rename(&elsewhere, &dir).unwrap();

    // The list of another checkpoint, and none.
    let list = fs::read(dir.join(LIST)).unwrap();
    fs::copy(later.join(LIST), dir.join(LIST)).unwrap();
    refused(&dir, "step 9");
    fs::remove_file(dir.join(LIST)).unwrap();
    refused(&dir, "missing");
    fs::write(dir.join(LIST), list).unwrap();

    // A file more, and one less; what is not ours does not matter.
    fs::write(dir.join("README.md"), "mine").unwrap();
    read(&dir, &config).unwrap();
    fs::write(dir.join("order.npy"), "").unwrap();
    refused(&dir, "order.npy");
    fs::remove_file(dir.join("order.npy")).unwrap();
    fs::remove_file(dir.join("preprocessor_config.json")).unwrap();
    refused(&dir, "preprocessor_config.json");
}

#[test]
fn an_edited_export_is_accepted_once_its_list_is_deleted() {
    let place = tempfile::tempdir().unwrap();
    let [best, exported] = ["best", "exported"].map(|name| place.path().join(name));
    let config = saved(&best, None, Order::Raster);
    convert::export(&best, &exported, false, false).unwrap();
    let path = exported.join("config.json");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("dog", "wolf")).unwrap();
    let message = read(&exported, &config).unwrap_err().to_string();
    assert!(message.contains("config.json") && message.contains("delete igpt-engine.sha256"), "{message}");
    accept_edits(&exported);
    assert_eq!(load_model(&device(), &exported).unwrap().0.classes, ["cat", "wolf"]);
}

#[test]
fn weights_alone_are_not_read_without_their_list_unless_transformers_saved_them() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("best");
    let config = saved(&dir, None, Order::Raster);
    fs::remove_file(dir.join(LIST)).unwrap();
    let message = read(&dir, &config).unwrap_err().to_string();
    assert!(message.contains("it is missing, and config.json says"), "{message}");

    // It keeps keys that it does not know, and no other files.
    let path = dir.join("config.json");
    let mut saved: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    saved["transformers_version"] = "5.2.0".into();
    fs::write(&path, saved.to_string()).unwrap();
    read(&dir, &config).unwrap();
}

/// Checkpoints of versions that wrote no list: their training state has its own hashes.
#[test]
fn older_checkpoints_are_read_as_ever() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("step-00000007");
    let config = saved(&dir, Some(7), Order::Raster);
    accept_edits(&dir);
    let path = dir.join("training.json");
    let mut training: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    training.as_object_mut().unwrap().remove("manifest");
    fs::write(&path, training.to_string()).unwrap();
    read(&dir, &config).unwrap();

    training["progress"]["step"] = 8.into();
    fs::write(&path, training.to_string()).unwrap();
    let message = read(&dir, &config).unwrap_err().to_string();
    assert!(message.contains("training.json") && message.contains("step 8"), "{message}");
}

/// What stands in the place of weights that were not downloaded is named, with the fix.
#[test]
fn weights_that_are_no_weights_are_named() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("model");
    let config = saved(&dir, None, Order::Raster);
    accept_edits(&dir);
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 305\n";
    for (file, bytes, word) in [
        ("model.safetensors", &pointer[..], "git lfs pull"),
        ("model.safetensors", b"<!DOCTYPE html><html><head><title>Sign in</title>", "web page"),
        ("model.safetensors", b"PK\x03\x04\x14\0\x08\x08\x08\0\0\0", "zip"),
        ("model.safetensors", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P", "pickle"),
        ("model.safetensors", b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "gzip"),
        ("preprocessor_config.json", pointer, "git lfs pull"),
        ("config.json", pointer, "git lfs pull"),
        ("config.json", b"<html>", "web page"),
    ] {
        let path = dir.join(file);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        let message = read(&dir, &config).unwrap_err().to_string();
        assert!(message.contains(file) && message.contains(word), "{word}: {message}");
        fs::write(&path, whole).unwrap();
    }
}
