//! Bad input: a clear message with the fix, exit code 2, nothing lost.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{assert_refused, assert_succeeds, checkpoint, engine, train, weights_and_moments};

/// Records of the CIFAR-10 sample that the repository carries.
fn cifar_records(count: usize) -> Vec<u8> {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/cifar10-sample/data_batch_1.bin");
    fs::read(sample).unwrap()[..count * 3073].to_vec()
}

fn train_on(data: &str, out: &Path) -> Command {
    train(out, &["--data", data, "--steps", "1"])
}

#[test]
fn damaged_record_files() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("cifar"), folder.path().join("run"));
    fs::create_dir(&data).unwrap();
    let file = data.join("data_batch_1.bin");
    let spec = format!("cifar10:{}", data.display());
    let mut bad_label = cifar_records(3);
    bad_label[3073] = 10;
    let (mut long, mut short) = (cifar_records(3), cifar_records(3));
    long.push(0);
    short.truncate(2 * 3073 + 5);

    for (bytes, words) in [(long, "3073"), (short, "3073"), (bad_label, "label"), (Vec::new(), "0 records")] {
        fs::write(&file, bytes).unwrap();
        let message = assert_refused(&mut train_on(&spec, &out));
        assert!(message.contains("data_batch_1.bin") && message.contains(words), "{words}: {message}");
    }

    fs::remove_file(&file).unwrap();
    let message = assert_refused(&mut train_on(&spec, &out));
    assert!(message.contains("data fetch"), "{message}");
    assert!(!out.join("config.toml").exists(), "nothing should have been started");
}

#[test]
fn damaged_and_foreign_token_arrays() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("tokens.npy"), folder.path().join("run"));
    let spec = format!("tokens:{}", file.display());
    let mut tokens = vec![5_u16; 4 * 64];
    tokens[2 * 64 + 7] = 512;
    igpt_engine::data::npy::write_u16(&file, &[4, 64], &tokens).unwrap();
    let message = assert_refused(&mut train_on(&spec, &out));
    assert!(message.contains("512") && message.contains("tokens.npy"), "{message}");
    fs::write(&file, b"\x93NUMPZ\x01\x00 not an array at all").unwrap();
    assert!(assert_refused(&mut train_on(&spec, &out)).contains("tokens.npy"));
    // Longer than the model.
    igpt_engine::data::npy::write_u16(&file, &[1, 100], &[1; 100]).unwrap();
    let message = assert_refused(&mut train_on(&spec, &out));
    assert!(message.contains("100") && message.contains("--resolution"), "{message}");
}

#[test]
fn files_that_are_not_images() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("images"), folder.path().join("run"));
    for class in ["cat", "dog"] {
        fs::create_dir_all(data.join("train").join(class)).unwrap();
        for number in 0..20_u8 {
            let picture = image::RgbImage::from_fn(40, 36, |x, y| image::Rgb([number * 9, x as u8 * 5, y as u8 * 6]));
            picture.save(data.join("train").join(class).join(format!("{number:02}.png"))).unwrap();
        }
    }

    let bad = data.join("train/dog/07b.jpg");
    fs::write(&bad, b"this is no picture").unwrap();
    let spec = format!("images:{}", data.display());
    let message = assert_refused(&mut train_on(&spec, &out));
    assert!(message.contains("07b.jpg") && message.contains("--skip-bad"), "{message}");

    let output = train_on(&spec, &out).args(["--skip-bad", "--holdout", "0.1"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 bad file"), "the bad file is counted: {said}");

    // Smaller than what the model sees.
    fs::remove_file(&bad).unwrap();
    image::RgbImage::new(40, 3).save(data.join("train/cat/small.png")).unwrap();
    let message = assert_refused(&mut train_on(&spec, &folder.path().join("other")));
    assert!(message.contains("small.png"), "{message}");
}

#[test]
fn configurations_with_unknown_keys() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("run.toml"), folder.path().join("run"));
    for (text, word) in [("learning-rate = 0.1\n", "learning-rate"), ("batch = \"many\"\n", "batch"), ("= 3", "TOML")] {
        fs::write(&file, text).unwrap();
        let message = assert_refused(train(&out, &[]).arg("--config").arg(&file));
        assert!(message.contains("run.toml") && message.contains(word), "{word}: {message}");
    }
}

