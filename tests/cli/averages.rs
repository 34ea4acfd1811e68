//! `--ema`: the moving average of the weights, from `train` to `eval`, `sample` and `probe`.

use std::fs;
use std::path::Path;

use crate::evaluate::eval;
use crate::resume::metrics;
use crate::{assert_refused, assert_succeeds, checkpoint, engine, json_lines, train, weights_and_moments};

const FILE: &str = "ema.safetensors";

fn average(run: &Path, step: u64) -> Vec<u8> {
    fs::read(checkpoint(run, step).join(FILE)).unwrap()
}

fn nats(run: &Path, flags: &[&str]) -> f64 {
    eval(run, &[&["--images", "6"], flags].concat())["nats_per_token"].as_f64().unwrap()
}

#[test]
fn an_average_is_kept_and_used_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let [plain, slow, quick] = ["plain", "slow", "quick"].map(|name| folder.path().join(name));
    let flags = ["--steps", "6", "--lr", "0.01", "--warmup", "0"];
    assert_succeeds(&mut train(&plain, &flags));
    assert_succeeds(train(&slow, &flags).args(["--ema", "0.9"]));
    assert_succeeds(train(&quick, &flags).args(["--ema", "1e-9"]));

    // Training does not notice it, and an average that forgets at once is the weights.
    assert!(weights_and_moments(&plain, 6) == weights_and_moments(&slow, 6));
    assert!((nats(&quick, &["--ema"]) - nats(&plain, &[])).abs() < 1e-6);
    // One that remembers lies between the first weights, which know nothing, and the last.
    let (average, last) = (nats(&slow, &["--ema"]), nats(&slow, &[]));
    assert!(last < average && average < 512_f64.ln(), "{last} and {average}");
    assert_eq!(eval(&slow, &["--images", "2", "--ema"])["ema"], true);

    // Drawn with, and probed.
    let draw = |flags: &[&str]| {
        let tokens = folder.path().join("tokens.npy");
        let mut command = engine();
        command.args(["sample", "--count", "2", "--completions", "1", "--temperature", "0", "--checkpoint"]).arg(&slow);
        command.arg("--out").arg(folder.path().join("grid.png")).arg("--tokens-out").arg(&tokens);
        assert_succeeds(command.args(flags));
        fs::read(tokens).unwrap()
    };
    assert!(draw(&["--ema"]) != draw(&[]));
    let probe = |flags: &[&str]| {
        let mut command = engine();
        command.args(["probe", "--images", "60", "--depth", "2", "--c", "0.1", "--json", "--checkpoint"]).arg(&slow);
        let found = assert_succeeds(command.args(flags).arg("--out").arg(folder.path().join("probe")));
        json_lines(&found).pop().unwrap()
    };
    let (trained, averaged) = (probe(&[]), probe(&["--ema"]));
    assert_eq!((trained.get("ema"), averaged.get("ema")), (None, Some(&true.into())));
    assert_ne!(trained["rows"][0]["tried"], averaged["rows"][0]["tried"], "features of the other weights");

    for command in ["eval", "sample", "probe"] {
        let message = assert_refused(engine().args([command, "--ema", "--checkpoint"]).arg(&plain));
        assert!(message.contains("holds no moving average") && message.contains("train --ema"), "{message}");
    }
}

#[test]
fn an_average_resumes_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, parts] = ["whole", "parts"].map(|name| folder.path().join(name));
    let flags = ["--ema", "0.8", "--schedule", "constant", "--warmup", "0", "--lr", "0.01", "--save-every", "1"];
    assert_succeeds(train(&whole, &flags).args(["--steps", "6"]));
    assert_succeeds(train(&parts, &flags).args(["--steps", "2"]));
    let message = assert_refused(train(&parts, &["--resume"]).args(["--steps", "6", "--ema", "0.9"]));
    assert!(message.contains("trained with ema = 0.8"), "{message}");
    assert_succeeds(train(&parts, &["--resume"]).args(["--steps", "6"]));
    assert!(average(&whole, 6) == average(&parts, 6) && average(&whole, 5) != average(&whole, 6));
    assert!(weights_and_moments(&whole, 6) == weights_and_moments(&parts, 6));
    assert_eq!(metrics(&whole), metrics(&parts));
}

#[test]
fn a_damaged_average_is_named_and_one_that_is_gone_too() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert_succeeds(train(&run, &["--ema", "0.8"]).args(["--steps", "2"]));
    let file = checkpoint(&run, 2).join(FILE);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let listed = fs::read_to_string(checkpoint(&run, 2).join("igpt-engine.sha256")).unwrap();
    assert!(listed.contains(FILE), "{listed}");

    // Found by who reads it: not by an evaluation of the weights.
    nats(&run, &[]);
    for mut command in [train(&run, &["--resume", "--steps", "3"]), engine()] {
        if command.get_args().count() == 0 {
            command.args(["eval", "--ema", "--checkpoint"]).arg(&run);
        }
        assert!(assert_refused(&mut command).contains(FILE));
    }
    fs::remove_file(&file).unwrap();
    let message = assert_refused(train(&run, &["--resume"]).args(["--steps", "3"]));
    assert!(message.contains(FILE), "{message}");
}

#[test]
fn plan_counts_it() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("model = \"s\"\nresolution = 32\nbatch = 2\n{text}")).unwrap();
        let plan = |flags: &[&str]| assert_succeeds(engine().arg("plan").args(flags).arg("--config").arg(&path));
        (json_lines(&plan(&["--json"])).remove(0), plan(&[]))
    };
    let ((without, text_without), (with, text)) = (recipe("plain.toml", ""), recipe("ema.toml", "ema = 0.999\n"));
    assert!(text.contains("\n  average ") && !text_without.contains("\n  average "), "{text}");
    let average = 4.0 * with["cost"]["parameters"].as_f64().unwrap();
    for memory in ["memory_cpu", "memory_f32", "memory_bf16"] {
        let bytes = |plan: &serde_json::Value| -> f64 {
            plan["cost"][memory].as_object().unwrap().values().map(|bytes| bytes.as_f64().unwrap()).sum()
        };
        let more = bytes(&with) - bytes(&without);
        assert!((more / average - 1.0).abs() < 0.01, "{memory}: {more} bytes more, not {average}");
    }
}
