//! The optimiser in the host's memory of several ranks: of all of it, or of each rank's parts.

use test_support::{has_turn, in_turn};

use crate::{Libraries, numbers, place, state};

/// A level on one to three ranks, in one of both precisions a run of the tests, and a run that moves it on the way, against one rank that
/// has it on its card.
#[test]
fn where_the_optimiser_of_ranks_lies_changes_no_bit() {
    if !has_turn(1, 2) {
        return;
    }
    let Some(libraries) = Libraries::new() else { return };
    let (_folder, run) = place();
    for precision in in_turn(["bf16", "f32"], 2) {
        let flags = |steps: &'static str| {
            ["--reduction", "exact", "--ema", "0.9", "--layers", "2", "--steps", steps, "--precision", precision]
        };
        let name = |name: &str| run(&format!("{name} in {precision}"));
        libraries.train(1, &name("kept"), &flags("2"), &[]).succeed();
        let expected = (state(&name("kept"), 2), numbers(&name("kept")));
        for (ranks, level) in in_turn([(1, "0"), (2, "0"), (2, "1"), (3, "2")], 3) {
            let out = name(&format!("{ranks} at {level}"));
            let flags = [&flags("2")[..], &["--zero", level, "--offload-optimizer"]].concat();
            libraries.train(ranks, &out, &flags, &[]).succeed();
            assert_eq!(numbers(&out), expected.1, "{ranks} at {level} in {precision}");
            assert!(
                state(&out, 2) == expected.0,
                "{ranks} at {level} in {precision}: other weights, averages or moments"
            );
        }

        // From the host of two ranks to the cards of three.
        let moves = [(2, "1", "1", "--offload-optimizer=true"), (3, "2", "2", "--offload-optimizer=false")];
        for (ranks, level, steps, offload) in moves {
            let flags = [&flags(steps)[..], &["--resume", "--zero", level, offload]].concat();
            libraries.train(ranks, &name("moved"), &flags, &[]).succeed();
        }
        assert!(state(&name("moved"), 2) == expected.0, "moved on the way in {precision}");
    }
}