#[test]
fn impossible_settings() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    for (flags, word) in [
        (["--heads", "3"], "--heads"),
        (["--batch", "0"], "--batch"),
        (["--steps", "0"], "--steps"),
        (["--lr", "-1"], "--lr"),
        (["--clip", "0"], "--clip"),
        (["--max-skipped", "0"], "--max-skipped"),
        (["--cooldown", "5"], "--schedule wsd"),
        (["--ema", "1"], "--ema must be above 0 and below 1"),
        (["--ema", "-0.5"], "--ema"),
        (["--eval-batch", "0"], "--eval-batch"),
        (["--schedule", "triangle"], "wsd-sqrt"),
        (["--holdout", "1.5"], "--holdout"),
        (["--resolution", "0"], "resolution"),
        (["--width", "0"], "width"),
        (["--threads", "0"], "--threads"),
        (["--device", "cuda"], "--device cpu"),
        (["--data", "cifar11:somewhere"], "cifar10:"),
        (["--palette", "no/such/palette.npy"], "palette.npy"),
        (["--init", "no/such/checkpoint"], "no/such/checkpoint"),
    ] {
        // A later flag overrides nothing here: the small settings give none of these but the model's.
        let mut command = engine();
        command.args(["train", "--layers", "1"]).args(flags).arg("--out").arg(&out);
        let message = assert_refused(&mut command);
        assert!(message.contains(word), "{flags:?}: {message}");
    }

    let long = ["--schedule", "wsd", "--steps", "10", "--warmup", "6", "--cooldown", "5"];
    let message = assert_refused(engine().args(["train", "--layers", "1"]).args(long).arg("--out").arg(&out));
    assert!(message.contains("together more than --steps 10"), "{message}");
    assert!(!out.join("config.toml").exists(), "nothing should have been started");
}

#[test]
fn divergence_keeps_the_last_good_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let flags = ["--steps", "60", "--save-every", "1", "--schedule", "constant", "--lr", "1e19", "--warmup", "0"];
    let message = assert_refused(&mut train(&run, &flags));
    assert!(message.contains("step") && message.contains("--lr"), "{message}");
    let last = igpt_engine::run::checkpoints::resolve(&run).unwrap();
    assert!(message.contains(&last.display().to_string()), "{message}");
    assert!(igpt_engine::checkpoint::load_config(&last).is_ok());
}

/// The disk is full in the middle of a checkpoint, as far as a process can tell: writes fail past a file size.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_old_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert_succeeds(&mut train(&run, &["--steps", "2", "--save-every", "2"]));
    let before = weights_and_moments(&run, 2);
    let size = fs::metadata(checkpoint(&run, 2).join("model.safetensors")).unwrap().len();
    // Blocks of 1,024 bytes: enough for everything but the model's tensors.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", size / 1024 - 2);
    let inner = train(&run, &["--steps", "4", "--resume", "--sample-every", "0"]);
    let mut command = Command::new("bash");
    command.args(["-c", &script]).arg(inner.get_program()).args(inner.get_args()).env("NO_COLOR", "1");
    let message = assert_refused(&mut command);
    assert!(message.contains("model.safetensors") || message.contains("step-00000004"), "{message}");
    assert!(weights_and_moments(&run, 2) == before);
    let left: Vec<_> = fs::read_dir(run.join("checkpoints")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["step-00000002"], "no half of a checkpoint stays");
    // With room again, the run goes on.
    assert_succeeds(&mut train(&run, &["--steps", "4", "--resume"]));
}

