//! Checkpoints that are written while training goes on: the same files, whole at the end, and failures that are said.

use std::path::Path;
use std::process::Command;

use test_support::has_turn;

use crate::{assert_succeeds, checkpoint, engine, json_lines, stderr, train};

/// Names and bytes of a checkpoint's files, but for those that hold times.
fn files(run: &Path, step: u64) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(checkpoint(run, step)).unwrap().map(|entry| entry.unwrap().path());
    let file = |path: &Path| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let is_timed = ["training.json", "igpt-engine.sha256"].contains(&name.as_str());
        let bytes = if is_timed { Vec::new() } else { std::fs::read(path).unwrap() };
        (name, bytes)
    };
    let mut files: Vec<_> = entries.map(|path| file(&path)).collect();
    files.sort();
    files
}

#[test]
fn files_are_those_that_training_stood_still_for() {
    let folder = tempfile::tempdir().unwrap();
    let [going, still] = ["going", "still"].map(|name| folder.path().join(name));
    let flags =
        ["--steps", "6", "--save-every", "1", "--keep", "9", "--ema", "0.9", "--sample-every", "0", "--threads", "1"];
    let printed = assert_succeeds(train(&going, &flags).arg("--json"));
    assert_succeeds(train(&still, &flags).arg("--sync-checkpoints"));
    for step in 1..=6 {
        assert!(files(&going, step) == files(&still, step), "step {step}: other files");
        igpt_engine::checkpoint::verify(&checkpoint(&going, step)).unwrap();
    }

    // Each is told once, in order, with how long it took; the report of the run comes after the last.
    let told: Vec<_> = json_lines(&printed).into_iter().filter(|line| line["event"] == "checkpoint").collect();
    let steps: Vec<u64> = told.iter().map(|line| line["at_step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [1, 2, 3, 4, 5, 6]);
    let is_time = |line: &serde_json::Value, name: &str| line[name].as_f64().is_some_and(|time| time >= 0.0);
    assert!(told.iter().all(|line| is_time(line, "stall_ms") && is_time(line, "write_ms")), "{printed}");
    let metrics = std::fs::read_to_string(going.join("metrics.jsonl")).unwrap();
    assert!(metrics.contains("\"save_stall_ms\":") && metrics.contains("\"save_write_ms\":"), "{metrics}");

    // A run may change its way, and goes on the same.
    assert_succeeds(
        train(&going, &["--steps", "8", "--resume", "--sync-checkpoints", "--save-every", "1"]).args(&flags[4..]),
    );
    assert_succeeds(
        train(&still, &["--steps", "8", "--resume", "--sync-checkpoints=false", "--save-every", "1"]).args(&flags[4..]),
    );
    assert!(files(&going, 8) == files(&still, 8), "other files after a change of the way");
}

/// A disk that takes no more: said with the file's name and exit code 2 as where training stands still, and the checkpoint before is whole.
#[cfg(unix)]
#[test]
fn what_cannot_be_written_ends_the_run_and_leaves_the_checkpoint_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut said = Vec::new();
    for (name, mode) in [("going", "--sync-checkpoints=false"), ("still", "--sync-checkpoints")] {
        let run = folder.path().join(name);
        let flags = ["--save-every", "1", "--sample-every", "0", "--eval-every", "0", "--no-tensorboard"];
        assert_succeeds(train(&run, &flags).args(["--steps", "1"]));
        let before = files(&run, 1);
        let mut limited = Command::new("bash");
        limited
            .args(["-c", "ulimit -f 16; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_igpt-engine")])
            .env("NO_COLOR", "1");
        limited.args(train(&run, &flags).args(["--steps", "40", "--resume", mode]).get_args());
        let output = limited.output().unwrap();
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{mode}: {error}");
        let line = error.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{mode}: {error}"));
        assert!(line.contains("model.safetensors") && line.contains("File too large"), "{mode}: {line}");
        said.push(line.split(": ").last().unwrap().to_owned());
        let left: Vec<_> =
            std::fs::read_dir(run.join("checkpoints")).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert!(left == ["step-00000001"] && files(&run, 1) == before, "{mode}: {left:?}");

        // With room again it goes on.
        assert_succeeds(train(&run, &flags).args(["--steps", "3", "--resume"]));
    }
    assert_eq!(said[0], said[1], "other words");
}

/// A host without memory for a copy trains all the same, and says why it stands still.
#[cfg(target_os = "linux")]
#[test]
fn without_memory_for_a_copy_training_stands_still() {
    if !has_turn(0, 2) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    // 26 million parameters: 0.4 GB for weights, gradients and moments, 0.3 for a copy.
    let flags = ["train", "--layers", "8", "--width", "512", "--heads", "8", "--resolution", "8", "--batch", "1"];
    let more =
        ["--steps", "1", "--eval-every", "0", "--sample-every", "0", "--threads", "1", "--workers", "1", "--out"];
    let limited = |mebibytes: u64| {
        let mut command = Command::new("bash");
        command.env("MALLOC_ARENA_MAX", "1").env("NO_COLOR", "1");
        let script = format!("ulimit -v {}; exec \"$0\" \"$@\"", mebibytes * 1024);
        command.args(["-c", &script, env!("CARGO_BIN_EXE_igpt-engine")]).args(flags).args(more).arg(&run);
        command
    };
    let mut told = Vec::new();
    for mebibytes in (600..3000).step_by(150) {
        let _ = std::fs::remove_dir_all(&run);
        let output = limited(mebibytes).output().unwrap();
        let error = stderr(&output);
        if output.status.success() {
            told.push(error.contains("GiB to copy a checkpoint to, so training stands still while one is written"));
            assert!(checkpoint(&run, 1).join("optimizer.safetensors").is_file(), "{error}");
            if told.last() == Some(&false) {
                break;
            }
        } else {
            assert_eq!(output.status.code(), Some(2), "{error}");
        }
    }
    assert!(told.first() == Some(&true) && told.last() == Some(&false), "{told:?}");
}

#[test]
fn plan_says_what_a_copy_takes() {
    let plan = |flags: &[&str]| assert_succeeds(engine().arg("plan").args(["--model", "s"]).args(flags));
    assert!(plan(&[]).contains("a checkpoint is copied to 0.9 GiB of host memory"), "{}", plan(&[]));
    let json: serde_json::Value = serde_json::from_str(&plan(&["--json"])).unwrap();
    assert_eq!(json["cost"]["snapshot"].as_f64(), Some(12.0 * 76_571_648.0));
    assert!(plan(&["--gpus", "8"]).contains("copied to 0.1 GiB of host memory"), "{}", plan(&["--gpus", "8"]));
}
