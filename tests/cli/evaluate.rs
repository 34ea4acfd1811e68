//! `eval`, `sample`, `import`, `export`: a trained model put to use.

use std::fs;
use std::path::Path;

use igpt_engine::data::npy::Npy;
use serde_json::Value;
use test_support::golden_files::{golden_set, read_part};

use crate::{assert_refused, assert_succeeds, engine, json_lines, train};

pub fn eval(checkpoint: &Path, flags: &[&str]) -> Value {
    let text = assert_succeeds(engine().arg("eval").arg("--json").arg("--checkpoint").arg(checkpoint).args(flags));
    json_lines(&text).remove(0)
}

/// Targets of a golden set as a token file, and the loss that Hugging Face's model gives them.
fn golden_tokens(name: &str, folder: &Path) -> (String, f64) {
    let bytes = read_part(&golden_set(name), "activations");
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor("targets").unwrap();
    let ids: Vec<i64> = view.data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect();
    let path = folder.join("targets.npy");
    igpt_engine::data::npy::write_i64(&path, view.shape(), &ids).unwrap();
    let loss = f64::from_le_bytes(file.tensor("loss_paper").unwrap().data().try_into().unwrap());
    (format!("tokens:{}", path.display()), loss)
}

#[test]
fn a_hugging_face_model_scores_what_it_scores_there() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["l2d64h2p64", "l2d64h2p64_bias", "l3d96h3p256"] {
        let (data, loss) = golden_tokens(name, folder.path());
        let per_token = folder.path().join("nll.npy");
        let flags = ["--data", &data, "--batch", "1", "--per-token", per_token.to_str().unwrap()];
        let result = eval(&golden_set(name), &flags);
        let nats = result["nats_per_token"].as_f64().unwrap();
        assert!((nats - loss).abs() < 2e-6, "{name}: {nats}, not {loss}");
        let array = Npy::open(&per_token).unwrap();
        assert_eq!(array.shape(), [2, result["tokens"].as_u64().unwrap() as usize / 2]);
        let values = array.to_f32().unwrap();
        let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64;
        assert!((mean - nats).abs() < 1e-6, "{name}: the tokens' mean is {mean}");
    }
}

#[test]
fn exported_and_imported_is_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    for (name, flags) in [("l2d64h2p64", &[][..]), ("l2d64h2p64", &["--no-biases"]), ("l2d64h2p64_bias", &[])] {
        let [native, exported, again] =
            ["native", "exported", "again"].map(|step| folder.path().join(format!("{step}{name}{}", flags.len())));
        assert_succeeds(engine().arg("import").arg(golden_set(name)).arg("--out").arg(&native));
        assert_succeeds(
            engine().arg("export").arg("--checkpoint").arg(&native).arg("--out").arg(&exported).args(flags),
        );
        assert_succeeds(engine().arg("import").arg(&exported).arg("--out").arg(&again));
        let model = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
        assert!(model(&native) == model(&again), "{name} {flags:?}");
        let (data, loss) = golden_tokens(name, folder.path());
        let nats = eval(&exported, &["--data", &data])["nats_per_token"].as_f64().unwrap();
        assert!((nats - loss).abs() < 2e-6, "{name}: {nats}, not {loss}");
    }
}

/// One loss in three units, in the output for people and for programs, with the definition in the help.
#[test]
fn a_loss_is_said_in_nats_in_bits_and_per_dimension() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert_succeeds(&mut train(&run, &["--steps", "2"]));
    let found = eval(&run, &["--images", "4"]);
    let [nats, bits, per_dimension] =
        ["nats_per_token", "bits_per_token", "bits_per_dimension"].map(|key| found[key].as_f64().unwrap());
    assert!((bits - nats / std::f64::consts::LN_2).abs() < 1e-12 && (per_dimension - bits / 3.0).abs() < 1e-12);

    let text = assert_succeeds(engine().args(["eval", "--images", "4", "--checkpoint"]).arg(&run));
    assert!(text.contains(&format!("{nats:.6} nats per token ({bits:.4} bits, perplexity")), "{text}");
    assert!(text.contains(&format!("{per_dimension:.6} bits per dimension: bits per token over the 3")), "{text}");
    let help = assert_succeeds(engine().args(["eval", "--help"]));
    assert!(help.contains("Bits per dimension are bits per token over 3"), "{help}");
    let report = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(report.contains("bits/dimension)"));

    // Of the validation images, whose loss `results` shows.
    let lines = json_lines(&fs::read_to_string(run.join("metrics.jsonl")).unwrap());
    let last = lines.iter().rev().find_map(|line| line.get("val_loss")?.as_f64()).unwrap();
    let table = assert_succeeds(engine().arg("results").arg(folder.path()));
    assert!(table.contains(&format!("{:.4} bits per dimension", last / std::f64::consts::LN_2 / 3.0)), "{table}");
}