#[test]
fn damaged_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert_succeeds(&mut train(&run, &["--steps", "1"]));
    let model = checkpoint(&run, 1).join("model.safetensors");
    let whole = fs::read(&model).unwrap();
    let mut long_header = whole.clone();
    long_header[..8].copy_from_slice(&u64::MAX.to_le_bytes());

    for bytes in [whole[..whole.len() - 1].to_vec(), whole[..100].to_vec(), Vec::new(), long_header] {
        fs::write(&model, bytes).unwrap();
        for mut command in [train(&run, &["--steps", "2", "--resume"]), {
            let mut command = engine();
            command.arg("eval").arg("--checkpoint").arg(&run);
            command
        }] {
            assert!(assert_refused(&mut command).contains("model.safetensors"));
        }
    }

    fs::write(&model, whole).unwrap();
    fs::write(checkpoint(&run, 1).join("training.json"), b"{}").unwrap();
    assert!(assert_refused(&mut train(&run, &["--steps", "2", "--resume"])).contains("training.json"));
}

/// Numbers that no machine can follow are refused at once, by flag, before anything large is allocated.
#[test]
fn numbers_out_of_range() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    const HUGE: &str = "18446744073709551615";

    for flag in ["batch", "accumulate", "steps", "layers", "width", "heads", "resolution", "seed", "warmup", "threads"]
    {
        let message = assert_refused(train(&run, &["--steps", "1"]).args([&format!("--{flag}"), HUGE]));
        assert!(message.contains(flag), "{flag}: {message}");
    }

    for [flag, value] in [
        ["batch", "10000000000"],
        ["accumulate", "10000000000"],
        ["resolution", "4294967296"],
        ["threads", "1000000"],
        ["layers", "100000"],
        ["lr", "1e308"],
    ] {
        let message = assert_refused(train(&run, &["--steps", "1"]).args([&format!("--{flag}"), value]));
        assert!(message.contains(flag), "{flag}: {message}");
    }

    assert!(!run.join("config.toml").exists(), "nothing should have been started");
    assert_succeeds(&mut train(&run, &["--steps", "1"]));
    for flags in [["--count", HUGE], ["--completions", HUGE], ["--scale", "4294967295"], ["--scale", "100000"]] {
        for more in [&["--unconditional"][..], &[]] {
            if flags[0] == "--completions" && !more.is_empty() || flags[0] == "--count" && more.is_empty() {
                continue;
            }
            let mut command = engine();
            command.arg("sample").arg("--checkpoint").arg(&run).args(flags).args(more);
            let message = assert_refused(command.arg("--out").arg(folder.path().join("grid.png")));
            assert!(message.contains(flags[0]), "{flags:?}: {message}");
        }
    }
}

/// Linux says how much memory there is, so what cannot fit is refused before it is tried.
#[cfg(target_os = "linux")]
#[test]
fn models_larger_than_the_machines_memory() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let flags = ["--layers", "1024", "--width", "65536", "--heads", "1024", "--steps", "1"];
    let message = assert_refused(&mut train(&run, &flags));
    assert!(message.contains("GiB") && message.contains("--model"), "{message}");
    assert!(!run.join("config.toml").exists(), "nothing should have been started");
}

/// An update so large that the weights are infinite must not push the checkpoint before it out.
#[test]
fn ruined_weights_are_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let flags =
        ["--steps", "9", "--save-every", "1", "--keep", "1", "--lr", "3e38", "--warmup", "0", "--eval-every", "0"];
    let message = assert_refused(train(&run, &flags).args(["--sample-every", "0", "--schedule", "constant"]));
    assert!(message.contains("step 1") && message.contains("no checkpoint"), "{message}");
    assert!(igpt_engine::run::checkpoints::resolve(&run).is_err(), "ruined weights were saved");
}

#[test]
fn messages_say_each_cause_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let mut missing = engine();
    missing.args(["data", "encode", "--palette", "no-such.npy", "--out"]).arg(folder.path().join("x.npy"));
    for (mut command, cause) in [(train(&file, &["--steps", "1"]), "is no folder"), (missing, "os error")] {
        let message = assert_refused(&mut command);
        assert_eq!(message.matches(cause).count(), 1, "{message}");
    }
    let message = assert_refused(engine().args(["data", "info", "no/such/folder"]));
    assert!(message.contains("there is no file or folder no/such/folder"), "{message}");
}
