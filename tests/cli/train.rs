//! Training runs: what they print and leave behind.

use test_support::tries_all;

use test_support::has_turn;

use crate::{assert_succeeds, checkpoint, engine, json_lines, losses, train, weights_and_moments};

#[test]
fn a_run_leaves_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let text = assert_succeeds(&mut train(&run, &["--steps", "6", "--save-every", "2", "--keep", "2"]));
    assert!(text.contains("report.html"), "the run should end by saying where the report is:\n{text}");
    for file in ["config.toml", "metrics.jsonl", "report.html", "samples/step-00000006.png"] {
        assert!(run.join(file).is_file(), "{file} is missing");
    }
    for (step, kept) in [(2, false), (4, true), (6, true)] {
        assert_eq!(checkpoint(&run, step).join("model.safetensors").is_file(), kept, "checkpoint of step {step}");
    }
    let leftovers: Vec<_> = std::fs::read_dir(run.join("checkpoints")).unwrap().collect();
    assert_eq!(leftovers.len(), 2, "{leftovers:?}");
    let metrics = json_lines(&std::fs::read_to_string(run.join("metrics.jsonl")).unwrap());
    let steps: Vec<u64> = losses(&metrics).iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [1, 2, 3, 4, 5, 6]);
    for key in ["loss", "lr", "grad_norm", "tokens_per_second", "images_per_second", "data_wait", "elapsed"] {
        assert!(metrics[0].get(key).is_some_and(serde_json::Value::is_number), "{key}: {}", metrics[0]);
    }
    let report = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(report.contains("<svg") && report.contains("data:image/png;base64,"), "curves and samples are missing");
    assert!(!report.contains("src=\"http"), "a report stands alone");
}

#[test]
fn json_is_all_there_is_on_standard_output() {
    let folder = tempfile::tempdir().unwrap();
    let lines = json_lines(&assert_succeeds(&mut train(&folder.path().join("run"), &["--steps", "3", "--json"])));
    let losses = losses(&lines);
    assert_eq!(losses.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [1, 2, 3]);
    // The head is zero at first: every colour is as likely as any other.
    assert!((losses[0].1 - 512_f64.ln()).abs() < 1e-5, "{losses:?}");
}

#[test]
fn a_model_learns_the_sample() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let flags =
        ["--steps", "120", "--lr", "0.01", "--batch", "8", "--json", "--sample-every", "0", "--eval-images", "0"];
    let lines = json_lines(&assert_succeeds(&mut train(&run, &flags)));
    let last = lines.iter().rfind(|line| line.get("val_loss").is_some()).unwrap();
    let (loss, entropy) = (last["val_loss"].as_f64().unwrap(), last["unigram_entropy"].as_f64().unwrap());
    assert!(loss < entropy - 0.3, "validation loss {loss}, unigram entropy {entropy}");
}

#[test]
fn runs_repeat_bit_for_bit_and_seeds_differ() {
    let folder = tempfile::tempdir().unwrap();
    let weights = |name: &str, seed: &str| {
        let run = folder.path().join(name);
        assert_succeeds(&mut train(&run, &["--steps", "3", "--seed", seed]));
        weights_and_moments(&run, 3)
    };
    assert_eq!(weights("a", "7"), weights("b", "7"));
    assert_ne!(weights("c", "8"), weights("d", "9"));
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let weights = |threads: &str| {
        let run = folder.path().join(threads);
        assert_succeeds(&mut train(&run, &["--steps", "4", "--lr", "0.01", "--threads", threads]));
        weights_and_moments(&run, 4)
    };
    let one = weights("1");
    assert!(weights("2") == one && weights("3") == one);
}

#[test]
fn the_written_configuration_repeats_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    assert_succeeds(&mut train(
        &first,
        &["--steps", "3", "--norm", "layer", "--activation", "gelu", "--bias", "--clip", "0.5"],
    ));
    assert_succeeds(engine().arg("train").arg("--config").arg(first.join("config.toml")).arg("--out").arg(&second));
    assert_eq!(weights_and_moments(&first, 3), weights_and_moments(&second, 3));
}

#[test]
fn accumulation_is_the_big_batch() {
    let folder = tempfile::tempdir().unwrap();
    let losses = |name: &str, flags: [&str; 4]| {
        let mut command = train(&folder.path().join(name), &["--steps", "4", "--json", "--lr", "0.003"]);
        losses(&json_lines(&assert_succeeds(command.args(flags))))
    };
    let whole = losses("whole", ["--batch", "8", "--accumulate", "1"]);
    let parts = losses("parts", ["--batch", "2", "--accumulate", "4"]);
    for ((step, whole), (_, parts)) in whole.iter().zip(&parts) {
        assert!((whole - parts).abs() < 1e-4, "step {step}: {whole} and {parts}");
    }
}

