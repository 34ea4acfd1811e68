//! Memory that a shell limits: seen before the work, and said when it ends in the middle of it.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use test_support::has_turn;

use crate::{assert_refused, assert_succeeds, engine, stderr, train};

/// The binary in a shell that gives it `mebibytes` of addresses.
fn limited(mebibytes: u64, flags: &[&str]) -> Command {
    let mut command = Command::new("bash");
    // Of one heap: glibc reserves 64 MiB of addresses, not of memory, for the heap of every thread.
    command.env("MALLOC_ARENA_MAX", "1").env("NO_COLOR", "1").env_remove("RUST_BACKTRACE");
    let script = format!("ulimit -v {}; exec \"$0\" \"$@\"", mebibytes * 1024);
    command.args(["-c", &script, env!("CARGO_BIN_EXE_igpt-engine")]).args(flags);
    command
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Mebibytes of addresses with which one image trains on one thread: mostly what the GEMM reserves, which hangs on the processor's cache.
fn least(folder: &Path) -> u64 {
    let model = ["train", "--layers", "1", "--width", "32", "--heads", "2", "--resolution", "8", "--threads", "1"];
    let small = ["--batch", "1", "--steps", "1", "--eval-every", "0", "--sample-every", "0", "--workers", "1"];
    let out = folder.join("least");
    let flags = [&model[..], &small, &["--out", text(&out)]].concat();
    let trains = |mebibytes: &u64| {
        let _ = std::fs::remove_dir_all(&out);
        limited(*mebibytes, &flags).output().unwrap().status.success()
    };
    (128..16_384).step_by(128).find(trains).expect("a run of one image in 16 GiB")
}

#[test]
fn training_past_a_shells_limit_is_refused_before_it_starts() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let flags = ["train", "--model", "s", "--resolution", "32", "--batch", "4", "--steps", "1", "--out", text(&run)];
    let flags = [&flags[..], &["--threads", "1"]].concat();
    let message = assert_refused(&mut limited(least(folder.path()) + 1024, &flags));
    for word in ["training iGPT-S", "--batch 4", "this process (ulimit -v) has 1.", "smaller --batch"] {
        assert!(message.contains(word), "no {word}: {message}");
    }
    assert!(!run.join("config.toml").exists(), "nothing should have been started");
}

#[test]
fn an_allocation_that_fails_is_said_and_not_aborted() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let model = ["train", "--layers", "2", "--width", "64", "--heads", "2", "--resolution", "8", "--threads", "1"];
    let small = ["--batch", "4", "--steps", "2", "--eval-every", "0", "--sample-every", "0", "--out", text(&run)];
    let flags = [&model[..], &small[..]].concat();

    // From a little more than what the system needs to map the program, and tell its version, to what the run needs: every outcome on
    // the way is a message, and the last one a success.
    let starts = |mebibytes: &u64| limited(*mebibytes, &["--version"]).output().unwrap().status.success();
    let least = (32..4096).step_by(4).find(starts).expect("a program of less than 4 GiB") + 8;
    let mut messages = Vec::new();
    let mut done = false;
    for mebibytes in (least..least + 64).step_by(2).chain([256, 512, 1024, 1536, 2048, 4096]) {
        let _ = std::fs::remove_dir_all(&run);
        let output = limited(mebibytes, &flags).output().unwrap();
        done = output.status.success();
        if done {
            break;
        }
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{mebibytes} MiB: {}\n{said}", output.status);
        assert!(said.contains("error: ") && !said.contains("panicked"), "{mebibytes} MiB: {said}");
        messages.push(said);
    }
    assert!(done, "the run did not fit into 4 GiB: {messages:?}");
    let words = ["memory ran out", "--batch 4", "a model of 2 layers × 64", "this process (ulimit -v) has 0."];
    assert!(messages.iter().any(|said| words.iter().all(|word| said.contains(word))), "{messages:?}");
}

#[test]
fn a_run_is_fitted_to_a_shells_limit() {
    if !has_turn(1, 2) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let least = least(folder.path());
    // 256 images of 256 tokens at once would be 1.5 GiB.
    let model = ["train", "--layers", "2", "--width", "128", "--heads", "2", "--resolution", "16", "--threads", "1"];
    let small = ["--global-batch", "256", "--steps", "1", "--eval-every", "0", "--sample-every", "0", "--workers", "1"];
    let mut command = limited(least + 700, &[&model[..], &small, &["--fit", "--out", text(&run)]].concat());
    let output = command.output().unwrap();
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    let line = said.lines().find(|line| line.contains("--fit: --batch")).unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains(" that a run may fill") && line.contains("images at a time would take"), "{line}");
    let config: toml::Table = std::fs::read_to_string(run.join("config.toml")).unwrap().parse().unwrap();
    let [batch, accumulate] = ["batch", "accumulate"].map(|key| config[key].as_integer().unwrap());
    assert!(batch * accumulate == 256 && batch < 256 && !config.contains_key("fit"), "{config}");

    // All that a flag decides is not chosen.
    let flags = ["train", "--fit", "--recompute", "norms", "--out", text(&run)];
    assert!(assert_refused(engine().args(flags)).contains("--recompute"));
}

#[test]
fn validations_that_do_not_fit_are_made_smaller() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    // Two thousand images of 1,024 tokens, 11 floats of 64 columns each, are 5.5 GiB at a time.
    let model = ["train", "--layers", "1", "--width", "64", "--heads", "2", "--resolution", "32", "--batch", "1"];
    let small = ["--steps", "1", "--eval-images", "2", "--sample-every", "0", "--threads", "1", "--eval-batch", "2000"];
    let mut command = limited(4096, &[&model[..], &small, &["--out", text(&run)]].concat());
    let output = command.output().unwrap();
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("validating 2000 images at a time needs more memory than there is; it will be 1000"),
        "{said}"
    );
    assert!(said.contains("nats/token over 2 images"), "{said}");
}

#[test]
fn plan_and_doctor_show_the_limit_and_where_it_comes_from() {
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/pretrain-s-ar-32.toml");
    let plan = assert_succeeds(&mut limited(1536, &["plan", "--config", recipe]));
    assert!(plan.contains("here, on the CPU: no (") && plan.contains("this process (ulimit -v) has 1."), "{plan}");
    let plan = assert_succeeds(&mut limited(1536, &["plan", "--config", recipe, "--json"]));
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert_eq!((&plan["here"]["fits"], &plan["here"]["limit"]["source"]), (&false.into(), &"ulimit -v".into()));

    let doctor = assert_succeeds(&mut limited(1536, &["doctor"]));
    assert!(doctor.contains("this process has 1.5 GiB") && doctor.contains("by ulimit -v"), "{doctor}");
    let doctor: serde_json::Value =
        serde_json::from_str(&assert_succeeds(&mut limited(1536, &["doctor", "--json"]))).unwrap();
    assert_eq!(doctor["memory_limits"][0]["source"], "ulimit -v");
}

#[test]
fn more_workers_than_cores_cost_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let time = |workers: &str| {
        let start = Instant::now();
        let run = folder.path().join(workers);
        assert_succeeds(&mut train(&run, &["--steps", "2", "--sample-every", "0", "--workers", workers]));
        start.elapsed().as_secs_f64()
    };
    let one = time("1");
    let many = time("1024");
    assert!(many < 4.0 * one + 1.0, "{one} s with one worker, {many} s with 1024");
    assert!(assert_refused(engine().args(["data", "bench", "--workers", "1025"])).contains("--workers"));
}
