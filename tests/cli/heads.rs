//! Transformers' classifiers and bare models, and weights in several files, through the commands.

use std::fs;
use std::path::{Path, PathBuf};

use igpt_engine::checkpoint::tensors::{TensorFile, write_tensors};
use serde_json::{Value, json};

use crate::{assert_refused, assert_succeeds, engine, train};

/// An export of a run without `lm_head.weight`, with a class head if `classes` says so.
fn headless(place: &Path, classes: bool) -> PathBuf {
    let [run, out] = ["run", "hf"].map(|name| place.join(name));
    assert_succeeds(&mut train(&run, &["--steps", "1", "--sample-every", "0"]));
    assert_succeeds(engine().arg("export").arg("--checkpoint").arg(&run).arg("--out").arg(&out));
    fs::remove_file(out.join("igpt-engine.sha256")).unwrap();

    let path = out.join("model.safetensors");
    let mut file = TensorFile::open(&path).unwrap();
    let mut headers: Vec<_> = file.tensors().map(|(name, shape)| (name.to_owned(), shape.to_vec())).collect();
    headers.retain(|(name, _)| name != "lm_head.weight");
    if classes {
        headers.push(("score.weight".to_owned(), vec![10, 16]));
        let names = "airplane automobile bird cat deer dog frog horse ship truck".split(' ').enumerate();
        let mut config: Value = serde_json::from_slice(&fs::read(out.join("config.json")).unwrap()).unwrap();
        config["architectures"] = json!(["ImageGPTForImageClassification"]);
        config["id2label"] = names.map(|(class, name)| (class.to_string(), json!(name))).collect();
        fs::write(out.join("config.json"), config.to_string()).unwrap();
    }
    let mut bytes = Vec::new();
    let head: Vec<f32> = (0..160).map(|i| (i % 7) as f32 - 3.0).collect();
    write_tensors(&mut bytes, &path, &headers, |i| match headers[i].0.as_str() {
        "score.weight" => Ok(head.clone()),
        name => file.read(name),
    })
    .unwrap();
    fs::write(&path, bytes).unwrap();
    out
}

#[test]
fn a_classifier_is_scored_by_its_classes_and_fine_tuned() {
    let place = tempfile::tempdir().unwrap();
    let dir = headless(place.path(), true);
    let eval = |flags: &[&str]| {
        let mut command = engine();
        command.args(["eval", "--images", "8", "--checkpoint"]).arg(&dir).args(flags);
        command
    };
    let text = assert_succeeds(&mut eval(&[]));
    assert!(text.contains("% accuracy") && text.contains("no language-model head"), "{text}");
    let found: Value = serde_json::from_str(&assert_succeeds(&mut eval(&["--json"]))).unwrap();
    assert!(found["accuracy"].is_number() && found.get("nats_per_token").is_none(), "{found}");
    assert!(assert_refused(&mut eval(&["--per-token", "x.npy"])).contains("no language-model head"));

    let out = place.path().join("tuned");
    let mut tune = engine();
    tune.args(["finetune", "--data", "sample", "--steps", "1", "--batch", "4", "--eval-images", "8"]);
    assert_succeeds(tune.arg("--checkpoint").arg(&dir).arg("--out").arg(&out));
    let mut sample = engine();
    sample.args(["sample", "--unconditional", "--count", "1", "--checkpoint"]).arg(&dir);
    assert!(assert_refused(&mut sample).contains("no language-model head"));
}

#[test]
fn a_bare_model_is_not_scored_on_pixels() {
    let place = tempfile::tempdir().unwrap();
    let dir = headless(place.path(), false);
    let mut eval = engine();
    eval.args(["eval", "--images", "4", "--checkpoint"]).arg(&dir);
    assert!(assert_refused(&mut eval).contains("no language-model head"));
    let out = place.path().join("started");
    let mut init = engine();
    init.args(["train", "--steps", "1", "--batch", "2", "--sample-every", "0", "--eval-images", "2", "--init"]);
    assert_succeeds(init.arg(&dir).arg("--out").arg(&out));
}

#[test]
fn exports_in_several_files_score_the_same() {
    let place = tempfile::tempdir().unwrap();
    let [run, out] = ["run", "hf"].map(|name| place.path().join(name));
    assert_succeeds(&mut train(&run, &["--steps", "1", "--sample-every", "0"]));
    let mut export = engine();
    export.args(["export", "--max-shard-size", "20KB", "--checkpoint"]).arg(&run).arg("--out").arg(&out);
    assert!(assert_succeeds(&mut export).contains("model-00002-of-"));
    let eval = |dir: &Path| {
        let mut command = engine();
        command.args(["eval", "--images", "4", "--checkpoint"]).arg(dir);
        assert_succeeds(&mut command)
    };
    assert_eq!(eval(&out), eval(&run));
    assert!(
        assert_refused(engine().args(["export", "--max-shard-size", "0GB", "--checkpoint", "x", "--out", "y"]))
            .contains("500MB")
    );
}