/// Token files are taken as they are: in order, whole, and at their own length.
#[test]
fn tokens_in_file_order() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens.npy");
    let ids: Vec<u16> = (0..6 * 16).map(|i| (i * 37 % 512) as u16).collect();
    igpt_engine::data::npy::write_u16(&tokens, &[6, 16], &ids).unwrap();
    let data = format!("tokens:{}", tokens.display());
    let flags = ["--data", &data, "--no-shuffle", "--batch", "2", "--steps", "3", "--json", "--resolution", "4"];
    let lines = json_lines(&assert_succeeds(&mut train(&folder.path().join("run"), &flags)));
    assert_eq!(losses(&lines).len(), 3);
}

#[test]
fn a_run_starts_from_the_weights_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    assert_succeeds(&mut train(&first, &["--steps", "40", "--lr", "0.01"]));
    let flags = ["--batch", "4", "--steps", "1", "--json", "--init"];
    let text = assert_succeeds(engine().arg("train").args(flags).arg(&first).arg("--out").arg(&second));
    let losses = losses(&json_lines(&text));
    assert!(losses[0].1 < 6.1, "the loss starts at {} as if nothing had been learned", losses[0].1);
}

/// A reader that goes away (`| head`) is noted, and the run goes on to its end without it.
#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_loses_nothing() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let flags = ["--steps", "40", "--save-every", "0", "--eval-every", "0", "--sample-every", "0", "--json"];
    let mut child = train(&run, &flags).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("\"loss\"") {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the run ended early");
    }
    drop(reader);

    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let told = crate::stderr(&output);
    assert_eq!(told.matches("the reader of standard output has gone").count(), 1, "{told}");
    let (step, _) = igpt_engine::run::checkpoints::latest(&run).unwrap().expect("a checkpoint");
    assert_eq!(step, 40);
}

/// Without a reader what only prints ends in silence; what trains, or scores, says so. Neither is an error.
#[cfg(unix)]
#[test]
fn without_a_reader_short_commands_end_and_long_ones_go_on() {
    use std::process::Stdio;

    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let unread = |command: &mut std::process::Command| {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", crate::stderr(&output));
        crate::stderr(&output)
    };
    assert_eq!(unread(engine().args(["data", "info", "sample"])), "");
    assert!(unread(&mut train(&run, &["--steps", "2"])).contains("has gone"));
    let eval = ["eval", "--images", "4", "--json", "--checkpoint"];
    assert!(unread(engine().args(eval).arg(&run)).contains("has gone"));
    // A reader of standard error that goes is nobody to tell.
    let mut child =
        train(&run, &["--steps", "4", "--resume"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
    assert!(crate::checkpoint(&run, 4).is_dir());
}

/// Standard output on a full disk is an error that says so, once the work is saved; a closed or full standard error is
/// none.
#[cfg(target_os = "linux")]
#[test]
fn full_outputs() {
    let folder = tempfile::tempdir().unwrap();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    for flags in [&["--steps", "2", "--json"][..], &["--steps", "2"]] {
        let run = folder.path().join(format!("run-{}", flags.len()));
        let message = crate::assert_refused(train(&run, flags).stdout(full()));
        assert!(message.contains("standard output"), "{message}");
        assert!(crate::checkpoint(&run, 2).is_dir());
    }
    crate::assert_refused(engine().arg("doctor").stdout(full()));
    assert_succeeds(train(&folder.path().join("quiet"), &["--steps", "2"]).stderr(full()));
}

/// iGPT-S, one image at a time, within 4 GiB of address space: weights, gradients, moments and activations. In an ordinary run the images
/// are a quarter as large, and the limit is 3.5 GiB.
#[cfg(target_os = "linux")]
#[test]
fn the_smallest_paper_model_trains_in_four_gibibytes() {
    if !has_turn(0, 2) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (resolution, kibibytes) = if tries_all() { ("32", 4 << 20) } else { ("16", 3_700_000) };
    let flags = ["--model", "s", "--resolution", resolution, "--batch", "1", "--steps", "1", "--eval-every", "0"];
    let mut command = std::process::Command::new("bash");
    // Of one heap: glibc reserves 64 MiB of addresses, not of memory, for the heap of every thread.
    command.env("MALLOC_ARENA_MAX", "1");
    let limited = format!("ulimit -v {kibibytes}; exec \"$0\" \"$@\"");
    command.args(["-c", &limited, env!("CARGO_BIN_EXE_igpt-engine"), "train"]);
    let text = assert_succeeds(
        command.args(flags).args(["--sample-every", "0", "--json", "--out"]).arg(folder.path().join("s")),
    );
    assert_eq!(losses(&json_lines(&text)).len(), 1);
}
