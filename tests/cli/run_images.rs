//! A run decides its images and colours: what reads them later takes both from it, and notices where they have changed.

use std::path::Path;

use igpt_engine::data::npy;
use serde_json::Value;

use crate::{assert_refused, assert_succeeds, checkpoint, engine, stderr, train};

/// Nothing but steps.
const QUIET: [&str; 6] = ["--eval-every", "0", "--sample-every", "0", "--save-every", "0"];

/// Images `from..to` of noise around a colour per class, in `photos/{train,test}/{a,b}`.
fn photographs(photos: &Path, from: usize, to: usize, colours: [u8; 2]) {
    for index in from..to {
        for split in ["train", "test"] {
            let class = index % 2;
            let folder = photos.join(split).join(["a", "b"][class]);
            std::fs::create_dir_all(&folder).unwrap();
            let noise = |x: u32, y: u32| ((x * 7 + y * 13) as usize * (index + 3) % 41) as u8;
            let pixels = image::RgbImage::from_fn(16, 16, |x, y| image::Rgb([colours[class] / 2 + noise(x, y); 3]));
            pixels.save(folder.join(format!("{index:03}.png"))).unwrap();
        }
    }
}

/// A palette of `colours` colours, from dark to bright or the other way.
fn palette(path: &Path, colours: usize, bright_first: bool) {
    let grey = |index: usize| {
        let index = if bright_first { colours - 1 - index } else { index };
        [-1.0 + 2.0 * index as f32 / colours as f32; 3]
    };
    npy::write_f32(path, &[colours, 3], (0..colours).map(grey).collect::<Vec<_>>().as_flattened()).unwrap();
}

/// Sequences of 64 tokens.
fn tokens(path: &Path, rows: usize, step: usize) {
    let values: Vec<u16> = (0..rows * 64).map(|index| (index * step % 509) as u16).collect();
    npy::write_u16(path, &[rows, 64], &values).unwrap();
}

/// What a command that succeeds tells on standard error.
#[track_caller]
fn told(command: &mut std::process::Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", stderr(&output));
    stderr(&output)
}

fn eval(checkpoint: &Path, flags: &[&str]) -> std::process::Command {
    let mut command = engine();
    command.arg("eval").arg("--checkpoint").arg(checkpoint).args(flags);
    command
}

#[test]
fn a_run_refuses_to_go_on_with_images_that_were_added() {
    let folder = tempfile::tempdir().unwrap();
    let (photos, run) = (folder.path().join("photos"), folder.path().join("run"));
    photographs(&photos, 0, 20, [90, 200]);
    let data = format!("images:{}", photos.display());
    let flags = |steps| [&["--data", &data, "--holdout", "0.2", "--steps", steps][..], &QUIET].concat();
    assert_succeeds(&mut train(&run, &flags("2")));
    assert_succeeds(train(&run, &flags("3")).arg("--resume"));

    photographs(&photos, 20, 24, [90, 200]);
    let message = assert_refused(train(&run, &flags("4")).arg("--resume"));
    assert!(message.contains("20 images then, 24 now") && message.contains("--init"), "{message}");
    for index in 20..24 {
        std::fs::remove_file(photos.join("train").join(["a", "b"][index % 2]).join(format!("{index:03}.png"))).unwrap();
    }
    assert_succeeds(train(&run, &flags("4")).arg("--resume"));

    // A file written anew under its name and in its size may be another picture.
    let file = std::fs::File::options().write(true).open(photos.join("train/a/000.png")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    let note = told(train(&run, &flags("5")).arg("--resume"));
    assert!(note.contains("written anew or copied"), "{note}");
}

#[test]
fn a_run_refuses_to_go_on_with_other_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let (file, run) = (folder.path().join("t.npy"), folder.path().join("run"));
    let data = format!("tokens:{}", file.display());
    let flags = |steps| [&["--data", &data, "--steps", steps][..], &QUIET].concat();
    tokens(&file, 12, 7);
    let note = told(&mut train(&run, &flags("2")));
    assert!(note.contains("which colours the tokens") && note.contains("--palette"), "{note}");
    tokens(&file, 12, 11);
    let message = assert_refused(train(&run, &flags("3")).arg("--resume"));
    assert!(message.contains("has changed since"), "{message}");

    let message = assert_refused(train(&folder.path().join("other"), &flags("2")).args(["--holdout", "0.25"]));
    assert!(message.contains("--holdout does nothing"), "{message}");
}

