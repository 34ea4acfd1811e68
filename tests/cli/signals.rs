//! What a signal leaves: a run that is saved, or nothing half-written.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::resume::{signal, start};
use crate::{assert_succeeds, checkpoint, engine, train, weights_and_moments};

const STEPS: u64 = 20;
const FLAGS: [&str; 12] = [
    "--steps",
    "20",
    "--save-every",
    "0",
    "--eval-every",
    "0",
    "--sample-every",
    "0",
    "--lr",
    "0.01",
    "--threads",
    "2",
];

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Looks until `found` says so.
fn wait_until(mut found: impl FnMut() -> bool) {
    let start = Instant::now();
    while !found() {
        assert!(start.elapsed() < Duration::from_secs(60), "it did not happen within a minute");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A run whose first step takes long, in that step.
fn in_a_long_step(run: &Path) -> Child {
    let flags = ["--width", "256", "--heads", "8", "--layers", "8", "--resolution", "32", "--batch", "8"];
    let child = train(run, &flags).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until(|| run.join("metrics.jsonl").exists());
    // From there it is microseconds to the first step.
    std::thread::sleep(Duration::from_millis(300));
    child
}

#[test]
fn every_notice_to_end_saves_a_run_that_goes_on_undisturbed() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    assert_succeeds(&mut train(&whole, &FLAGS));
    for name in ["TERM", "HUP", "USR1", "USR2", "XCPU"] {
        let run = folder.path().join(name);
        let mut child = start(&mut train(&run, &FLAGS), 3);
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(0), "{name}");
        let [saved] = names(&run.join("checkpoints")).try_into().unwrap();
        assert!(*saved < *format!("step-{STEPS:08}"), "{name} should have ended the run early, at {saved}");

        assert_succeeds(train(&run, &FLAGS).arg("--resume"));
        assert!(weights_and_moments(&run, STEPS) == weights_and_moments(&whole, STEPS), "{name}");
    }
}

/// `nohup` starts a process with SIGHUP ignored.
#[test]
fn what_is_ignored_from_the_start_stays_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut ignoring = Command::new("sh");
    ignoring.args(["-c", "trap '' HUP TERM; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_igpt-engine")]);
    let plain = train(&run, &FLAGS);
    let mut child = start(ignoring.args(plain.get_args()), 3);
    signal(&child, "HUP");
    signal(&child, "TERM");
    assert!(child.wait().unwrap().success());
    assert!(checkpoint(&run, STEPS).is_dir(), "the run should have gone on to its end");
}

/// `timeout` signals the process and then its group, so a run under it gets everything twice.
#[test]
fn one_request_sent_twice_is_no_second_one() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut command = Command::new("timeout");
    command.args(["1000", env!("CARGO_BIN_EXE_igpt-engine")]).args(train(&run, &FLAGS).get_args()).process_group(0);
    let mut child = start(&mut command, 3);
    signal(&child, "TERM");
    child.wait().unwrap();
    wait_until(|| !names(&run.join("checkpoints")).is_empty());
}

#[test]
fn a_second_request_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for (first, second, code) in [("INT", "INT", 130), ("USR1", "TERM", 0), ("HUP", "HUP", 0), ("TERM", "TERM", 143)] {
        let run = folder.path().join(format!("{first}-{second}"));
        if code == 0 {
            // A notice before the end, or one that is repeated, asks once.
            let mut child = start(&mut train(&run, &FLAGS), 3);
            signal(&child, first);
            let _ = Command::new("kill")
                .args([format!("-{second}"), child.id().to_string()])
                .stderr(Stdio::null())
                .status();
            assert_eq!(child.wait().unwrap().code(), Some(0), "{first}, {second}");
            continue;
        }
        let mut child = in_a_long_step(&run);
        signal(&child, first);
        std::thread::sleep(Duration::from_millis(300));
        assert!(child.try_wait().unwrap().is_none(), "the first one should wait for the step");
        signal(&child, second);
        assert_eq!(child.wait().unwrap().code(), Some(code), "{first}, {second}");
        assert_eq!(names(&run.join("checkpoints")), [""; 0]);
    }
}

/// A command without work to keep ends at the first signal, as shells count it, and takes its temporary files away.
#[test]
fn a_command_that_keeps_nothing_leaves_nothing() {
    // Minutes of work: one picture under many names.
    let pictures = tempfile::tempdir().unwrap();
    let class = pictures.path().join("train/cat");
    std::fs::create_dir_all(&class).unwrap();
    let picture = image::RgbImage::from_fn(900, 900, |x, y| image::Rgb([x * y, x ^ y, y].map(|value| value as u8)));
    picture.save(class.join("0.png")).unwrap();
    (1..3000).for_each(|n| std::fs::hard_link(class.join("0.png"), class.join(format!("{n}.png"))).unwrap());

    let folder = tempfile::tempdir().unwrap();
    for (name, code) in [("INT", 130), ("TERM", 143), ("HUP", 129), ("USR1", 138)] {
        let mut command = engine();
        command.args(["data", "encode", "--workers", "1", "--holdout", "0", "--data"]);
        command.arg(format!("images:{}", pictures.path().display())).arg("--out").arg(folder.path().join("tokens.npy"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until(|| !names(folder.path()).is_empty());
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(code), "{name}");
        assert_eq!(names(folder.path()), [""; 0], "{name}");
    }
}
