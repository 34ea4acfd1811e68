//! Fine-tuning, end to end: on images that can be told apart it learns to, and it stops, resumes and refuses as it should.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::evaluate::eval;
use crate::resume::{signal, start};
use crate::{assert_refused, assert_succeeds, checkpoint, engine, json_lines, train, weights_and_moments};

/// CIFAR-10 files of images whose class is the quarter that is bright: nothing but where light falls tells them apart, and
/// flips and crops of the augmentation would mix left and right, so it is upper, lower, middle and border.
pub fn toy(folder: &Path) -> String {
    let data = folder.join("toy");
    fs::create_dir_all(&data).unwrap();
    for (file, images) in [("data_batch_1.bin", 160_usize), ("test_batch.bin", 40)] {
        let mut bytes = Vec::new();
        for image in 0..images {
            let class = image % 4;
            bytes.push(class as u8);
            for pixel in 0..3 * 1024 {
                let (row, column) = (pixel % 1024 / 32, pixel % 32);
                let middle = (8..24).contains(&row) && (8..24).contains(&column);
                let bright = [row < 16, row >= 16, middle, !middle][class];
                let noise = (image * 7919 + pixel * 104_729) % 61;
                bytes.push((if bright { 170 } else { 20 } + noise) as u8);
            }
        }
        fs::write(data.join(file), bytes).unwrap();
    }
    let names = ["upper", "lower", "middle", "border", "e", "f", "g", "h", "i", "j"];
    fs::write(data.join("batches.meta.txt"), names.join("\n")).unwrap();
    format!("cifar10:{}", data.display())
}

/// A pre-trained model of a few steps.
pub fn pretrained(folder: &Path, data: &str, objective: &str) -> PathBuf {
    let run = folder.join(objective);
    if !run.exists() {
        let flags = ["--data", data, "--objective", objective, "--steps", "20", "--lr", "0.01", "--eval-every", "0"];
        assert_succeeds(train(&run, &flags).args(["--sample-every", "0"]));
    }
    run
}

pub fn finetune(out: &Path, from: &Path, data: &str, flags: &[&str]) -> Command {
    let mut command = engine();
    command.arg("finetune").arg("--checkpoint").arg(from).args(["--data", data, "--batch", "8", "--lr", "0.01"]);
    command.args(flags).arg("--out").arg(out);
    command
}

fn last(lines: &[Value], key: &str) -> Value {
    lines.iter().rfind(|line| line.get(key).is_some()).unwrap_or_else(|| panic!("no {key}"))[key].clone()
}

