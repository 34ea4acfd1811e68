//! Whoever has no model yet is told how to make one, and the command does what it says.

use std::process::Command;

use crate::{assert_refused, assert_succeeds, engine};

const COMMANDS: [&str; 4] = ["sample", "serve", "eval", "probe"];

/// The lines of a message that are commands, each as words without the program's name.
fn commands(message: &str) -> Vec<Vec<String>> {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    message.lines().filter_map(|line| line.strip_prefix("  igpt-engine ")).map(words).collect()
}

#[test]
fn without_a_model_the_command_that_makes_one_is_named_and_makes_it() {
    let place = tempfile::tempdir().unwrap();
    let here = |arguments: &[String]| -> Command {
        let mut command = engine();
        command.current_dir(place.path()).args(arguments);
        command
    };
    let refusal = |command: &str| assert_refused(&mut here(&[command.to_owned()]));
    let offered: Vec<_> = COMMANDS.map(|command| commands(&refusal(command))).into();
    for (command, offered) in COMMANDS.iter().zip(&offered) {
        assert_eq!((offered.len(), offered[0][0].as_str(), offered[1][0].as_str()), (2, "train", *command));
        assert_eq!(offered[0], offered_training(&offered[0]), "{command}");
    }

    // Exactly that command, with a model that trains in a moment; then exactly those that use it.
    let mut small = here(&offered[0][0]);
    assert_succeeds(small.args([
        "--layers",
        "1",
        "--width",
        "16",
        "--heads",
        "2",
        "--resolution",
        "8",
        "--steps",
        "2",
    ]));
    for offered in &offered {
        if offered[1][0] != "serve" {
            let few: &[&str] = match offered[1][0].as_str() {
                "sample" => &["--count", "1", "--completions", "1"],
                "eval" => &["--images", "2"],
                _ => &["--images", "40", "--iterations", "3"],
            };
            assert_succeeds(here(&offered[1]).args(few));
        }
    }

    // From then on it is offered itself.
    for command in COMMANDS {
        let message = refusal(command);
        let [then] = commands(&message).try_into().unwrap();
        assert_eq!(then[..], [command, "--checkpoint", "runs/first"], "{message}");
    }
}

/// The training that all of them offer: the tiny model as it is, for fewer steps.
fn offered_training(words: &[String]) -> Vec<String> {
    assert!(words.iter().all(|word| !["--layers", "--width", "--resolution", "--data"].contains(&word.as_str())));
    ["train", "--steps", "300", "--out", "runs/first"].map(str::to_owned).into()
}
