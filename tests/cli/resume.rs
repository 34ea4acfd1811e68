//! N steps are k steps, a stop of any kind, and N − k steps: weights, moments, order, augmentation.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::{assert_refused, assert_succeeds, json_lines, losses, train, weights_and_moments};

const STEPS: u64 = 12;
const FLAGS: [&str; 8] = ["--steps", "12", "--save-every", "1", "--lr", "0.01", "--threads", "2"];

/// The run that nothing stopped.
fn undisturbed(folder: &Path) -> ([Vec<u8>; 2], Vec<(u64, f64)>) {
    let run = folder.join("whole");
    assert_succeeds(&mut train(&run, &FLAGS));
    (weights_and_moments(&run, STEPS), metrics(&run))
}

pub fn metrics(run: &Path) -> Vec<(u64, f64)> {
    losses(&json_lines(&std::fs::read_to_string(run.join("metrics.jsonl")).unwrap()))
}

/// Starts a run and returns once it has printed `steps` steps.
pub fn start(command: &mut Command, steps: usize) -> Child {
    let mut child = command.arg("--json").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map_while(Result::ok).filter(|line| line.contains("\"loss\"")).take(steps).for_each(drop);
    child
}

pub fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn killed_at_any_moment_and_resumed_is_undisturbed() {
    let folder = tempfile::tempdir().unwrap();
    let whole = undisturbed(folder.path());
    let run = folder.path().join("killed");
    // Each kill comes at another moment: after so many lines, and so many microseconds into what follows them, which is
    // a step, the writing of a checkpoint, or the pruning of old ones.
    for (attempt, microseconds) in [0, 300, 900, 2_000, 3_500, 5_000].into_iter().enumerate() {
        let mut child = start(train(&run, &FLAGS).arg("--resume"), 1 + attempt % 2);
        std::thread::sleep(std::time::Duration::from_micros(microseconds));
        // It may have ended already.
        let _ = child.kill();
        child.wait().unwrap();
    }
    assert_succeeds(train(&run, &FLAGS).arg("--resume"));
    assert!(weights_and_moments(&run, STEPS) == whole.0, "the resumed run ended elsewhere");
    assert_eq!(metrics(&run), whole.1);
    let checkpoints: Vec<_> =
        std::fs::read_dir(run.join("checkpoints")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(checkpoints.len(), 3, "{checkpoints:?}");
}

#[test]
fn interrupted_saves_and_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let whole = undisturbed(folder.path());
    let run = folder.path().join("interrupted");
    // No checkpoint but the one of the interruption.
    let flags = ["--save-every", "0", "--lr", "0.01", "--threads", "2", "--steps", "12"];
    let mut child = start(&mut train(&run, &flags), 3);
    signal(&child, "INT");
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}");
    assert_succeeds(train(&run, &flags).arg("--resume"));
    assert!(weights_and_moments(&run, STEPS) == whole.0, "the resumed run ended elsewhere");
    assert_eq!(metrics(&run), whole.1);
}

#[test]
fn a_longer_run_goes_on_where_a_shorter_one_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    let constant = ["--schedule", "constant", "--warmup", "2", "--accumulate", "2"];
    assert_succeeds(train(&whole, &constant).args(["--steps", "7"]));
    assert_succeeds(train(&parts, &constant).args(["--steps", "4"]));
    assert_succeeds(train(&parts, &constant).args(["--steps", "7", "--resume"]));
    assert!(weights_and_moments(&whole, 7) == weights_and_moments(&parts, 7));
}

