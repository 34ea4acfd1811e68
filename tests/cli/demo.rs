//! The walk through everything, scaled down to seconds.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::resume::signal;
use crate::{assert_refused, assert_succeeds, engine, json_lines, stderr};

fn demo(out: &Path, flags: &[&str]) -> Command {
    let mut command = engine();
    command.args(["demo", "--quick"]).args(flags).arg("--out").arg(out);
    command
}

/// `(stage, whether it was skipped)`.
fn stages(lines: &[Value]) -> Vec<(String, bool)> {
    let stage = |line: &Value| Some((line.get("stage")?.as_str()?.to_owned(), line.get("skipped")?.as_bool()?));
    lines.iter().filter(|line| line["event"] == "stage").filter_map(stage).collect()
}

const STAGES: [&str; 5] = ["pre-train", "probe", "fine-tune", "test", "complete"];

#[test]
fn the_walk_ends_with_a_report_and_is_not_walked_twice() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("it's a demo");
    let lines = json_lines(&assert_succeeds(&mut demo(&out, &["--json"])));
    assert_eq!(stages(&lines), STAGES.map(|stage| (stage.to_owned(), false)));
    let end = lines.last().unwrap();
    assert_eq!((&end["event"], &end["finished"]), (&"demo".into(), &true.into()));
    let probed: Value = serde_json::from_slice(&fs::read(out.join("probe/probe.json")).unwrap()).unwrap();
    let best = |source: &str| {
        let rows = probed["rows"].as_array().unwrap().iter().filter(|row| row["source"] == source);
        let held_out = |row: &&Value| row["validation_accuracy"].as_f64().unwrap();
        // Of equals the first.
        rows.reduce(|best, row| if held_out(&row) > held_out(&best) { row } else { best }).unwrap()
    };
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    for (key, source) in
        [("probe_accuracy", "trained"), ("untrained_accuracy", "untrained"), ("raw_pixels_accuracy", "raw_pixels")]
    {
        assert_eq!(end[key], best(source)["test_accuracy"], "{key}");
        let shown = format!("<td>{:.2} %</td><td>100 test images, 100 labels</td>", 100.0 * end[key].as_f64().unwrap());
        assert!(page.contains(&shown), "{key}: {shown}");
    }
    let tested: Value = serde_json::from_slice(&fs::read(out.join("finetune/test.json")).unwrap()).unwrap();
    assert_eq!((&end["finetuned_accuracy"], &tested["images"]), (&tested["accuracy"], &100.into()));
    assert_eq!(probed["rows"].as_array().unwrap().len(), 3 + 3 + 1, "every depth, trained and untrained, and pixels");

    for text in
        ["Pre-training", "Linear probes", "Fine-tuning", "Completions", "Commands", "built-in sample", "--quick"]
    {
        assert!(page.contains(text), "{text}");
    }
    assert!(!page.contains("<script") && !page.replace("http://www.w3.org/2000/svg", "").contains("http"));
    // Three curves of pre-training, the depths, five of fine-tuning.
    assert_eq!(page.matches("<svg").count(), 3 + 1 + 5);
    assert_eq!(page.matches("data:image/png;base64,").count(), 1);
    assert!(page.contains("it&#39;\\&#39;&#39;s a demo/pretrain"), "commands are quoted for a shell and escaped");

    // Nothing is done again, and the page is the same.
    let before = fs::metadata(out.join("pretrain/metrics.jsonl")).unwrap().modified().unwrap();
    let again = json_lines(&assert_succeeds(&mut demo(&out, &["--json"])));
    assert_eq!(stages(&again), STAGES.map(|stage| (stage.to_owned(), true)));
    assert_eq!(again.last(), lines.last());
    assert_eq!(fs::read_to_string(out.join("report.html")).unwrap(), page);
    assert_eq!(fs::metadata(out.join("pretrain/metrics.jsonl")).unwrap().modified().unwrap(), before);

    // What is lost is made again, and all that comes after it; people see the commands.
    fs::remove_file(out.join("finetune/test.json")).unwrap();
    let text = assert_succeeds(&mut demo(&out, &[]));
    assert!(text.contains("3/5 fine-tune (done before)") && text.contains("4/5 test: "), "{text}");
    assert!(text.contains("$ igpt-engine eval --data sample") && text.contains("report.html"), "{text}");

    // Another demo does not mix with it.
    assert!(assert_refused(&mut demo(&out, &["--seed", "1"])).contains("--seed 0 --quick"));
    fs::write(out.join("demo.json"), "{").unwrap();
    assert!(assert_refused(&mut demo(&out, &[])).contains("damaged"));
}

