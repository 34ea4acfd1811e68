//! Folders without a language-model head: transformers' classifiers and bare models.

use std::fs;
use std::path::{Path, PathBuf};

use igpt_engine::checkpoint::tensors::{TensorFile, write_tensors};
use igpt_engine::checkpoint::{
    CheckpointError, convert, has_token_head, load_body, load_config, load_model, require_token_head,
};
use igpt_engine::device::prelude::*;
use igpt_engine::device::{Activation, Norm};
use igpt_engine::model::{ModelConfig, parameter_specs};
use serde_json::{Value, json};

use crate::folders::{device, save_weights, tiny};

/// What transformers' `save_pretrained` of a class writes: the export of a small model without the head for pixels, with
/// `classes` as a classifier, else without the prefix of a model inside another.
fn headless(place: &Path, classes: &[&str]) -> PathBuf {
    let [dir, out] = ["saved", "headless"].map(|name| place.join(name));
    let config = ModelConfig {
        classes: classes.iter().map(|name| (*name).to_owned()).collect(),
        ..tiny(Norm::Rms, Activation::QuickGelu, false, true)
    };
    save_weights(&dir, &config);
    convert::export(&dir, &out, true, false).unwrap();
    fs::remove_file(out.join("igpt-engine.sha256")).unwrap();

    let path = out.join("model.safetensors");
    let mut file = TensorFile::open(&path).unwrap();
    let kept: Vec<(String, Vec<usize>)> = file
        .tensors()
        .filter(|(name, _)| *name != "lm_head.weight")
        .map(|(name, shape)| (name.to_owned(), shape.to_vec()))
        .collect();
    let named = |name: &str| if classes.is_empty() { name.trim_start_matches("transformer.") } else { name }.to_owned();
    let headers: Vec<_> = kept.iter().map(|(name, shape)| (named(name), shape.clone())).collect();
    let mut bytes = Vec::new();
    write_tensors(&mut bytes, &path, &headers, |i| file.read(&kept[i].0)).unwrap();
    fs::write(&path, bytes).unwrap();
    out
}

fn architectures(dir: &Path) -> Value {
    let config: Value = serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap();
    config["architectures"].clone()
}

#[test]
fn models_without_a_language_head_are_read_and_stay_so() {
    for (classes, architecture) in
        [(&["cat", "dog", "frog"][..], "ImageGPTForImageClassification"), (&[], "ImageGPTModel")]
    {
        let place = tempfile::tempdir().unwrap();
        let dir = headless(place.path(), classes);
        let [imported, exported] = ["imported", "exported"].map(|name| place.path().join(name));
        convert::import(&dir, &imported, false, false).unwrap();
        let done = convert::export(&imported, &exported, false, false).unwrap();
        assert_eq!(architectures(&exported), json!([architecture]));
        assert_eq!(done.parameters, done.config.parameter_count() - 5 * 6, "the head of 5 colours is not made up");

        let whole = load_model(&device(), &place.path().join("saved")).unwrap();
        for dir in [&dir, &imported, &exported] {
            assert!(!has_token_head(dir).unwrap());
            let (config, parameters) = load_model(&device(), dir).unwrap();
            assert_eq!(config.classes, classes);
            for (spec, (found, meant)) in
                parameter_specs(&config).iter().zip(parameters.values().iter().zip(whole.1.values()))
            {
                let [found, meant] = [found, meant].map(|tensor| device().download(tensor).unwrap());
                match spec.name.as_str() {
                    "lm_head.weight" => assert!(found.iter().all(|value| *value == 0.0)),
                    name => assert_eq!(found, meant, "{name}"),
                }
            }
        }
    }
}

#[test]
fn what_a_missing_head_is_needed_for_is_said() {
    let place = tempfile::tempdir().unwrap();
    let dir = headless(place.path(), &[]);
    let error = require_token_head(&dir, "draw images").unwrap_err();
    assert!(matches!(error, CheckpointError::NoTokenHead { .. }));
    assert!(error.to_string().contains("has no language-model head") && error.to_string().contains("draw images"));

    // Training starts it at zero, as that of a new model.
    let config = ModelConfig { classes: vec!["a".to_owned(), "b".to_owned()], ..load_config(&dir).unwrap() };
    load_body(&device(), &dir, &config).unwrap();
}
