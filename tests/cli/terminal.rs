//! What a terminal is shown, by `script`, which gives a command one.

use std::process::Command;

use crate::train;

/// What a run prints on a terminal of the kind `term`.
fn on_a_terminal(term: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--steps", "3", "--eval-every", "0", "--sample-every", "0"];
    let run = train(&folder.path().join("run"), &flags);
    let binary = [run.get_program()].into_iter();
    let words = binary.chain(run.get_args()).map(|word| word.to_str().unwrap().to_owned());
    let line = words.collect::<Vec<_>>().join(" ");
    let output = Command::new("script").args(["-qec", &line, "/dev/null"]).env("TERM", term).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Editors' shells and some build servers have terminals that cannot move the cursor.
#[test]
fn a_dumb_terminal_gets_the_lines_of_a_log() {
    let shown = on_a_terminal("dumb");
    assert!(shown.contains("step 1/3: loss") && shown.contains("step 3/3: loss"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown}");
    let shown = on_a_terminal("xterm");
    assert!(shown.contains('\u{1b}') && !shown.contains("step 1/3"), "{shown}");
}
