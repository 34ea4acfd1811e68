//! Accidents in the middle of a run: what was made is kept, and what is missing is said.

use std::path::Path;
use std::process::{Child, Stdio};

use crate::resume::metrics;
use crate::{assert_refused, assert_succeeds, checkpoint, engine, json_lines, stderr, train, weights_and_moments};

/// Forty JPEGs of noise in `photos/{a,b}`, of which `broken`, if any, ends early: its header is sound.
fn photographs(photos: &Path, broken: Option<usize>) {
    for index in 0..40_usize {
        let folder = photos.join(["a", "b"][index % 2]);
        std::fs::create_dir_all(&folder).unwrap();
        let pixels = image::RgbImage::from_fn(32, 32, |x, y| {
            image::Rgb([x, y, x * y].map(|value| (value as usize * (index + 3) * 37 % 251) as u8))
        });
        let path = folder.join(format!("{index:02}.jpg"));
        pixels.save(&path).unwrap();
        if broken == Some(index) {
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..bytes.len() * 6 / 10]).unwrap();
        }
    }
}

/// The step of a run's only checkpoint.
fn only_step(run: &Path) -> u64 {
    let [(step, _)] = igpt_engine::run::checkpoints::list(run).unwrap().try_into().unwrap();
    step
}

#[test]
fn a_bad_image_in_the_middle_keeps_the_steps_made_and_is_passed_over_on_resume() {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    photographs(&photos, Some(17));
    let data = format!("images:{}", photos.display());
    let quiet = ["--save-every", "0", "--eval-every", "0", "--sample-every", "0", "--holdout", "0", "--threads", "2"];
    let flags = [&["--data", &data, "--steps", "30", "--batch", "2", "--no-shuffle"][..], &quiet].concat();

    // File order: the bad one is the ninth of class b, behind the twenty of a.
    let run = folder.path().join("run");
    let message = assert_refused(&mut train(&run, &flags));
    assert!(message.contains("17.jpg") && message.contains("steps that were made are saved"), "{message}");
    assert_eq!(only_step(&run), 14);
    let message = assert_refused(train(&run, &flags).arg("--resume"));
    assert!(message.contains("17.jpg"), "still bad: {message}");
    assert_succeeds(train(&run, &flags).args(["--resume", "--skip-bad"]));

    // As if it had been passed over from the start.
    let whole = folder.path().join("whole");
    assert_succeeds(train(&whole, &flags).arg("--skip-bad"));
    assert!(weights_and_moments(&run, 30) == weights_and_moments(&whole, 30));
    assert_eq!(metrics(&run), metrics(&whole));
}

/// Fine-tuning the same: the labels of the images that are left stay with them.
#[test]
fn a_bad_image_in_fine_tuning_keeps_the_steps_made_too() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base");
    assert_succeeds(&mut train(&base, &["--steps", "1", "--eval-every", "0", "--sample-every", "0"]));
    let photos = folder.path().join("photos");
    photographs(&photos, Some(17));
    let data = format!("images:{}", photos.display());
    let finetune = |run: &Path| {
        let mut command = engine();
        command.arg("finetune").arg("--checkpoint").arg(&base).arg("--out").arg(run).args(["--data", &data]);
        command.args(["--steps", "20", "--batch", "2", "--no-shuffle", "--holdout", "0", "--save-every", "0"]);
        command.args(["--threads", "2"]);
        command
    };

    let run = folder.path().join("run");
    let message = assert_refused(&mut finetune(&run));
    assert!(message.contains("17.jpg") && message.contains("steps that were made are saved"), "{message}");
    assert_eq!(only_step(&run), 14);
    assert_succeeds(finetune(&run).args(["--resume", "--skip-bad"]));

    let whole = folder.path().join("whole");
    assert_succeeds(finetune(&whole).arg("--skip-bad"));
    assert!(weights_and_moments(&run, 20) == weights_and_moments(&whole, 20));
    assert_eq!(metrics(&run), metrics(&whole));
}

#[test]
fn a_diverging_run_saves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let message =
        assert_refused(&mut train(&run, &["--steps", "9", "--lr", "1e30", "--warmup", "0", "--save-every", "0"]));
    assert!(message.contains("diverged") && !message.contains("are saved"), "{message}");
    assert_eq!(igpt_engine::run::checkpoints::list(&run).unwrap(), []);
}