#[test]
fn a_resumed_run_keeps_its_own_colours() {
    let folder = tempfile::tempdir().unwrap();
    let (file, run) = (folder.path().join("p.npy"), folder.path().join("run"));
    palette(&file, 16, false);
    let flags = |steps| [&["--palette", file.to_str().unwrap(), "--steps", steps][..], &QUIET].concat();
    assert_succeeds(&mut train(&run, &flags("2")));
    let colours = |step| {
        let text = std::fs::read(checkpoint(&run, step).join("preprocessor_config.json")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()["clusters"].clone()
    };
    let first = colours(2);

    for other in [16, 32] {
        palette(&file, other, true);
        let message = assert_refused(train(&run, &flags("3")).arg("--resume"));
        assert!(message.contains(&format!("({other} colours)")) && message.contains("(16 colours"), "{message}");
    }
    std::fs::remove_file(&file).unwrap();
    let note = told(train(&run, &flags("3")).arg("--resume"));
    assert!(note.contains("goes on with its own palette"), "{note}");
    assert_eq!(colours(3), first);
}

#[test]
fn a_palette_that_is_assumed_or_not_the_models_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (run, exported) = (folder.path().join("run"), folder.path().join("hf"));
    assert_succeeds(&mut train(&run, &[&["--steps", "2"][..], &QUIET].concat()));
    assert!(!told(&mut eval(&run, &["--images", "2"])).contains("palette"));

    assert_succeeds(engine().arg("export").arg("--checkpoint").arg(&run).arg("--out").arg(&exported));
    std::fs::remove_file(exported.join("preprocessor_config.json")).unwrap();
    std::fs::remove_file(exported.join("igpt-engine.sha256")).unwrap();
    let note = told(&mut eval(&exported, &["--images", "2"]));
    assert!(note.contains("no palette is saved with the model") && note.contains("--palette"), "{note}");

    let file = folder.path().join("p.npy");
    palette(&file, 512, true);
    let file = file.to_str().unwrap();
    for command in [&mut eval(&run, &["--images", "2"]), &mut train(&folder.path().join("more"), &QUIET)] {
        if command.get_args().next().is_some_and(|name| name == "train") {
            command.args(["--steps", "1", "--init"]).arg(&run);
        }
        let note = told(command.args(["--palette", file]));
        assert!(note.contains("not the one that is saved with the model"), "{note}");
    }
}

#[test]
fn scores_are_of_the_runs_own_held_out_images() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let flags = ["--steps", "2", "--seed", "7", "--holdout", "0.05", "--filter", "lanczos"];
    assert_succeeds(&mut train(&run, &[&flags[..], &QUIET].concat()));
    let nats = |flags: &[&str]| {
        let output = assert_succeeds(eval(&run, flags).args(["--split", "validation", "--json"]));
        let found: Value = serde_json::from_str(&output).unwrap();
        (found["nats_per_token"].as_f64().unwrap(), found["images"].as_u64().unwrap())
    };
    let own = nats(&[]);
    assert_eq!(own, nats(&["--seed", "7", "--holdout", "0.05", "--filter", "lanczos"]));
    assert_eq!(own.1, 50);
    assert_ne!(own.0, nats(&["--filter", "bilinear"]).0);

    let note = told(&mut eval(&run, &["--split", "validation", "--seed", "3"]));
    assert!(note.contains("was trained on most of these"), "{note}");
    let note = told(&mut eval(&run, &["--split", "train", "--images", "4"]));
    assert!(note.contains("was trained on these images"), "{note}");
}

#[test]
fn features_of_images_that_changed_are_not_taken_again() {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    let data = format!("images:{}", photos.display());
    let accuracy = |out: &str| {
        let mut command = engine();
        command.args(["probe", "--raw-pixels", "--resolution", "8", "--c", "1", "--json", "--data", &data]);
        let output = assert_succeeds(command.arg("--out").arg(folder.path().join(out)));
        serde_json::from_str::<Value>(output.lines().last().unwrap()).unwrap()
    };
    photographs(&photos, 0, 24, [40, 240]);
    let first = accuracy("kept");
    photographs(&photos, 0, 24, [120, 120]);
    let (again, fresh) = (accuracy("kept"), accuracy("fresh"));
    let rows = |found: &Value| found["rows"].as_array().or(found["probes"].as_array()).unwrap().clone();
    let tested = |found: &Value| rows(found)[0]["test_accuracy"].clone();
    assert_eq!(tested(&first), 1.0);
    assert_eq!(tested(&again), tested(&fresh));
    assert_ne!(tested(&again), tested(&first));
}

#[test]
fn flags_that_do_nothing_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert_succeeds(&mut train(&run, &[&["--steps", "1"][..], &QUIET].concat()));
    let run = run.to_str().unwrap();
    for (flag, words) in [
        ("seed", &["eval", "--checkpoint", run, "--seed", "3"][..]),
        ("data", &["sample", "--checkpoint", run, "--unconditional", "--data", "sample"]),
        ("completions", &["sample", "--checkpoint", run, "--unconditional", "--completions", "2"]),
        ("count", &["sample", "--checkpoint", run, "photo.png", "--count", "2"]),
        ("top-k", &["sample", "--checkpoint", run, "--temperature", "0", "--top-k", "3"]),
        ("top-p", &["sample", "--checkpoint", run, "--temperature", "0", "--top-p", "0.5"]),
        ("lr", &["probe", "--checkpoint", run, "--lr", "0.1"]),
        ("tolerance", &["probe", "--checkpoint", run, "--solver", "sgd", "--tolerance", "0.1"]),
        ("sample-every", &["train", "--objective", "bert", "--sample-every", "3"]),
    ] {
        let message = assert_refused(engine().current_dir(folder.path()).args(words));
        assert!(message.contains(&format!("--{flag} does nothing")), "{words:?}: {message}");
    }
}