#[test]
fn classes_that_can_be_learned_are_learned() {
    let folder = tempfile::tempdir().unwrap();
    let data = toy(folder.path());
    for objective in ["ar", "bert"] {
        let from = pretrained(folder.path(), &data, objective);
        let run = folder.path().join(format!("tuned-{objective}"));
        let flags = ["--steps", "120", "--eval-every", "20", "--patience", "0", "--json"];
        let lines = json_lines(&assert_succeeds(&mut finetune(&run, &from, &data, &flags)));
        let first = lines.iter().find(|line| line["event"] == "step").unwrap();
        assert!(
            (first["class_loss"].as_f64().unwrap() - 10_f64.ln()).abs() < 1e-5,
            "a zero head knows nothing: {first}"
        );
        let parts = first["class_loss"].as_f64().unwrap() + first["generative_loss"].as_f64().unwrap();
        assert!((first["loss"].as_f64().unwrap() - parts).abs() < 1e-6, "{first}");
        // Four classes as frequent: chance is 0.25.
        let best = last(&lines, "best_accuracy").as_f64().unwrap();
        assert!(best > 0.85, "{objective}: accuracy {best} on the validation images");
        let scored = eval(&run, &["--data", &data, "--per-class"]);
        let accuracy = scored["accuracy"].as_f64().unwrap();
        assert!(accuracy > 0.85, "{objective}: accuracy {accuracy} on the test images");
        assert!(scored["class_loss"].as_f64().unwrap() < 0.7, "{scored}");
        let found: u64 = scored["per_class"].as_array().unwrap().iter().map(|row| row["found"].as_u64().unwrap()).sum();
        assert_eq!(found as f64, (accuracy * 40.0).round());
        // The same figure again for the best validation: its weights are what `--checkpoint RUN` means.
        let again = eval(&run, &["--data", &data, "--split", "validation"]);
        assert!((again["accuracy"].as_f64().unwrap() - best).abs() < 1e-9, "{again} and {best}");
        let report = fs::read_to_string(run.join("report.html")).unwrap();
        assert!(report.contains("Accuracy on the validation images") && report.contains("Class loss"));
        let text = assert_succeeds(engine().arg("eval").arg("--checkpoint").arg(&run).args(["--data", &data]));
        assert!(text.contains("% accuracy"), "{text}");
        if objective == "bert" {
            let five = eval(&run, &["--data", &data, "--ensemble", "5"]);
            assert!(five["accuracy"].as_f64().unwrap() > 0.85, "{five}");
            assert_eq!(five, eval(&run, &["--data", &data, "--ensemble", "5", "--batch", "16"]));
            assert!(five["tokens"].as_u64() > scored["tokens"].as_u64());
        } else {
            let sample = ["sample", "--count", "1", "--completions", "1", "--data", &data, "--checkpoint"];
            assert_succeeds(engine().args(sample).arg(&run).arg("--out").arg(folder.path().join("grid.png")));
        }
        // It can be tuned further, with a new head, and pre-trained further, without one.
        let more = folder.path().join(format!("more-{objective}"));
        let lines = json_lines(&assert_succeeds(&mut finetune(&more, &run, &data, &["--steps", "1", "--json"])));
        assert!((last(&lines, "class_loss").as_f64().unwrap() - 10_f64.ln()).abs() < 0.5);
        let further = folder.path().join(format!("further-{objective}"));
        let mut command = engine();
        command.args(["train", "--steps", "1", "--batch", "4", "--objective", objective, "--init"]).arg(&run);
        assert_succeeds(command.arg("--out").arg(&further));
    }
}

#[test]
fn the_checkpoint_is_hugging_faces_classifier() {
    let folder = tempfile::tempdir().unwrap();
    let data = toy(folder.path());
    let from = pretrained(folder.path(), &data, "ar");
    let [run, exported] = ["run", "exported"].map(|name| folder.path().join(name));
    assert_succeeds(&mut finetune(&run, &from, &data, &["--steps", "2", "--eval-every", "1"]));
    assert_succeeds(engine().arg("export").arg("--checkpoint").arg(&run).arg("--out").arg(&exported));
    for dir in [run.join("best"), checkpoint(&run, 2), exported] {
        let config: Value = serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["architectures"], json!(["ImageGPTForImageClassification"]));
        assert_eq!(config["model_type"], "imagegpt");
        assert_eq!(config["id2label"].as_object().unwrap().len(), 10);
        assert_eq!(config["id2label"]["3"], "border");
        let bytes = fs::read(dir.join("model.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.tensor("score.weight").unwrap().shape(), [10, 16]);
        assert!(eval(&dir, &["--data", &data])["accuracy"].is_number());
    }
}

#[test]
fn stopped_fine_tuning_goes_on_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let data = toy(folder.path());
    let from = pretrained(folder.path(), &data, "bert");
    let flags = ["--steps", "9", "--eval-every", "2", "--save-every", "1", "--warmup", "3", "--accumulate", "2"];
    let names = ["whole", "parts", "killed", "interrupted"].map(|name| folder.path().join(name));
    let [whole, parts, killed, interrupted] = &names;
    assert_succeeds(&mut finetune(whole, &from, &data, &flags));
    let ends = weights_and_moments(whole, 9);
    let records = |run: &Path| -> Vec<[Option<f64>; 4]> {
        let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let keys = ["loss", "generative_loss", "class_loss", "accuracy"];
        json_lines(&text).iter().map(|line| keys.map(|key| line.get(key).and_then(Value::as_f64))).collect()
    };
    // A constant rate makes a shorter run the beginning of a longer one; where it ended there is one more validation.
    assert_succeeds(finetune(parts, &from, &data, &flags).args(["--steps", "4"]));
    assert_succeeds(finetune(parts, &from, &data, &flags).arg("--resume"));
    assert!(weights_and_moments(parts, 9) == ends);
    assert_eq!(records(parts), records(whole));
    // A checkpoint is written while the next steps are taken, and waited for before the next one: behind four steps there is one.
    for (steps, microseconds) in [(2, 0), (2, 1_500), (4, 4_000)] {
        let mut child = start(finetune(killed, &from, &data, &flags).arg("--resume"), steps);
        std::thread::sleep(std::time::Duration::from_micros(microseconds));
        let _ = child.kill();
        child.wait().unwrap();
    }
    let mut child = start(finetune(interrupted, &from, &data, &flags).args(["--save-every", "0"]), 3);
    signal(&child, "INT");
    assert!(child.wait().unwrap().success());
    // What it started from is needed no more.
    fs::rename(&from, folder.path().join("gone")).unwrap();
    for run in [killed, interrupted] {
        let mut command = engine();
        assert_succeeds(command.arg("finetune").arg("--resume").arg("--out").arg(run));
        assert!(weights_and_moments(run, 9) == ends, "{}", run.display());
        assert_eq!(records(run), records(whole));
    }
    // Its own settings repeat a run.
    let again = folder.path().join("again");
    fs::rename(folder.path().join("gone"), &from).unwrap();
    assert_succeeds(engine().arg("finetune").arg("--config").arg(whole.join("config.toml")).arg("--out").arg(&again));
    assert!(weights_and_moments(&again, 9) == ends);
}

