//! BERT models: trained, resumed, scored under masks, and refused where they make no sense.

use std::fs;
use std::path::Path;

use igpt_engine::data::npy::{self, Npy};
use serde_json::Value;
use test_support::golden_files::{golden_set, read_part};

use crate::evaluate::eval;
use crate::resume::{metrics, start};
use crate::{assert_refused, assert_succeeds, checkpoint, engine, json_lines, losses, train, weights_and_moments};

const BERT: [&str; 6] = ["--objective", "bert", "--lr", "0.01", "--save-every", "1"];

fn bert(out: &Path, flags: &[&str]) -> std::process::Command {
    let mut command = train(out, &BERT);
    command.args(flags);
    command
}

#[test]
fn a_bert_model_learns_and_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let flags = ["--steps", "150", "--batch", "8", "--save-every", "0", "--eval-images", "0", "--json"];
    let lines = json_lines(&assert_succeeds(&mut bert(&run, &flags)));
    let losses = losses(&lines);
    assert!((losses[0].1 - 512_f64.ln()).abs() < 1e-5, "a zero head knows nothing: {:?}", losses[0]);
    let last = lines.iter().rfind(|line| line.get("val_loss").is_some()).unwrap();
    let (loss, entropy) = (last["val_loss"].as_f64().unwrap(), last["unigram_entropy"].as_f64().unwrap());
    assert!(loss < entropy - 0.1, "validation loss {loss}, unigram entropy {entropy}");
    let config: Value = serde_json::from_slice(&fs::read(checkpoint(&run, 150).join("config.json")).unwrap()).unwrap();
    assert_eq!(config["igpt_objective"], "bert");
    assert_eq!(config["model_type"], "igpt_engine", "transformers would look for a start of sequence");
    assert_eq!(config["vocab_size"], 512, "there is no row for a start of sequence");
    assert!(fs::read_dir(run.join("samples")).unwrap().next().is_none(), "a BERT model draws nothing");
    // What was measured in training is what `eval` measures.
    let scored = eval(&run, &["--split", "validation"]);
    assert!((scored["nats_per_token"].as_f64().unwrap() - loss).abs() < 1e-6, "{scored} and {loss}");
    assert_eq!(scored["objective"], "bert");
}

#[test]
fn stopped_bert_runs_go_on_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts, killed) =
        (folder.path().join("whole"), folder.path().join("parts"), folder.path().join("killed"));
    let flags = ["--schedule", "constant", "--warmup", "2", "--accumulate", "2", "--mask-rate", "0.3"];
    assert_succeeds(bert(&whole, &flags).args(["--steps", "8"]));
    assert_succeeds(bert(&parts, &flags).args(["--steps", "3"]));
    assert_succeeds(bert(&parts, &flags).args(["--steps", "8", "--resume"]));
    assert!(weights_and_moments(&whole, 8) == weights_and_moments(&parts, 8));
    assert_eq!(metrics(&whole), metrics(&parts));
    for microseconds in [0, 1_000, 3_000] {
        let mut child = start(bert(&killed, &flags).args(["--steps", "8", "--resume"]), 1);
        std::thread::sleep(std::time::Duration::from_micros(microseconds));
        let _ = child.kill();
        child.wait().unwrap();
    }
    assert_succeeds(bert(&killed, &flags).args(["--steps", "8", "--resume"]));
    assert!(weights_and_moments(&whole, 8) == weights_and_moments(&killed, 8));
    // Another rate or seed is another run.
    let message = assert_refused(bert(&parts, &["--steps", "9", "--resume", "--mask-rate", "0.2"]).arg("--json"));
    assert!(message.contains("mask-rate"), "{message}");
    let other = folder.path().join("other");
    assert_succeeds(bert(&other, &flags[..6]).args(["--steps", "8", "--mask-rate", "0.15"]));
    assert!(weights_and_moments(&whole, 8) != weights_and_moments(&other, 8));
}

/// A part of a golden file as an array.
fn golden_array(file: &safetensors::SafeTensors<'_>, tensor: &str, path: &Path) {
    let view = file.tensor(tensor).unwrap();
    let width = view.data().len() / view.shape().iter().product::<usize>();
    let values: Vec<u16> = view
        .data()
        .chunks_exact(width)
        .map(|bytes| u16::from(bytes[0]) + 256 * u16::from(*bytes.get(1).unwrap_or(&0)))
        .collect();
    npy::write_u16(path, view.shape(), &values).unwrap();
}

