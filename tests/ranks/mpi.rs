//! Ranks on CPUs, by a real `mpirun`: this program is built with the feature `mpi` then.

use std::path::Path;
use std::process::Command;

use crate::{RUN, engine, numbers, place, state};

/// The binary under mpirun, or alone for one rank.
#[track_caller]
fn train(ranks: usize, out: &Path, flags: &[&str]) {
    let ranks_of = |ranks: usize| {
        let mut command = Command::new("mpirun");
        let as_root = ["--allow-run-as-root", "--oversubscribe", "--mca", "btl_vader_backing_directory"];
        command.args(as_root).arg(out.parent().unwrap()).arg("-n").arg(ranks.to_string()).arg(engine());
        command
    };
    let mut command = if ranks == 1 { Command::new(engine()) } else { ranks_of(ranks) };
    command.args(RUN).args(["--device", "cpu", "--threads", "1"]).args(flags).arg("--out").arg(out);
    let output = command.env("RAYON_NUM_THREADS", "1").output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.matches("done: ").count(), 1, "every rank speaks, or none: {text}");
}

#[test]
fn exact_sums_are_the_same_on_any_number_of_ranks() {
    let (_folder, run) = place();
    let flags = ["--reduction", "exact", "--steps", "3", "--eval-every", "2", "--eval-images", "4"];
    train(1, &run("one"), &flags);
    let expected = (state(&run("one"), 3), numbers(&run("one")));
    for (ranks, level, name) in [(2, "0", "two"), (2, "1", "two at 1"), (3, "2", "three")] {
        train(ranks, &run(name), &[&flags[..], &["--zero", level]].concat());
        assert_eq!(numbers(&run(name)), expected.1, "{ranks} ranks at level {level}");
        assert!(state(&run(name), 3) == expected.0, "{ranks} ranks at level {level} train other weights");
    }

    // Elastic.
    for (ranks, steps) in [(2, "1"), (3, "2"), (1, "3")] {
        train(ranks, &run("elastic"), &[&flags[..2], &["--resume", "--steps", steps]].concat());
    }
    assert!(state(&run("elastic"), 3) == expected.0, "a run on 2, 3 and 1 ranks trains other weights");
}

/// Within the bound of `training`.
#[test]
fn other_sums_are_near() {
    let (_folder, run) = place();
    train(1, &run("exact"), &["--reduction", "exact", "--steps", "1"]);
    let expected = numbers(&run("exact"))[0];
    for (name, reduction) in [("fast", "fast"), ("repeatable", "repeatable")] {
        train(2, &run(name), &["--reduction", reduction, "--steps", "1"]);
        let got = numbers(&run(name))[0];
        assert_eq!(got.1, expected.1);
        assert!(
            (got.2 - expected.2).abs() / expected.2 <= crate::training::BOUND,
            "{name}: {} and not {}",
            got.2,
            expected.2
        );
    }
}