/// Steps that are not finite are skipped, said once, logged, and end the run when there are too many in a row; the number is free
/// on resume.
#[test]
fn steps_that_are_not_finite_are_skipped_until_there_are_too_many() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let flags = ["--steps", "40", "--warmup", "0", "--schedule", "constant", "--lr", "1e30", "--save-every", "0"];
    let quiet = ["--eval-every", "0", "--sample-every", "0", "--max-skipped", "4"];
    let output = train(&run, &[&flags[..], &quiet].concat()).arg("--json").output().unwrap();
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    for words in ["4 in a row, as many as --max-skipped allows", "--clip 1", "diverged", "nvidia-smi -q"] {
        assert!(told.contains(words), "no {words}: {told}");
    }
    assert_eq!(told.matches("was skipped, since its loss is").count(), 1, "said once: {told}");

    // Two updates, the second of a loss as large as its weights, and then none that could be made from those.
    let skipped = |text: &str| -> Vec<Option<u64>> {
        let steps = json_lines(text).into_iter().filter(|line| line.get("grad_norm").is_some());
        steps.map(|line| line.get("skipped").map(|count| count.as_u64().unwrap())).collect()
    };
    let expected = [None, None, Some(1), Some(2), Some(3), Some(4)];
    assert_eq!(skipped(&String::from_utf8(output.stdout).unwrap()), expected);
    assert_eq!(skipped(&std::fs::read_to_string(run.join("metrics.jsonl")).unwrap()), expected);
    assert_eq!(igpt_engine::run::checkpoints::list(&run).unwrap(), [], "weights without a finite loss are not saved");

    // From the start again, since nothing was saved.
    let message =
        assert_refused(train(&run, &[&flags[..], &quiet[..4]].concat()).args(["--resume", "--max-skipped", "2"]));
    assert!(message.contains("2 in a row"), "{message}");
}

/// Waits for a run that succeeds; returns what it told.
fn told(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    stderr(&output)
}

#[test]
fn a_run_folder_that_vanishes_is_made_again_whole() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let flags = ["--steps", "30", "--save-every", "0", "--eval-every", "0", "--sample-every", "0"];
    let mut command = train(&run, &flags);
    let mut child = command.arg("--json").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains("\"loss\"")));
    std::fs::remove_dir_all(&run).unwrap();
    lines.for_each(drop);

    let told = told(child);
    assert!(told.contains("removed or moved while the run was training; it is made again"), "{told}");
    assert_eq!(metrics(&run).len(), 30, "the lines from before are kept");
    assert!(run.join("report.html").is_file());
    let more = ["--steps", "31", "--eval-every", "0", "--sample-every", "0", "--resume"];
    assert_succeeds(engine().arg("train").args(more).arg("--out").arg(&run));
}

#[test]
fn metrics_that_were_shortened_are_said_on_resume() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert_succeeds(&mut train(&run, &["--steps", "6"]));
    let path = run.join("metrics.jsonl");
    let whole = std::fs::read_to_string(&path).unwrap();
    let resume = || stderr(&train(&run, &["--steps", "6", "--resume"]).output().unwrap());
    assert!(!resume().contains("metrics.jsonl"));

    let half = &whole[..whole.len() / 2];
    let left = json_lines(half.rsplit_once('\n').unwrap().0).iter().filter(|line| line.get("loss").is_some()).count();
    for (text, held) in [(Some(half), left), (Some(""), 0), (None, 0)] {
        match text {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let told = resume();
        assert!(told.contains(&format!("metrics.jsonl holds {held} of the 6 steps")), "{told}");
    }
}

#[test]
fn resume_says_what_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("typo");
    let resume = |steps| {
        let output = train(&run, &["--steps", steps, "--resume"]).output().unwrap();
        assert!(output.status.success());
        stderr(&output)
    };
    assert!(resume("2").contains("no run in"));
    assert!(!resume("2").contains("no run in"));

    // A run whose checkpoints are gone.
    std::fs::remove_dir_all(checkpoint(&run, 2).parent().unwrap()).unwrap();
    let told = resume("2");
    assert!(told.contains("no checkpoint, so the run starts anew"), "{told}");
}

#[test]
fn more_steps_say_where_the_learning_rate_goes() {
    let folder = tempfile::tempdir().unwrap();
    for (schedule, moves) in [("cosine", true), ("constant", false)] {
        let run = folder.path().join(schedule);
        let flags = ["--lr", "0.01", "--warmup", "0", "--schedule", schedule];
        assert_succeeds(train(&run, &flags).args(["--steps", "2"]));
        let output = train(&run, &flags).args(["--steps", "6", "--resume"]).output().unwrap();
        let told = stderr(&output);
        assert!(output.status.success(), "{told}");
        // Half a cosine of two steps at its second, and of six steps at its third.
        let said = "schedule is now that of 6 steps, not of 2: it was 5.00e-3 at step 2 and is 7.50e-3 at step 3";
        assert_eq!(told.contains(said), moves, "{told}");
    }
}

#[test]
fn a_palette_of_another_size_is_named_on_resume() {
    let folder = tempfile::tempdir().unwrap();
    let (run, palette) = (folder.path().join("run"), folder.path().join("palette.npy"));
    let fit = |colours: &str| {
        let args = ["data", "palette", "--data", "sample", "--resolution", "8", "--colours", colours, "--out"];
        assert_succeeds(engine().args(args).arg(&palette));
    };
    fit("4");
    let flags = ["--palette", palette.to_str().unwrap(), "--sample-every", "0"];
    assert_succeeds(train(&run, &flags).args(["--steps", "2"]));
    std::fs::remove_file(&palette).unwrap();
    fit("6");
    let message = assert_refused(train(&run, &flags).args(["--steps", "4", "--resume"]));
    assert!(message.contains("palette"), "{message}");
}
