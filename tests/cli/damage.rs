//! Damaged checkpoints: every command that reads one refuses it and names the file.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{assert_refused, assert_succeeds, checkpoint, engine, train};

/// Every command that reads the model in `dir`.
fn readers(dir: &Path, out: &Path) -> Vec<Command> {
    let command = |words: &[&str], flag: &str| {
        let mut command = engine();
        command.args(words).arg(flag).arg(dir).arg("--out").arg(out.with_extension(words[0]));
        command
    };
    let mut import = engine();
    import.arg("import").arg(dir).arg("--out").arg(out.with_extension("import"));
    vec![
        command(&["eval", "--images", "2"], "--checkpoint"),
        command(&["sample", "--unconditional", "--count", "1"], "--checkpoint"),
        command(&["probe", "--data", "sample", "--c", "1"], "--checkpoint"),
        command(&["finetune", "--data", "sample", "--steps", "1", "--batch", "2"], "--checkpoint"),
        command(&["export"], "--checkpoint"),
        import,
        command(&["train", "--batch", "2", "--steps", "1"], "--init"),
    ]
}

fn flip(path: &Path, place: usize) {
    let mut bytes = fs::read(path).unwrap();
    let place = place % bytes.len();
    bytes[place] ^= 4;
    fs::write(path, bytes).unwrap();
}

#[test]
fn one_flipped_bit_is_refused_by_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert_succeeds(&mut train(&run, &["--steps", "1", "--sample-every", "0"]));
    let step = checkpoint(&run, 1);

    for (number, file) in
        ["model.safetensors", "config.json", "preprocessor_config.json", "igpt-engine.sha256"].into_iter().enumerate()
    {
        let path = step.join(file);
        let whole = fs::read(&path).unwrap();
        flip(&path, whole.len() * (number + 1) / 5);
        for mut command in readers(&step, &folder.path().join(number.to_string())) {
            assert!(assert_refused(&mut command).contains(file), "{file}: {command:?}");
        }
        if file != "model.safetensors" {
            assert!(assert_refused(engine().arg("results").arg(&run)).contains(file));
        }
        fs::write(&path, whole).unwrap();
    }

    for file in ["model.safetensors", "optimizer.safetensors", "training.json"] {
        let path = step.join(file);
        let whole = fs::read(&path).unwrap();
        flip(&path, whole.len() / 2);
        assert!(assert_refused(&mut train(&run, &["--steps", "2", "--resume"])).contains(file));
        fs::write(&path, whole).unwrap();
    }
    assert_succeeds(&mut train(&run, &["--steps", "2", "--resume", "--sample-every", "0"]));
}

/// A checkpoint that lost its weights is not passed over for the one before.
#[test]
fn a_checkpoint_that_lost_a_file_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert_succeeds(&mut train(&run, &["--steps", "2", "--save-every", "1", "--sample-every", "0"]));
    fs::remove_file(checkpoint(&run, 2).join("model.safetensors")).unwrap();
    let message = assert_refused(&mut train(&run, &["--steps", "3", "--resume"]));
    assert!(message.contains("step-00000002") && message.contains("model.safetensors"), "{message}");
}

/// `--resume auto` goes back to the newest whole one, and ends where the undisturbed run does.
#[test]
fn resume_auto_takes_the_newest_whole_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, run) = (folder.path().join("whole"), folder.path().join("run"));
    let flags = ["--steps", "4", "--save-every", "1", "--sample-every", "0", "--keep", "9"];
    for run in [&whole, &run] {
        assert_succeeds(&mut train(run, &flags));
    }
    flip(&checkpoint(&run, 4).join("optimizer.safetensors"), 99);
    fs::remove_file(checkpoint(&run, 3).join("model.safetensors")).unwrap();
    assert_refused(train(&run, &flags).arg("--resume"));

    let output = train(&run, &flags).args(["--resume", "auto"]).output().unwrap();
    let told = crate::stderr(&output);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("optimizer.safetensors") && told.contains("model.safetensors"), "{told}");
    let aside = |step: u64| checkpoint(&run, step).with_extension("damaged");
    assert!(aside(4).is_dir() && aside(3).is_dir() && !aside(2).exists());
    assert!(crate::weights_and_moments(&run, 4) == crate::weights_and_moments(&whole, 4));
}

#[test]
fn the_weights_file_stands_for_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert_succeeds(&mut train(&run, &["--steps", "1", "--sample-every", "0"]));
    let step = checkpoint(&run, 1);
    let eval = |path: &Path| {
        let mut command = engine();
        command.args(["eval", "--images", "2", "--checkpoint"]).arg(path);
        command
    };
    assert_eq!(assert_succeeds(&mut eval(&step.join("model.safetensors"))), assert_succeeds(&mut eval(&step)));
    assert!(assert_refused(&mut eval(&step.join("training.json"))).contains("is a file: give its folder"));
}
