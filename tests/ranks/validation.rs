//! Validation images that ranks share out among them: what one process finds, to the bit.

use std::path::Path;

use serde_json::Value;
use test_support::in_turn;

use crate::{Libraries, Rank, Ranks, engine, place, port, state};

/// Everything that a run's validations found but the time.
fn validations(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let without_time = |mut line: Value| {
        line.as_object_mut().unwrap().remove("elapsed");
        line
    };
    lines.filter(|line| line.get("val_loss").is_some()).map(without_time).collect()
}

/// Seven images two at a time, of which two ranks have four and three; three ranks have a last one with one image alone. Of two images at
/// a time three ranks have work for one. Autoregressive models and BERT, whose images count alike however many pixels are masked: one of these cases a run of the
/// tests.
#[test]
fn any_number_of_ranks_finds_the_same() {
    let Some(libraries) = Libraries::new() else { return };
    let (_folder, run) = place();
    for objective in in_turn(["ar", "bert"], 2) {
        for (images, at_a_time, worlds) in in_turn([("7", "2", &[2, 3][..]), ("2", "2", &[3]), ("5", "100", &[2])], 3) {
            let flags = [
                "--steps",
                "2",
                "--reduction",
                "exact",
                "--objective",
                objective,
                "--eval-every",
                "1",
                "--eval-images",
            ];
            let flags = [&flags[..], &[images, "--eval-batch", at_a_time]].concat();
            let name = |ranks: usize| run(&format!("{objective} {images} on {ranks}"));
            libraries.train(1, &name(1), &flags, &[]).succeed();
            let expected = validations(&name(1));
            assert_eq!(expected.len(), 2);
            assert_eq!(expected[0]["images"].to_string(), images);
            for ranks in worlds {
                libraries.train(*ranks, &name(*ranks), &flags, &[]).succeed();
                assert_eq!(validations(&name(*ranks)), expected, "{objective}: {images} images on {ranks} ranks");
                assert!(state(&name(*ranks), 2) == state(&name(1), 2), "{objective} on {ranks} ranks");
            }
        }
    }
}

/// Accuracy and class loss of fine-tuning, and the best weights that hang on them.
#[test]
fn accuracies_are_the_same_and_the_best_weights_too() {
    let Some(libraries) = Libraries::new() else { return };
    let (_folder, run) = place();
    libraries.train(1, &run("base"), &["--steps", "1"], &[]).succeed();
    let tune = |ranks: usize| {
        let port = port();
        let start = |rank| {
            let mut command = libraries.rank(engine(), [rank, ranks], port);
            command.args(["finetune", "--checkpoint"]).arg(run("base")).args(["--device", "cuda", "--batch", "2"]);
            command.args(["--global-batch", "6", "--steps", "3", "--eval-every", "1", "--eval-images", "11"]);
            command.args(["--save-every", "0", "--reduction", "exact", "--no-tensorboard", "--lr", "0.003"]);
            Rank::start(command.arg("--out").arg(run(&format!("on {ranks}"))))
        };
        Ranks { ranks: (0..ranks).map(start).collect(), port }.succeed()
    };
    let best = |printed: &str| {
        let line = printed.lines().find(|line| line.starts_with("best"));
        line.unwrap_or_else(|| panic!("no best: {printed}")).to_owned()
    };
    let expected = best(&tune(1));
    let found = validations(&run("on 1"));
    assert!(found.len() == 3 && found.iter().all(|line| line.get("accuracy").is_some()), "{found:?}");
    assert_eq!(best(&tune(3)), expected);
    assert_eq!(validations(&run("on 3")), found);
    assert!(state(&run("on 3"), 3) == state(&run("on 1"), 3));
}
