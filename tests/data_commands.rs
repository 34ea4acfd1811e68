//! `igpt-engine data ...` as a user runs it.

use std::path::Path;
use std::process::{Command, Output};

use igpt_engine::data::{Palette, npy};
use serde_json::Value;

fn run(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_igpt-engine")).arg("data").args(args).current_dir(folder).output().unwrap()
}

/// The one JSON line on stdout.
fn json(folder: &Path, args: &[&str]) -> Value {
    let output = run(folder, &[args, &["--json"]].concat());
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn info_counts_the_sample() {
    let folder = tempfile::tempdir().unwrap();
    let info = json(folder.path(), &["info"]);
    assert_eq!(info["splits"][0]["examples"], 1000);
    assert_eq!(info["splits"][0]["held_out"], 100);
    assert_eq!(info["splits"][1]["examples"], 200);
    let counts = info["splits"][0]["class_counts"].as_array().unwrap();
    assert_eq!(counts.iter().filter_map(Value::as_u64).sum::<u64>(), 1000);
    assert_eq!(info["class_names"][9], "truck");
    let text = run(folder.path(), &["info"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("frog"));
}

#[test]
fn info_guesses_the_kind_and_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/cifar10-sample/data_batch_1.bin");
    std::fs::copy(sample, folder.path().join("data_batch_1.bin")).unwrap();
    let info = json(folder.path(), &["info", ".", "--verify"]);
    assert_eq!(info["data"], "cifar10:.");
    // A thousand records are not the official ten thousand.
    assert_eq!(info["files"][0]["official"], false);
    assert!(info["splits"][1]["missing"].as_str().unwrap().contains("test_batch.bin"));
    let none = run(folder.path(), &["info", "nowhere"]);
    assert!(!none.status.success() && none.stdout.is_empty());
    assert!(String::from_utf8_lossy(&none.stderr).contains("cifar10:DIR"));
}

#[test]
fn a_palette_is_fitted_and_used_to_encode() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["palette", "--colours", "16", "--resolution", "16", "--out", "p.npy", "--swatch", "p.png"];
    let fitted = json(folder.path(), &args);
    let palette = Palette::load(folder.path().join("p.npy")).unwrap();
    assert_eq!((palette.len(), fitted["id"].as_str()), (16, Some(palette.id().as_str())));
    assert!(fitted["test"]["mse"].as_f64().unwrap() < 0.05);
    assert!(image::open(folder.path().join("p.png")).is_ok());

    let args = [
        "encode",
        "--palette",
        "p.npy",
        "--resolution",
        "16",
        "--split",
        "test",
        "--out",
        "x.npy",
        "--labels-out",
        "y.npy",
    ];
    assert_eq!(json(folder.path(), &args)["shape"], serde_json::json!([200, 256]));
    let tokens = npy::Npy::open(folder.path().join("x.npy")).unwrap();
    assert_eq!((tokens.shape(), tokens.dtype()), (&[200, 256][..], npy::Dtype::U16));
    assert!(tokens.integers(0..tokens.len()).unwrap().all(|token| token < 16));
    let info = json(folder.path(), &["info", "tokens:x.npy,y.npy"]);
    assert_eq!(info["splits"][0]["class_counts"].as_array().unwrap().len(), 10);
}

#[test]
fn mistakes_end_with_the_fix_and_no_file() {
    let folder = tempfile::tempdir().unwrap();
    for (args, wanted) in [
        (vec!["palette", "--colours", "513", "--out", "p.npy"], "from 1 to 512"),
        (vec!["encode", "--resolution", "64", "--out", "x.npy"], "lower --resolution"),
        (vec!["encode", "--data", "tokens:x.npy", "--out", "y.npy"], "x.npy"),
        (vec!["encode", "--holdout", "0", "--split", "validation", "--out", "x.npy"], "--holdout"),
        (vec!["encode", "--palette", "missing.npy", "--out", "x.npy"], "missing.npy"),
    ] {
        let output = run(folder.path(), &args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(wanted), "{args:?}: {stderr}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