/// With a rate of zero nothing improves, so when it stops is known beforehand.
#[test]
fn it_stops_when_patience_ends_and_folds_for_as_long_as_was_best() {
    let folder = tempfile::tempdir().unwrap();
    let data = toy(folder.path());
    let from = pretrained(folder.path(), &data, "ar");
    let run = folder.path().join("run");
    let flags = ["--lr", "0", "--steps", "50", "--eval-every", "3", "--patience", "2", "--fold-validation", "--json"];
    let lines = json_lines(&assert_succeeds(&mut finetune(&run, &from, &data, &flags)));
    let ends: Vec<&Value> = lines.iter().filter(|line| line["event"] == "end").collect();
    assert_eq!(ends.len(), 2, "{ends:?}");
    assert_eq!((&ends[0]["ending"], &ends[0]["at_step"]), (&json!("stopped early"), &json!(9)));
    assert_eq!(ends[0]["best_step"], 3);
    assert_eq!((&ends[1]["ending"], &ends[1]["at_step"]), (&json!("finished"), &json!(3)));
    let folded = run.join("folded");
    let settings: toml::Table = fs::read_to_string(folded.join("config.toml")).unwrap().parse().unwrap();
    assert_eq!((settings["holdout"].as_float(), settings["steps"].as_integer()), (Some(0.0), Some(3)));
    assert_eq!(settings["fold-validation"].as_bool(), Some(false));
    assert!(checkpoint(&folded, 3).join("model.safetensors").is_file() && folded.join("report.html").is_file());
    // Both are finished: to go on is to do nothing, and both records stay.
    let before = [weights_and_moments(&run, 9), weights_and_moments(&folded, 3)];
    let lines = json_lines(&assert_succeeds(finetune(&run, &from, &data, &flags).arg("--resume")));
    assert!(lines.iter().all(|line| line["event"] != "step"), "{lines:?}");
    assert!(before == [weights_and_moments(&run, 9), weights_and_moments(&folded, 3)]);
    assert_eq!(eval(&run, &["--data", &data])["checkpoint"], json!(run.join("best")));
    assert_eq!(eval(&folded, &["--data", &data])["checkpoint"], json!(checkpoint(&folded, 3)));
}

/// Folding trains on all of the images: with the same images and seed that is a run without any held out.
#[test]
fn a_folded_run_is_one_that_holds_nothing_out() {
    let folder = tempfile::tempdir().unwrap();
    let data = toy(folder.path());
    let from = pretrained(folder.path(), &data, "ar");
    let [run, plain] = ["run", "plain"].map(|name| folder.path().join(name));
    let flags = ["--steps", "4", "--eval-every", "4", "--fold-validation"];
    assert_succeeds(&mut finetune(&run, &from, &data, &flags));
    assert_succeeds(&mut finetune(&plain, &from, &data, &["--steps", "4", "--holdout", "0"]));
    assert!(weights_and_moments(&run.join("folded"), 4) == weights_and_moments(&plain, 4));
    assert!(weights_and_moments(&run, 4) != weights_and_moments(&plain, 4));
}