#[test]
fn a_stopped_walk_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("demo");
    let child = demo(&out, &["--json"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    // As soon as the run has begun.
    while !out.join("pretrain/config.toml").exists() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    signal(&child, "INT");
    let first = child.wait_with_output().unwrap();
    assert!(first.status.success(), "{}", stderr(&first));
    let lines = json_lines(&String::from_utf8(first.stdout).unwrap());
    let end = lines.last().unwrap();
    assert_eq!(end["event"], "demo");
    let rest = json_lines(&assert_succeeds(&mut demo(&out, &["--json"])));
    assert_eq!(rest.last().unwrap()["finished"], true);
    if end["finished"] == false {
        let stopped = end["stopped_at"].as_str().unwrap();
        let first_done = stages(&rest).into_iter().find(|(_, skipped)| !skipped).unwrap().0;
        assert_eq!(first_done, stopped);
    }
    // Stopped and gone on with, the run is that of one go.
    let steps = |lines: &[Value]| -> Vec<u64> {
        let pretraining = lines.iter().take_while(|line| line["stage"] != "probe");
        pretraining.filter_map(|line| line.get("step")?.as_u64()).collect()
    };
    let all: Vec<u64> = [steps(&lines), steps(&rest)].concat();
    assert_eq!(all, (1..=40).collect::<Vec<u64>>());
}

#[test]
fn what_cannot_be_walked_is_refused_at_once() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("demo");
    for (flags, word) in [
        (["--data", "cifar10:no/such"], "no/such"),
        (["--data", "tokens:x.npy"], "images"),
        (["--data", "cifar11:x"], "cifar11"),
        (["--threads", "0"], "--threads"),
        (["--device", "abacus"], "abacus"),
    ] {
        assert!(assert_refused(&mut demo(&out, &flags)).contains(word), "{flags:?}");
        assert!(!out.exists(), "{flags:?} left something");
    }
    fs::create_dir(&out).unwrap();
    fs::write(out.join("report.html"), "somebody's").unwrap();
    assert!(assert_refused(&mut demo(&out, &[])).contains("other files"));
    assert_eq!(fs::read_to_string(out.join("report.html")).unwrap(), "somebody's");
}

/// Stages that are done rest on the images that were there: other ones in their place are another demo.
#[test]
fn images_that_changed_since_the_demo_began_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let photos = place.path().join("photos");
    for (split, count) in [("train", 60_u8), ("test", 10)] {
        for (class, name) in ["dark", "light"].into_iter().enumerate() {
            let folder = photos.join(split).join(name);
            fs::create_dir_all(&folder).unwrap();
            for index in 0..count {
                let pixels = image::RgbImage::from_pixel(32, 32, image::Rgb([100 * class as u8 + index; 3]));
                pixels.save(folder.join(format!("{index:02}.png"))).unwrap();
            }
        }
    }
    let out = place.path().join("demo");
    let data = format!("images:{}", photos.display());
    let flags = ["--data", data.as_str(), "--json"];
    let mut child = demo(&out, &flags).stdout(std::process::Stdio::null()).spawn().unwrap();
    while !out.join("demo.json").exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();

    let changed = photos.join("train/light/07.png");
    image::RgbImage::from_pixel(32, 32, image::Rgb([1, 2, 3])).save(&changed).unwrap();
    let message = assert_refused(&mut demo(&out, &flags));
    assert!(message.contains("images") && message.contains(&data), "{message}");
}
