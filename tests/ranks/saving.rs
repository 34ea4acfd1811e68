//! Checkpoints that the ranks' threads write while training goes on.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use test_support::{has_turn, in_turn};

use crate::{Libraries, numbers, place, state, tensor_files};

const FLAGS: [&str; 8] = ["--reduction", "exact", "--ema", "0.9", "--save-every", "1", "--keep", "9"];

/// Names and contents of a folder's files of tensors, and the names of all.
fn files(folder: &Path) -> (Vec<(String, Vec<u8>)>, Vec<String>) {
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let tensors = tensor_files(folder).iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect();
    let mut all: Vec<String> = std::fs::read_dir(folder).unwrap().map(|entry| name(&entry.unwrap().path())).collect();
    all.sort();
    (tensors, all)
}

/// Every checkpoint of a run, at one of the levels a run of the tests, is, file by file, what it is where training stands still; nothing
/// else is left in it.
#[test]
fn they_are_the_bytes_of_those_that_training_stood_still_for() {
    let Some(libraries) = Libraries::new() else { return };
    let (_folder, run) = place();
    for (ranks, zero) in in_turn([(1, "0"), (2, "0"), (3, "2"), (2, "1")], 4) {
        let flags = [&FLAGS[..], &["--steps", "3", "--zero", zero]].concat();
        let [still, going] = ["still", "going"].map(|name| run(&format!("{name} {ranks} {zero}")));
        libraries.train(ranks, &still, &[&flags[..], &["--sync-checkpoints"]].concat(), &[]).succeed();
        libraries.train(ranks, &going, &flags, &[]).succeed();
        for step in 1..=3 {
            let at = |run: &Path| files(&run.join(format!("checkpoints/step-{step:08}")));
            let (expected, got) = (at(&still), at(&going));
            assert_eq!(got.1, expected.1, "{ranks} ranks at {zero}, step {step}");
            assert!(got.0 == expected.0, "{ranks} ranks at {zero}, step {step}: other bytes");
        }
        assert_eq!(std::fs::read_dir(going.join("checkpoints")).unwrap().count(), 3);
        assert_eq!(numbers(&going), numbers(&still));
        let text = std::fs::read_to_string(going.join("metrics.jsonl")).unwrap();
        assert!(text.contains("\"save_stall_ms\":") && text.contains("\"save_write_ms\":"), "{text}");
    }
}

/// A rank that cannot write its part ends all of them as it does where training stands still: with its own words and exit code, and with
/// the checkpoints before whole.
#[test]
fn a_part_that_cannot_be_written_ends_all_ranks_and_leaves_the_checkpoint_before() {
    if !has_turn(0, 3) {
        return;
    }
    let Some(libraries) = Libraries::new() else { return };
    let (_folder, run) = place();
    for (limited, mode) in [(0, "--sync-checkpoints"), (1, "--sync-checkpoints"), (0, "--no-graph"), (1, "--no-graph")]
    {
        let out = run(&format!("{limited} {mode}"));
        let ranks = libraries.train(2, &out, &[&FLAGS[..], &["--steps", "200", mode]].concat(), &[]);

        // Once a step is made, the rank may write no file beyond 16 KB: less than its part of the weights, more than the metrics have.
        wait_for_steps(&out, 1);
        let pid = ranks.ranks[limited].child.id().to_string();
        assert!(Command::new("prlimit").args(["--fsize=16384", "--pid", &pid]).status().unwrap().success());
        let ended = ranks.end();
        let what = format!("rank {limited}, {mode}: {ended:#?}");
        assert!(ended[limited].code == Some(2) && ended[limited].error.contains("File too large"), "{what}");
        let other = format!("error: rank {limited} failed at the saving of a checkpoint, as it says itself");
        let ended_other = &ended[1 - limited];
        assert!(ended_other.code == Some(3) && ended_other.error.contains(&other), "{what}");
        assert!(!ended_other.error.contains("File too large"), "{what}");

        let saved = igpt_engine::run::checkpoints::list(&out).unwrap();
        let left = std::fs::read_dir(out.join("checkpoints")).map_or(0, Iterator::count);
        assert_eq!(left, saved.len(), "something was left beside the checkpoints: {what}");
        saved.iter().for_each(|(_, path)| igpt_engine::checkpoint::verify(path).unwrap());
        assert!(saved.len() < 9 && numbers(&out).len() < 60, "it was noticed late: {what}");
    }
}

/// Both ranks killed again and again while checkpoints are written, each time going on from the last whole one: the end of a run that nothing
/// disturbed.
#[test]
fn killed_ranks_go_on_from_the_last_whole_one() {
    if !has_turn(1, 2) {
        return;
    }
    let Some(libraries) = Libraries::new() else { return };
    let (_folder, run) = place();
    let flags = ["--reduction", "exact", "--save-every", "1", "--steps", "8"];
    libraries.train(1, &run("whole"), &flags, &[]).succeed();
    let killed = run("killed");
    let steps = || numbers_or_none(&killed);
    for (milliseconds, zero) in [(0, "1"), (30, "2"), (70, "1"), (15, "0")] {
        let before = steps();
        let mut ranks = libraries.train(2, &killed, &[&flags[..], &["--resume", "--zero", zero]].concat(), &[]);
        // Until a step was made that is not cut off, or the run is over.
        let until = Instant::now() + Duration::from_secs(60);
        while steps() <= before && steps() < 8 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(milliseconds));
        for rank in &mut ranks.ranks {
            let _ = rank.child.kill();
        }
        ranks.end();
    }
    libraries.train(2, &killed, &[&flags[..], &["--resume"]].concat(), &[]).succeed();
    assert!(state(&killed, 8) == state(&run("whole"), 8), "the resumed run ended elsewhere");
    assert_eq!(numbers(&killed), numbers(&run("whole")));
    let mut names: Vec<_> =
        std::fs::read_dir(killed.join("checkpoints")).unwrap().map(|it| it.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["step-00000006", "step-00000007", "step-00000008"]);
}

/// Steps in a run's metrics, if there are any.
fn numbers_or_none(run: &Path) -> usize {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    text.lines().filter(|line| line.contains("grad_norm")).count()
}

/// Waits until a run has made so many steps.
fn wait_for_steps(run: &Path, steps: usize) {
    let until = Instant::now() + Duration::from_secs(120);
    while numbers_or_none(run) < steps {
        assert!(Instant::now() < until, "no {steps} steps in two minutes");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A signal while a checkpoint is on its way: it is waited for, and the one of the last step too.
#[test]
fn a_signal_waits_for_what_is_being_written() {
    let Some(libraries) = Libraries::new() else { return };
    let (_folder, run) = place();
    let ranks = libraries.train(2, &run("stopped"), &[&FLAGS[..], &["--steps", "200"]].concat(), &[]);
    wait_for_steps(&run("stopped"), 2);
    let pid = ranks.ranks[0].child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let printed = ranks.succeed();
    let made = numbers(&run("stopped")).len() as u64;
    assert!(printed.contains(&format!("stopped and saved after step {made}")), "{printed}");
    let saved = igpt_engine::run::checkpoints::list(&run("stopped")).unwrap();
    assert_eq!(saved.last().unwrap().0, made);
    assert_eq!(std::fs::read_dir(run("stopped").join("checkpoints")).unwrap().count(), saved.len());
    igpt_engine::checkpoint::verify(&saved.last().unwrap().1).unwrap();
}
