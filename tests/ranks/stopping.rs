//! A signal to any rank stops all of them after the same step, with everything saved.

use std::process::Command;
use std::time::{Duration, Instant};

use test_support::has_turn;

use crate::{Libraries, numbers, place, state};

#[test]
fn a_signal_to_one_rank_saves_and_ends_all() {
    if !has_turn(1, 3) {
        return;
    }
    let Some(libraries) = Libraries::new() else { return };
    let (_folder, run) = place();
    let flags = ["--reduction", "exact", "--steps", "200"];
    let ranks = libraries.train(2, &run("stopped"), &flags, &[]);

    // To rank 1, once a step is done.
    let metrics = run("stopped").join("metrics.jsonl");
    let until = Instant::now() + Duration::from_secs(120);
    while std::fs::read_to_string(&metrics).unwrap_or_default().lines().count() < 2 {
        assert!(Instant::now() < until, "no step in two minutes");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = ranks.ranks[1].child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let printed = ranks.succeed();
    assert!(printed.contains("stopped and saved after step"), "{printed}");

    // What was saved is what one rank has after as many steps.
    let made = numbers(&run("stopped"));
    let steps = made.len() as u64;
    assert!(steps < 200);
    libraries.train(1, &run("alone"), &["--reduction", "exact", "--steps", &steps.to_string()], &[]).succeed();
    assert_eq!(numbers(&run("alone")), made);
    assert!(state(&run("stopped"), steps) == state(&run("alone"), steps));
}