#[test]
fn labelled_token_arrays_do_too() {
    let folder = tempfile::tempdir().unwrap();
    let data = toy(folder.path());
    let from = pretrained(folder.path(), &data, "ar");
    let [tokens, labels] = ["x.npy", "y.npy"].map(|name| folder.path().join(name));
    let encode = ["data", "encode", "--data", &data, "--split", "test", "--resolution", "8", "--out"];
    assert_succeeds(engine().args(encode).arg(&tokens).arg("--labels-out").arg(&labels));
    let data = format!("tokens:{},{}", tokens.display(), labels.display());
    let run = folder.path().join("run");
    let output = finetune(&run, &from, &data, &["--steps", "40"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("no accuracy"), "{said}");
    let scored = eval(&run, &["--data", &data]);
    assert!(scored["accuracy"].as_f64().unwrap() > 0.5, "{scored}");
}

#[test]
fn what_cannot_be_fine_tuned_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = toy(folder.path());
    let from = pretrained(folder.path(), &data, "ar");
    let out = folder.path().join("run");
    for (flags, word) in [
        (&["--classification-weight", "0"][..], "--classification-weight"),
        (&["--classification-weight", "nan"], "--classification-weight"),
        (&["--generative-weight", "-1"], "--generative-weight"),
        (&["--generative-weight", "inf"], "--generative-weight"),
        (&["--patience", "1.5"], "patience"),
        (&["--layers", "3"], "layers"),
        (&["--order", "spiral"], "order"),
        (&["--objective", "bert"], "objective"),
        (&["--mask-rate", "0.2"], "--mask-rate"),
        (&["--fold-validation", "--holdout", "0"], "--holdout"),
        (&["--batch", "0"], "--batch"),
        (&["--lr", "-1"], "--lr"),
        (&["--checkpoint", "no/such"], "no/such"),
        (&["--data", "cifar10:no/such"], "no/such"),
    ] {
        let message = assert_refused(&mut finetune(&out, &from, &data, flags));
        assert!(message.contains(word), "{flags:?}: {message}");
    }
    let tokens = folder.path().join("tokens.npy");
    igpt_engine::data::npy::write_u16(&tokens, &[2, 64], &[1; 128]).unwrap();
    let unlabelled = format!("tokens:{}", tokens.display());
    let message = assert_refused(&mut finetune(&out, &from, &unlabelled, &[]));
    assert!(message.contains("LABELS.npy"), "{message}");
    let message = assert_refused(engine().arg("finetune").arg("--out").arg(&out));
    assert!(message.contains("--checkpoint"), "{message}");
    let config = folder.path().join("config.toml");
    for (text, word) in [("patience = \"long\"\n", "patience"), ("layers = 2\n", "layers"), ("speed = 1\n", "speed")] {
        fs::write(&config, text).unwrap();
        let message = assert_refused(finetune(&out, &from, &data, &[]).arg("--config").arg(&config));
        assert!(message.contains(word), "{text}: {message}");
    }
    assert!(!out.exists(), "nothing should have been started");
    assert_succeeds(&mut finetune(&out, &from, &data, &["--steps", "2"]));
    let before = weights_and_moments(&out, 2);
    for (flags, word) in [
        (&["--generative-weight", "2"][..], "generative-weight"),
        (&["--seed", "1"], "seed"),
        (&["--lr", "0.5"], "lr"),
        (&["--steps", "1"], "2 steps"),
    ] {
        let message = assert_refused(finetune(&out, &from, &data, &["--steps", "3", "--resume"]).args(flags));
        assert!(message.contains(word), "{flags:?}: {message}");
    }
    assert!(weights_and_moments(&out, 2) == before);
    assert!(assert_refused(&mut finetune(&out, &from, &data, &["--steps", "2"])).contains("--resume"));
    // Labels of other classes are not judged.
    let message = assert_refused(engine().args(["eval", "--checkpoint"]).arg(&out).args(["--data", "sample"]));
    assert!(message.contains("airplane") && message.contains("fine-tuned on"), "{message}");
}
