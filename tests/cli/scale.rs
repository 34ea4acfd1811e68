//! `plan --gpus`, and the tables of docs/scale.md, which it prints.

use std::path::Path;
use std::process::Command;

use test_support::has_turn;

use crate::{assert_refused, assert_succeeds, engine, json_lines};

/// `(command, what is printed)` of every console block of a page: a line that begins with `$`, and the lines behind it.
fn printed(page: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match (line, inside) {
            ("```console", false) => inside = true,
            ("```", true) => inside = false,
            (line, true) => match (line.strip_prefix("$ "), found.last_mut()) {
                (Some(command), _) => found.push((command.to_owned(), String::new())),
                (None, Some((_, text))) => text.push_str(&format!("{line}\n")),
                (None, None) => panic!("{line:?} stands behind no command"),
            },
            _ => {}
        }
    }
    found
}

/// Set `IGPT_WRITE_DOCS=1` to write the page's blocks anew.
#[test]
fn the_tables_of_the_page_are_what_its_commands_print() {
    if !has_turn(0, 2) {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scale.md");
    let mut page = std::fs::read_to_string(&path).unwrap();
    let blocks = printed(&page);
    assert!(blocks.len() >= 4, "{blocks:?}");
    let writes = std::env::var_os("IGPT_WRITE_DOCS").is_some_and(|write| write == "1");
    for (command, text) in blocks {
        let words: Vec<&str> = command.split_whitespace().collect();
        let Some((&"igpt-engine", flags)) = words.split_first() else { panic!("{command} is another program") };
        let got = assert_succeeds(engine().current_dir(env!("CARGO_MANIFEST_DIR")).args(flags));
        let got: String = got.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        if writes {
            page = page.replace(&format!("$ {command}\n{text}"), &format!("$ {command}\n{got}"));
            continue;
        }
        assert!(got == text, "{command} prints\n{got}\nand docs/scale.md has\n{text}");
    }
    if writes {
        std::fs::write(path, page).unwrap();
    }
}

fn plan(flags: &[&str]) -> Command {
    let mut command = engine();
    command.arg("plan").args(flags);
    command
}

#[test]
fn igpt_xl_fits_eight_cards_and_says_why() {
    let text = assert_succeeds(&mut plan(&["--model", "xl", "--resolution", "64", "--heads", "16", "--gpus", "8"]));
    for part in [
        "60 layers × 3072",
        "--zero 2",
        "--batch 2 --global-batch 64",
        "ZeRO-0 would be 86.0 % slower with --offload-optimizer",
        "predictions",
        "4 images",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }

    // The same for scripts: what is chosen fits, and is the fastest that does.
    let flags = ["--config", "recipes/pretrain-l-ar-32.toml", "--gpus", "8,64", "--bandwidth", "45", "--json"];
    let report = json_lines(&assert_succeeds(plan(&flags).current_dir(env!("CARGO_MANIFEST_DIR")))).remove(0);
    let answers = report["answers"].as_array().unwrap();
    assert_eq!((answers.len(), report["global_batch"].as_u64()), (2, Some(128)));
    for answer in answers {
        let splits = &answer["splits"];
        let step = |split: &serde_json::Value| split["step"].as_f64().unwrap();
        assert_eq!(splits["choice"]["fits"], true);
        assert_eq!(splits["alternatives"].as_array().unwrap().len(), 12);
        let least = splits["alternatives"].as_array().unwrap().iter().filter(|split| split["fits"] == true).map(step);
        assert!(step(&splits["choice"]) <= 1.001 * least.fold(f64::INFINITY, f64::min));
        assert!(!answer["why"].as_array().unwrap().is_empty());
    }
}

/// One card's times have the bus in them: 12 P bytes each way at 51.2 GB/s, in place of 24 P at the memory's 3.35 TB/s.
#[test]
fn the_bus_is_part_of_the_time_of_one_card() {
    let flags = ["--model", "l", "--device-model", "h100", "--batch", "8", "--accumulate", "16"];
    let report = |offload: &[&str]| {
        json_lines(&assert_succeeds(&mut plan(&[&flags[..], &["--json"], offload].concat()))).remove(0)
    };
    let of = |report: &serde_json::Value, key: &str| report["devices"][0][key].as_f64().unwrap();
    let (kept, moved) = (report(&[]), report(&["--offload-optimizer"]));
    let steps = kept["cost"]["steps"].as_f64().unwrap();
    let longer = (of(&moved, "seconds") - of(&kept, "seconds")) / steps;
    let moved_bytes = moved["cost"]["memory_bf16"]["host"].as_f64().unwrap();
    let expected = moved_bytes / 51.2e9 - 2.0 * moved_bytes / 3.35e12;
    assert!((longer / expected - 1.0).abs() < 1e-3, "{longer} s, and not {expected}");
    assert!((of(&moved, "bus_seconds") / steps / expected - 1.0).abs() < 1e-3 && of(&kept, "bus_seconds") == 0.0);

    let text = assert_succeeds(&mut plan(&[&flags[..], &["--offload-optimizer"]].concat()));
    assert!(text.contains("309 ms per step at 51.2 GB/s"), "{text}");
}

#[test]
fn what_cannot_be_divided_is_refused() {
    for (flags, word) in [
        (&["--gpus", "8"][..], "--config"),
        (&["--model", "l", "--gpus", "0"][..], "0"),
        (&["--model", "l", "--gpus", "8", "--card", "h1000"][..], "h1000"),
        (&["--model", "l", "--gpus", "8", "--bandwidth", "0"][..], "--bandwidth 0"),
        (&["--model", "l", "--gpus", "8", "--bandwidth", "nan"][..], "--bandwidth"),
        (&["--model", "l", "--gpus", "8", "--batch", "3"][..], "does not divide the 128 images"),
        (&["--model", "l", "--bandwidth", "45"][..], "--gpus"),
        (&["--model", "l", "--config", "recipes/pretrain-l-ar-32.toml"][..], "--model"),
        (&["--gpus", "8", "--config", "recipes/probe-cifar10-l.toml"][..], "probe"),
    ] {
        let message = assert_refused(plan(flags).current_dir(env!("CARGO_MANIFEST_DIR")));
        assert!(message.contains(word), "{flags:?}: {message}");
    }
    // A card that is too small says what is needed.
    let text = assert_succeeds(&mut plan(&["--model", "xl", "--resolution", "64", "--gpus", "2", "--card", "rtx4090"]));
    assert!(text.contains("no way to divide the step fits") && text.contains("nothing fits"), "{text}");
}