#[test]
fn evaluation_does_not_depend_on_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert_succeeds(&mut train(&run, &["--steps", "5", "--lr", "0.01"]));
    let nats = |batch: &str| eval(&run, &["--images", "10", "--batch", batch])["nats_per_token"].as_f64().unwrap();
    let (one, four) = (nats("1"), nats("4"));
    assert!((one - four).abs() < 1e-6, "{one} and {four}");
    // The whole test part of the sample, and its held-out part.
    assert_eq!(eval(&run, &[])["images"], 200);
    assert_eq!(eval(&run, &["--split", "validation"])["images"], 100);
}

#[test]
fn drawings_of_every_kind() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert_succeeds(&mut train(&run, &["--steps", "2"]));
    let photo = folder.path().join("photo.png");
    image::RgbImage::from_fn(300, 260, |x, y| image::Rgb([x as u8, y as u8, 90])).save(&photo).unwrap();
    let (grid, tokens) = (folder.path().join("grid.png"), folder.path().join("tokens.npy"));
    let sample = |flags: &[&str]| {
        let mut command = engine();
        command.arg("sample").arg("--checkpoint").arg(&run).arg("--out").arg(&grid).arg("--tokens-out").arg(&tokens);
        assert_succeeds(command.args(flags));
        let picture = image::open(&grid).unwrap().to_rgb8();
        (picture.dimensions(), Npy::open(&tokens).unwrap().shape().to_vec(), picture.into_raw())
    };
    let gutter = |cells: u32, cell: u32| cells * (cell + 4) + 4;
    let (size, shape, _) = sample(&["--count", "3", "--completions", "2", "--scale", "2", "--json"]);
    assert_eq!(size, (gutter(4, 16), gutter(3, 16)));
    assert_eq!(shape, [6, 64]);
    let (size, shape, first) = sample(&["--unconditional", "--count", "4", "--scale", "1", "--top-k", "20"]);
    assert_eq!(size, (gutter(2, 8), gutter(2, 8)));
    assert_eq!(shape, [4, 64]);
    let (_, _, again) = sample(&["--unconditional", "--count", "4", "--scale", "1", "--top-k", "20"]);
    assert!(first == again, "the same seed draws the same");
    let (_, _, other) =
        sample(&["--unconditional", "--count", "4", "--scale", "1", "--top-k", "20", "--sample-seed", "1"]);
    assert!(first != other);
    let (_, shape, _) = sample(&[photo.to_str().unwrap(), "--temperature", "0", "--completions", "1"]);
    assert_eq!(shape, [1, 64]);

    // A nucleus of all changes nothing, one of next to nothing leaves the likeliest colour.
    let free = |flags: &[&str]| sample(&[&["--unconditional", "--count", "2", "--scale", "1"], flags].concat()).2;
    assert!(free(&["--top-p", "1"]) == free(&[]) && free(&["--top-p", "0.5"]) != free(&[]));
    assert!(free(&["--top-p", "1e-9"]) == free(&["--temperature", "0"]));
    for wrong in ["0", "-0.1", "1.01", "nan"] {
        let message = assert_refused(engine().args(["sample", "--checkpoint", "x", "--top-p", wrong]));
        assert!(message.contains("--top-p must be above 0 and at most 1"), "{message}");
    }
}

#[test]
fn a_completion_keeps_what_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let (run, tokens) = (folder.path().join("run"), folder.path().join("tokens.npy"));
    assert_succeeds(&mut train(&run, &["--steps", "2"]));
    let mut command = engine();
    command.arg("sample").arg("--checkpoint").arg(&run).args(["--count", "2", "--completions", "3"]);
    assert_succeeds(command.arg("--out").arg(folder.path().join("grid.png")).arg("--tokens-out").arg(&tokens));
    let encoded = folder.path().join("encoded.npy");
    let flags = ["data", "encode", "--data", "sample", "--split", "test", "--resolution", "8", "--out"];
    assert_succeeds(engine().args(flags).arg(&encoded));
    let (drawn, encoded) = (Npy::open(&tokens).unwrap(), Npy::open(&encoded).unwrap());
    let ids = |array: &Npy, row: usize| -> Vec<i64> { array.integers(row * 64..(row + 1) * 64).unwrap().collect() };
    for drawing in 0..6 {
        assert_eq!(ids(&drawn, drawing)[..32], ids(&encoded, drawing / 3)[..32], "upper half of drawing {drawing}");
    }
}

#[test]
fn models_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = format!("tokens:{}", folder.path().join("long.npy").display());
    igpt_engine::data::npy::write_u16(folder.path().join("long.npy"), &[1, 100], &[0; 100]).unwrap();
    let message =
        assert_refused(engine().arg("eval").arg("--checkpoint").arg(golden_set("l2d64h2p64")).args(["--data", &data]));
    assert!(message.contains("100 tokens") && message.contains("64 positions"), "{message}");
    let message = assert_refused(engine().arg("eval").arg("--checkpoint").arg(folder.path()));
    assert!(message.contains("model.safetensors"), "{message}");
}
