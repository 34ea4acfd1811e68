//! `probe`: on ready features, on a model, on pixels; and everything it refuses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use igpt_engine::data::npy;
use safetensors::SafeTensors;
use serde_json::Value;
use test_support::golden_files;

use crate::{assert_refused, assert_succeeds, engine, json_lines, train};

fn probe(flags: &[&str]) -> Command {
    let mut command = engine();
    command.arg("probe").args(flags);
    command
}

/// Golden features as arrays: `--features`' and `--test-features`' values, and what the optima are.
fn golden(folder: &Path) -> ([String; 2], Value) {
    let set = golden_files::golden_set("probe_digits");
    let bytes = golden_files::read_part(&set, "probe");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let pair = ["train", "test"].map(|part| {
        let x = file.tensor(&format!("x_{part}")).unwrap();
        let floats: Vec<f32> = x.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let y = file.tensor(&format!("y_{part}")).unwrap();
        let labels: Vec<i64> = y.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect();
        let [x_path, y_path] = ["x", "y"].map(|name| folder.join(format!("{name}_{part}.npy")));
        npy::write_f32(&x_path, x.shape(), &floats).unwrap();
        npy::write_i64(&y_path, y.shape(), &labels).unwrap();
        format!("{},{}", x_path.display(), y_path.display())
    });
    (pair, serde_json::from_slice(&fs::read(set.join("meta.json")).unwrap()).unwrap())
}

#[test]
fn ready_features_reach_scikit_learns_optimum() {
    let folder = tempfile::tempdir().unwrap();
    let ([train, test], meta) = golden(folder.path());
    let arrays = ["--features", &train, "--test-features", &test, "--json"];
    for row in meta["rows"].as_array().unwrap() {
        let c = row["C"].to_string();
        let text = assert_succeeds(probe(&arrays).args(["--solver", "lbfgs", "--c", &c]));
        let result = json_lines(&text).remove(0);
        let objective = result["objective"].as_f64().unwrap();
        assert!((objective / row["objective"].as_f64().unwrap() - 1.0).abs() < 1e-6, "{c}: {result}");
        assert_eq!(result["test_accuracy"], row["acc_test"], "{c}");
        assert_eq!(result["converged"], true, "{c}");
        assert!(
            result["gradient_norm"].as_f64().unwrap() < 1e-4 * objective && result["iterations"].as_u64() > Some(0)
        );
    }
    // What has not converged is not said to have.
    let result = json_lines(&assert_succeeds(probe(&arrays).args(["--c", "100", "--iterations", "3"]))).remove(0);
    assert_eq!((&result["converged"], &result["iterations"]), (&Value::from(false), &Value::from(3)));
    // Several values of C are tried on held-out rows.
    let result = json_lines(&assert_succeeds(probe(&arrays).args(["--c", "0.00001,1"]))).remove(0);
    assert_eq!(result["c"], 1.0);
    assert_eq!(result["tried"].as_array().unwrap().len(), 2);
    let sgd = ["--solver", "sgd", "--lr", "0.5", "--iterations", "300", "--c", "1"];
    let result = json_lines(&assert_succeeds(probe(&arrays).args(sgd))).remove(0);
    assert!(result["test_accuracy"].as_f64().unwrap() > 0.8 && result["converged"] == false, "{result}");
    assert!(assert_succeeds(probe(&arrays[..4]).args(["--c", "1"])).contains("94.20 %"));
}

/// A run on the built-in sample whose model takes milliseconds.
fn trained(folder: &Path) -> PathBuf {
    let run = folder.join("run");
    assert_succeeds(&mut train(&run, &["--steps", "2", "--sample-every", "0"]));
    run
}