/// A stable phase can be cooled down from wherever it has come to: what the cool-down's place changes lies after it.
#[test]
fn a_cooldown_may_be_moved_to_a_step_that_was_not_made() {
    let folder = tempfile::tempdir().unwrap();
    for schedule in ["wsd", "wsd-sqrt"] {
        let [whole, parts] = ["whole", "parts"].map(|name| folder.path().join(format!("{name}-{schedule}")));
        let flags =
            ["--schedule", schedule, "--warmup", "2", "--lr", "0.01", "--sample-every", "0", "--eval-every", "0"];
        assert_succeeds(train(&whole, &flags).args(["--steps", "8", "--cooldown", "3"]));
        assert_succeeds(train(&parts, &flags).args(["--steps", "4", "--cooldown", "0"]));
        let output = train(&parts, &["--steps", "8", "--cooldown", "3", "--resume"]).output().unwrap();
        assert!(output.status.success() && !crate::stderr(&output).contains("learning rate's schedule"));
        assert!(weights_and_moments(&whole, 8) == weights_and_moments(&parts, 8), "{schedule}");
        assert_eq!(metrics(&whole), metrics(&parts));
    }

    // Without --cooldown it is a fifth of the steps, and goes on as it was written down.
    let run = folder.path().join("default");
    assert_succeeds(train(&run, &["--schedule", "wsd"]).args([
        "--steps",
        "10",
        "--warmup",
        "0",
        "--lr",
        "0.01",
        "--sample-every",
        "0",
        "--save-every",
        "0",
    ]));
    assert!(std::fs::read_to_string(run.join("config.toml")).unwrap().contains("\ncooldown = 2\n"));
    let rate = |line: &serde_json::Value| line.get("lr")?.as_f64();
    let lines = json_lines(&std::fs::read_to_string(run.join("metrics.jsonl")).unwrap());
    let rates: Vec<f64> = lines.iter().filter_map(rate).collect();
    assert_eq!(rates, [vec![0.01; 9], vec![0.005]].concat());
    let output = train(&run, &["--steps", "20", "--resume"]).output().unwrap();
    let told = crate::stderr(&output);
    assert!(told.contains("20 steps with a cool-down of 2, not of 10 with a cool-down of 2"), "{told}");
}

#[test]
fn a_finished_run_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert_succeeds(&mut train(&run, &["--steps", "2"]));
    let before = weights_and_moments(&run, 2);
    assert_succeeds(&mut train(&run, &["--steps", "2", "--resume"]));
    assert!(weights_and_moments(&run, 2) == before);
}

/// As a kill between the last checkpoint and the removal of the oldest leaves them.
#[test]
fn a_checkpoint_too_many_is_removed_even_if_no_step_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let flags =
        |keep| ["--steps", "4", "--save-every", "1", "--eval-every", "0", "--sample-every", "0", "--keep", keep];
    assert_succeeds(&mut train(&run, &flags("4")));
    assert_succeeds(train(&run, &flags("2")).arg("--resume"));
    let kept = igpt_engine::run::checkpoints::list(&run).unwrap();
    assert_eq!(kept.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn what_decides_the_numbers_cannot_change() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert_succeeds(&mut train(&run, &["--steps", "2"]));
    let before = weights_and_moments(&run, 2);
    for (flags, key) in [
        (["--width", "32"], "width"),
        (["--layers", "3"], "layers"),
        (["--seed", "1"], "seed"),
        (["--batch", "8"], "batch"),
        (["--norm", "layer"], "norm"),
    ] {
        let message = assert_refused(train(&run, &["--steps", "4", "--resume"]).args(flags));
        assert!(message.contains(key) && message.contains("--init"), "{message}");
    }
    assert!(assert_refused(&mut train(&run, &["--steps", "4"])).contains("--resume"));
    assert!(weights_and_moments(&run, 2) == before);
}

#[test]
fn fewer_steps_than_made_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert_succeeds(&mut train(&run, &["--steps", "3"]));
    let config = std::fs::read(run.join("config.toml")).unwrap();
    let message = crate::assert_refused(&mut train(&run, &["--steps", "2", "--resume"]));
    assert!(message.contains("has made 3 steps"), "{message}");
    assert!(std::fs::read(run.join("config.toml")).unwrap() == config, "the settings should have stayed");
}
