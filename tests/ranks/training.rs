//! Steps that ranks share: the same numbers on any number of ranks, or nearly so.

use test_support::has_turn;

use crate::{Libraries, numbers, place, state};

const STEPS: u64 = 3;
const EXACT: [&str; 4] = ["--reduction", "exact", "--steps", "3"];

/// One, two and three ranks: the same bits of weights and moments, losses and norms. Levels of ZeRO, and runs whose ranks change, are in `zero`.
#[test]
fn exact_sums_are_the_same_on_any_number_of_ranks() {
    let Some(libraries) = Libraries::new() else { return };
    let (_folder, run) = place();
    libraries.train(1, &run("one"), &EXACT, &[]).succeed();
    let expected = (state(&run("one"), STEPS), numbers(&run("one")));
    assert_eq!(expected.1.len(), 3);

    for (ranks, name) in [(2, "two"), (3, "three")] {
        let printed = libraries.train(ranks, &run(name), &EXACT, &[]).succeed();
        assert!(printed.contains("done: 3 steps"), "{printed}");
        assert_eq!(numbers(&run(name)), expected.1, "{ranks} ranks");
        assert!(state(&run(name), STEPS) == expected.0, "{ranks} ranks train other weights");
        assert!(!run(name).join("ranks").exists());
    }
}

/// Other orders of summation differ by roundings alone. An element of the gradient is a sum of n = 6 · 16 products (rows of the six
/// micro-batches), which any order of f32 sums is off from by at most (n - 1) 2⁻²⁴ of the sum of its terms' sizes; so two orders
/// are off from each other by at most twice that, and norms by no more than their elements. Terms cancel: the sum of their sizes is
/// more than the size of their sum, here taken to be 16 times as much at most.
pub const BOUND: f64 = 16.0 * 2.0 * 95.0 / 16_777_216.0;

#[test]
fn other_sums_are_near_and_repeat() {
    if !has_turn(2, 3) {
        return;
    }
    let Some(libraries) = Libraries::new() else { return };
    let (_folder, run) = place();
    let flags = |reduction| ["--steps", "1", "--precision", "f32", "--reduction", reduction];
    libraries.train(1, &run("exact"), &flags("exact"), &[]).succeed();
    let expected = numbers(&run("exact"))[0];
    let runs = [("alone", 1, "repeatable"), ("fast", 2, "fast"), ("one", 2, "repeatable"), ("two", 2, "repeatable")];
    for (name, ranks, reduction) in runs {
        libraries.train(ranks, &run(name), &flags(reduction), &[]).succeed();
        // The step is of the same weights: losses are the same bits, gradients nearly.
        let got = numbers(&run(name))[0];
        let off = (got.2 - expected.2).abs() / expected.2;
        println!("{name}: norm off by {off:.1e}, allowed {BOUND:.1e}");
        assert_eq!(got.1, expected.1, "{name}");
        assert!(off <= BOUND, "{name}: norm {} and not {}", got.2, expected.2);
    }
    assert!(state(&run("one"), 1) == state(&run("two"), 1), "two runs on two ranks differ");
}

/// All ranks validate, and rank 0 draws; what they find is what one process finds, and the steps around it are the same.
#[test]
fn validations_between_shared_steps_change_nothing() {
    if !has_turn(0, 2) {
        return;
    }
    let Some(libraries) = Libraries::new() else { return };
    let (_folder, run) = place();
    let validated =
        ["--steps", "2", "--reduction", "exact", "--eval-every", "1", "--eval-images", "4", "--sample-every", "2"];
    libraries.train(1, &run("alone"), &validated, &[]).succeed();
    libraries.train(2, &run("two"), &validated, &[]).succeed();
    let validations = |name: &str| {
        let text = std::fs::read_to_string(run(name).join("metrics.jsonl")).unwrap();
        let of = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            Some((line.get("step")?.as_u64()?, line.get("val_loss")?.as_f64()?))
        };
        text.lines().filter_map(of).collect::<Vec<_>>()
    };
    assert_eq!(validations("alone").len(), 2);
    assert_eq!(validations("two"), validations("alone"));
    assert!(run("two").join("samples/step-00000002.png").is_file());
    assert!(state(&run("two"), 2) == state(&run("alone"), 2));
}