#[test]
fn every_depth_of_a_model_beside_fresh_weights_and_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let run = trained(folder.path());
    let path = run.to_str().unwrap();
    let flags = ["--checkpoint", path, "--images", "200", "--c", "0.01,1", "--untrained", "--raw-pixels"];
    let text = assert_succeeds(probe(&flags).args(["--json", "--labels-per-class", "4,8", "--seeds", "2"]));
    let result = json_lines(&text).remove(0);
    let rows = result["rows"].as_array().unwrap();
    let depths: Vec<String> =
        rows.iter().map(|row| format!("{} {}", row["source"].as_str().unwrap(), row["depths"])).collect();
    let expected = ["trained [0]", "trained [1]", "trained [2]", "untrained [0]", "untrained [1]", "untrained [2]"];
    assert_eq!(depths[..6], expected);
    assert_eq!(depths[6..], ["raw_pixels []"]);
    for row in rows {
        assert!(row["test_accuracy"].as_f64().unwrap() > 0.0 && row["validation_accuracy"].is_number(), "{row}");
        assert_eq!(row["features"], if row["source"] == "raw_pixels" { 3 * 64 } else { 16 });
    }
    let best = rows[..3].iter().map(|row| row["validation_accuracy"].as_f64().unwrap()).fold(0.0, f64::max);
    assert_eq!(result["best"]["validation_accuracy"].as_f64(), Some(best));
    let few = result["few_labels"].as_array().unwrap();
    assert_eq!((few.len(), few[0]["accuracies"].as_array().unwrap().len()), (2, 2));
    let out = run.join("probe");
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("raw pixels") && page.contains("Few labels"));
    let saved: Value = serde_json::from_slice(&fs::read(out.join("probe.json")).unwrap()).unwrap();
    assert_eq!(saved["rows"], result["rows"]);
    // Again, from the features that are there, on one thread: the same numbers.
    let before = fs::metadata(out.join("trained-train.features")).unwrap().modified().unwrap();
    let again = json_lines(&assert_succeeds(probe(&flags).args(["--json", "--threads", "1"]))).remove(0);
    assert_eq!(fs::metadata(out.join("trained-train.features")).unwrap().modified().unwrap(), before);
    for (again, row) in again["rows"].as_array().unwrap().iter().zip(rows) {
        for key in ["objective", "gradient_norm", "test_accuracy", "validation_accuracy"] {
            assert_eq!(again[key], row[key], "{key}");
        }
    }
}

#[test]
fn windows_of_layers_and_the_best_depth() {
    let folder = tempfile::tempdir().unwrap();
    let run = trained(folder.path());
    let path = run.to_str().unwrap();
    let flags = ["--checkpoint", path, "--images", "100", "--c", "0.1", "--json", "--discard-features"];
    let rows = |more: &[&str]| -> Vec<(String, bool)> {
        let result = json_lines(&assert_succeeds(probe(&flags).args(more))).remove(0);
        let of = |row: &Value| (row["depths"].to_string(), row["test_accuracy"].is_number());
        result["rows"].as_array().unwrap().iter().map(of).collect()
    };
    let best = rows(&["--depth", "best"]);
    assert_eq!(best.len(), 3);
    assert_eq!(best.iter().filter(|(_, tested)| *tested).count(), 1, "only the best is tested");
    assert_eq!(rows(&["--depth", "1", "--concat", "3"]), [("[0,1,2]".to_owned(), true)]);
    assert_eq!(rows(&["--depth", "0-1"]), [("[0]".to_owned(), true), ("[1]".to_owned(), true)]);
    assert_eq!(rows(&["--depth", "best", "--concat", "3"]).last().unwrap(), &("[0,1,2]".to_owned(), true));
    let left = fs::read_dir(run.join("probe")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().contains("features")), "features were discarded");
}

#[test]
fn bert_models_are_probed_under_masks() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert_succeeds(&mut train(&run, &["--objective", "bert", "--steps", "2", "--sample-every", "0"]));
    let flags = ["--checkpoint", run.to_str().unwrap(), "--images", "100", "--c", "1", "--json", "--depth", "1"];
    let row = |more: &[&str]| json_lines(&assert_succeeds(probe(&flags).args(more))).remove(0)["rows"][0].clone();
    let one = row(&[]);
    assert!(one["ensemble_accuracy"].is_null() && one["test_accuracy"].is_number(), "{one}");
    let five = row(&["--masks", "5"]);
    assert!(five["ensemble_accuracy"].is_number(), "{five}");
    assert_eq!((&five["objective"], &five["test_accuracy"]), (&one["objective"], &one["test_accuracy"]));
    assert_ne!(row(&["--mask-rate", "0.9"])["objective"], one["objective"], "the rate is honoured");
}