#[test]
fn given_masks_score_what_they_score_with_hugging_faces_weights() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = read_part(&golden_set("l2d64h2p64"), "bert");
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let [tokens, mask, nats] = ["tokens", "mask", "nats"].map(|name| folder.path().join(format!("{name}.npy")));
    golden_array(&file, "tokens", &tokens);
    golden_array(&file, "mask", &mask);
    let expected = f64::from_le_bytes(file.tensor("loss_bert").unwrap().data().try_into().unwrap());
    let data = format!("tokens:{}", tokens.display());
    for batch in ["1", "2"] {
        let flags = ["--data", &data, "--objective", "bert", "--mask", mask.to_str().unwrap(), "--batch", batch];
        let scored = eval(&golden_set("l2d64h2p64"), &[&flags[..], &["--per-token", nats.to_str().unwrap()]].concat());
        let loss = scored["nats_per_token"].as_f64().unwrap();
        assert!((loss - expected).abs() < 2e-6, "{loss}, not {expected}");
    }
    // Nats stand where something was guessed, and nowhere else.
    let (nats, mask) = (Npy::open(&nats).unwrap(), Npy::open(&mask).unwrap());
    for (nats, masked) in nats.f64s(0..nats.len()).unwrap().zip(mask.f64s(0..mask.len()).unwrap()) {
        assert_eq!(nats.is_finite(), masked != 0.0);
    }
}

#[test]
fn drawn_masks_are_functions_of_their_seed() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert_succeeds(&mut bert(&run, &["--steps", "6"]));
    let nats = |flags: &[&str]| eval(&run, &[&["--images", "12"], flags].concat())["nats_per_token"].as_f64().unwrap();
    let one = nats(&["--batch", "1"]);
    assert!((one - nats(&["--batch", "5"])).abs() < 1e-6);
    assert_ne!(one, nats(&["--mask-seed", "1"]));
    assert_ne!(one, nats(&["--mask-rate", "0.5"]));
    assert_eq!(nats(&["--mask-rate", "0.15", "--mask-seed", "0"]), nats(&[]));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [ar, masked, out] = ["ar", "masked", "out"].map(|name| folder.path().join(name));
    assert_succeeds(&mut train(&ar, &["--steps", "1"]));
    assert_succeeds(&mut bert(&masked, &["--steps", "1"]));
    for (flags, word) in [
        (&["--objective", "bert", "--mask-rate", "0"][..], "--mask-rate"),
        (&["--objective", "bert", "--mask-rate", "1.01"], "--mask-rate"),
        (&["--objective", "bert", "--mask-rate", "nan"], "--mask-rate"),
        (&["--mask-rate", "0.2"], "leave it out"),
        (&["--objective", "bert", "--order", "spiral"], "--order"),
        (&["--objective", "gan"], "bert"),
    ] {
        let message = assert_refused(train(&out, &["--steps", "1"]).args(flags));
        assert!(message.contains(word), "{flags:?}: {message}");
    }
    for (init, objective) in [(&ar, "bert"), (&masked, "ar")] {
        let mut command = engine();
        command.args(["train", "--steps", "1", "--objective", objective, "--init"]).arg(init).arg("--out").arg(&out);
        let message = assert_refused(&mut command);
        assert!(message.contains("--objective"), "{message}");
    }
    assert!(!out.exists(), "nothing should have been started");
    let message = assert_refused(engine().args(["sample", "--unconditional", "--checkpoint"]).arg(&masked));
    assert!(message.contains("BERT") && message.contains("autoregressive"), "{message}");
    let message = assert_refused(engine().args(["export", "--out"]).arg(&out).arg("--checkpoint").arg(&masked));
    assert!(message.contains("start-of-sequence"), "{message}");

    let mask = folder.path().join("mask.npy");
    let mask = mask.to_str().unwrap();
    let scored = |run: &Path, flags: &[&str]| {
        assert_refused(engine().args(["eval", "--images", "2", "--checkpoint"]).arg(run).args(flags))
    };
    for (flag, value) in [("--mask", mask), ("--mask-rate", "0.2"), ("--mask-seed", "1"), ("--ensemble", "5")] {
        let message = scored(&ar, &[flag, value]);
        assert!(message.contains(flag) && message.contains("BERT"), "{message}");
    }
    for (flags, word) in [
        (&["--objective", "ar"][..], "BERT"),
        (&["--mask-rate", "2"], "--mask-rate"),
        (&["--ensemble", "0"], "--ensemble"),
        (&["--ensemble", "5"], "finetune"),
        (&["--per-class"], "finetune"),
        (&["--mask", "no/such.npy"], "no/such.npy"),
        (&["--mask", mask, "--mask-rate", "0.1"], "--mask"),
    ] {
        let message = scored(&masked, flags);
        assert!(message.contains(word), "{flags:?}: {message}");
    }
    npy::write_u16(mask, &[1, 64], &[1; 64]).unwrap();
    assert!(scored(&masked, &["--mask", mask]).contains("[2 or more, 64]"));
    npy::write_u16(mask, &[2, 32], &[1; 64]).unwrap();
    assert!(scored(&masked, &["--mask", mask]).contains("[2 or more, 64]"));
    npy::write_u16(mask, &[2, 64], &[[1; 64], [0; 64]].concat()).unwrap();
    assert!(scored(&masked, &["--mask", mask]).contains("image 1"));
}