#[test]
fn bad_input_is_refused_with_the_fix() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let ([train_pair, test_pair], _) = golden(folder.path());
    let ready = ["--features", &train_pair, "--test-features", &test_pair];
    for (flags, word) in [
        (["--c", "0"], "--c"),
        (["--c", "-1"], "--c"),
        (["--c", "nan"], "--c"),
        (["--c", "x"], "--c"),
        (["--lr", "0"], "--lr"),
        (["--iterations", "0"], "--iterations"),
        (["--sgd-batch", "0"], "--sgd-batch"),
        (["--tolerance", "0"], "--tolerance"),
        (["--tolerance", "2"], "--tolerance"),
        (["--threads", "0"], "--threads"),
        (["--solver", "newton"], "lbfgs"),
        (["--depth", "1"], "--depth"),
    ] {
        let message = assert_refused(probe(&ready).args(flags));
        assert!(message.contains(word), "{flags:?}: {message}");
    }
    assert!(assert_refused(probe(&ready).args(["--c", "1,2", "--holdout", "1.5"])).contains("--holdout"));
    assert!(assert_refused(probe(&ready).args(["--c", "1,2", "--holdout", "0"])).contains("--holdout"));
    assert!(assert_refused(probe(&ready).args(["--solver", "sgd", "--c", "1,2"])).contains("--lr"));
    assert!(assert_refused(&mut probe(&[])).contains("--checkpoint"));
    assert!(assert_refused(&mut probe(&["--raw-pixels"])).contains("--resolution"));
    assert!(assert_refused(&mut probe(&["--untrained"])).contains("--checkpoint"));
    assert!(assert_refused(&mut probe(&["--features", &train_pair])).contains("--test-features"));
    assert!(
        assert_refused(&mut probe(&["--features", "x.npy", "--test-features", &test_pair])).contains("X.npy,Y.npy")
    );
    assert!(assert_refused(&mut probe(&["--checkpoint", &at("nowhere")])).contains("nowhere"));
    // Arrays that do not fit.
    let write = |name: &str, shape: &[usize], values: &[f32]| npy::write_f32(at(name), shape, values).unwrap();
    npy::write_i64(at("two.npy"), &[2], &[0, 1]).unwrap();
    npy::write_i64(at("negative.npy"), &[2], &[0, -1]).unwrap();
    npy::write_i64(at("same.npy"), &[2], &[0, 0]).unwrap();
    write("x.npy", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    write("nan.npy", &[2, 3], &[1.0, 2.0, 3.0, f32::NAN, 5.0, 6.0]);
    write("flat.npy", &[6], &[1.0; 6]);
    write("halves.npy", &[2], &[0.5, 1.0]);
    write("wide.npy", &[2, 4], &[1.0; 8]);
    write("three.npy", &[3, 3], &[1.0; 9]);
    fs::write(at("junk.npy"), b"no array").unwrap();
    for (x, y, word) in [
        ("nan.npy", "two.npy", "row 1 column 0"),
        ("flat.npy", "two.npy", "flat.npy"),
        ("three.npy", "two.npy", "2 labels"),
        ("x.npy", "negative.npy", "label -1"),
        ("x.npy", "x.npy", "one-hot"),
        ("x.npy", "halves.npy", "whole numbers"),
        ("x.npy", "flat.npy", "6 labels"),
        ("junk.npy", "two.npy", "junk.npy"),
        ("missing.npy", "two.npy", "missing.npy"),
        ("x.npy", "same.npy", "of class 0"),
        ("wide.npy", "two.npy", "64"),
    ] {
        let pair = format!("{},{}", at(x), at(y));
        let against = if word == "64" { test_pair.clone() } else { pair.clone() };
        let message = assert_refused(&mut probe(&["--features", &pair, "--test-features", &against, "--c", "1"]));
        assert!(message.contains(word), "{x} {y}: {message}");
    }
    // Of a model.
    let run = trained(folder.path());
    let model = ["--checkpoint", run.to_str().unwrap(), "--images", "60"];
    for (flags, word) in [
        (["--depth", "9"], "0 to 2"),
        (["--depth", "first"], "best"),
        (["--concat", "2"], "odd"),
        (["--concat", "5"], "at most 3"),
        (["--batch", "0"], "--batch"),
        (["--images", "0"], "--images"),
        (["--seeds", "0"], "--seeds"),
        (["--holdout", "0"], "--holdout"),
        (["--masks", "5"], "autoregressive"),
        (["--masks", "0"], "--masks"),
        (["--mask-rate", "1.5"], "--mask-rate"),
        (["--labels-per-class", "5000"], "--labels-per-class"),
        (["--palette", "no.npy"], "no.npy"),
        (["--data", "cifar11:x"], "cifar10:"),
    ] {
        let message = assert_refused(probe(&model).args(["--c", "1"]).args(flags));
        assert!(message.contains(word), "{flags:?}: {message}");
    }
    fs::write(at("file"), "").unwrap();
    assert!(assert_refused(probe(&model).args(["--out", &at("file")])).contains("--out"));
    npy::write_u16(at("tokens.npy"), &[4, 64], &[1; 256]).unwrap();
    let tokens = format!("tokens:{}", at("tokens.npy"));
    assert!(assert_refused(probe(&model).args(["--data", &tokens])).contains("--test-data"));
    assert!(assert_refused(probe(&model).args(["--data", &tokens, "--test-data", &tokens])).contains("no labels"));
}
