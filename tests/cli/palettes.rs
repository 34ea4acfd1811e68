//! Palettes of more colours than the paper's, through every command, on both devices.

use std::path::{Path, PathBuf};
use std::process::Command;

use igpt_engine::data::npy::{self, Npy};
use igpt_engine::data::{MAX_COLOURS, Palette};

use test_support::has_turn;

use crate::cuda::Driver;
use crate::{assert_refused, assert_succeeds, engine, json_lines, train};

/// A palette of so many colours, evenly spread: sides of 16, and as many planes as are needed.
fn palette(folder: &Path, colours: usize) -> PathBuf {
    let path = folder.join(format!("palette-{colours}.npy"));
    let level = |n: usize, most: usize| n as f32 / most.max(1) as f32 * 2.0 - 1.0;
    let planes = colours.div_ceil(256);
    let values: Vec<f32> =
        (0..colours).flat_map(|n| [level(n / 256, planes - 1), level(n / 16 % 16, 15), level(n % 16, 15)]).collect();
    npy::write_f32(&path, &[colours, 3], &values).unwrap();
    path
}

#[test]
fn a_palette_of_1024_colours_goes_through_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (file, run, shard) = (at("palette.npy"), at("run"), at("test.shard"));

    // Fitted to the sample; it loses less than one of half as many.
    let fit = |colours: &str, out: &Path| {
        let args = ["data", "palette", "--data", "sample", "--resolution", "16", "--colours", colours];
        let mut command = engine();
        command.args(args).args(["--iterations", "3", "--json", "--out"]).arg(out);
        json_lines(&assert_succeeds(&mut command)).remove(0)
    };
    let (larger, smaller) = (fit("1024", &file), fit("512", &at("smaller.npy")));
    let loss = |found: &serde_json::Value| found["train"]["mse"].as_f64().unwrap();
    assert!(loss(&larger) < 0.8 * loss(&smaller), "{larger} {smaller}");
    assert_eq!(Palette::load(&file).unwrap().len(), 1024);

    // Trained, coded, scored, completed, probed, exported and imported.
    let flags = ["--palette", file.to_str().unwrap(), "--steps", "2", "--eval-every", "1", "--sample-every", "2"];
    let said = assert_succeeds(train(&run, &flags).arg("--json"));
    let first = json_lines(&said).into_iter().find(|line| line["event"] == "step").unwrap();
    assert!((first["loss"].as_f64().unwrap() - 1024_f64.ln()).abs() < 0.02, "{first}");
    let mut encode = engine();
    encode.args(["data", "encode", "--data", "sample", "--split", "test", "--resolution", "8", "--palette"]);
    assert_succeeds(encode.arg(&file).arg("--out").arg(&shard));
    let eval = |checkpoint: &Path, data: &str| {
        let mut command = engine();
        command.arg("eval").arg("--checkpoint").arg(checkpoint).args(["--data", data, "--images", "20", "--json"]);
        json_lines(&assert_succeeds(command.args(["--split", "test"]))).remove(0)["nats_per_token"].as_f64().unwrap()
    };
    let nats = eval(&run, "sample");
    assert_eq!(eval(&run, &format!("shard:{}", shard.display())), nats);
    let npz = at("a.npz");
    let mut sample = engine();
    sample.arg("sample").arg("--checkpoint").arg(&run).args(["--count", "6", "--top-p", "0.99", "--npz"]).arg(&npz);
    assert_succeeds(&mut sample);
    let tokens = Npy::open(format!("{}:tokens", npz.display())).unwrap();
    let tokens: Vec<i64> = tokens.integers(0..tokens.len()).unwrap().collect();
    assert!(tokens.iter().any(|token| *token >= 512) && tokens.iter().all(|token| *token < 1024));
    let mut probe = engine();
    probe.arg("probe").arg("--checkpoint").arg(&run).args(["--data", "sample", "--images", "60", "--c", "1"]);
    assert_succeeds(probe.arg("--out").arg(at("probe")));
    let exported = at("exported");
    assert_succeeds(engine().arg("export").arg("--checkpoint").arg(&run).arg("--out").arg(&exported));
    let config: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(exported.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["vocab_size"], 1025);
    assert_eq!(eval(&exported, "sample"), nats);
}

#[test]
fn bert_and_the_largest_palette_train_and_a_larger_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str| folder.path().join(name);
    let largest = palette(folder.path(), MAX_COLOURS);
    let flags = ["--palette", largest.to_str().unwrap(), "--steps", "1", "--json"];
    for (objective, more) in [("ar", &["--sample-every", "1"][..]), ("bert", &[])] {
        let said = assert_succeeds(train(&run(objective), &flags).args(["--objective", objective]).args(more));
        let first = json_lines(&said).into_iter().find(|line| line["event"] == "step").unwrap();
        assert!((first["loss"].as_f64().unwrap() - 4096_f64.ln()).abs() < 0.02, "{objective}: {first}");
    }

    let larger = palette(folder.path(), MAX_COLOURS + 1);
    let message = assert_refused(&mut train(&run("x"), &["--palette", larger.to_str().unwrap(), "--steps", "1"]));
    assert!(message.contains("4097 colours, and 1 to 4096 are possible"), "{message}");
    let fit = ["data", "palette", "--data", "sample", "--colours", "4097", "--out", "x.npy"];
    assert!(assert_refused(engine().args(fit)).contains("it must be from 1 to 4096"));

    // A checkpoint of a model that knows more.
    let mut export = engine();
    let exported = run("exported");
    assert_succeeds(export.arg("export").arg("--checkpoint").arg(run("ar")).arg("--out").arg(&exported));
    std::fs::remove_file(exported.join("igpt-engine.sha256")).unwrap();
    let config = exported.join("config.json");
    let mut value: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&config).unwrap()).unwrap();
    value["vocab_size"] = 5000.into();
    value.as_object_mut().unwrap().remove("igpt_manifest");
    std::fs::write(&config, value.to_string()).unwrap();
    let message = assert_refused(engine().args(["eval", "--checkpoint"]).arg(&exported));
    assert!(message.contains("vocabulary is 4999; it must be between 1 and 4096"), "{message}");
}

#[test]
fn plans_count_the_colours_of_the_palette() {
    let folder = tempfile::tempdir().unwrap();
    let plan = |palette: Option<&Path>| {
        let file = folder.path().join("recipe.toml");
        let palette = palette.map_or_else(String::new, |palette| format!("palette = '{}'\n", palette.display()));
        std::fs::write(&file, format!("model = \"s\"\nresolution = 32\nbatch = 8\n{palette}")).unwrap();
        let text = assert_succeeds(engine().args(["plan", "--json", "--config"]).arg(&file));
        let cost = &json_lines(&text)[0]["cost"];
        (cost["parameters"].as_u64().unwrap(), cost["memory_bf16"]["weights"].as_f64().unwrap())
    };
    let (few, many) = (plan(None), plan(Some(&palette(folder.path(), 4096))));
    // A row of the embedding and one of the token head for each colour.
    assert_eq!(many.0 - few.0, 2 * (4096 - 512) * 512);
    assert!(many.1 > few.1);
}

#[test]
fn both_devices_agree_on_a_palette_of_1000_colours() {
    if !has_turn(0, 2) {
        return;
    }
    let Some(driver) = Driver::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = palette(folder.path(), 1000);
    let losses = |device: &str| {
        let run = folder.path().join(device);
        let flags = ["--steps", "2", "--precision", "f32", "--warmup", "0", "--palette", file.to_str().unwrap()];
        let flags = if device == "cpu" { [&flags[..2], &flags[4..]].concat() } else { flags.to_vec() };
        let said = assert_succeeds(driver.train(0, device, &run, &flags).arg("--json"));
        let losses: Vec<f64> = json_lines(&said).iter().filter_map(|line| line["loss"].as_f64()).collect();
        (run, losses)
    };
    let ((run, cuda), (_, cpu)) = (losses("cuda"), losses("cpu"));
    assert_eq!((cuda.len(), cpu.len()), (2, 2));
    for (cuda, cpu) in cuda.iter().zip(&cpu) {
        assert!((cuda - cpu).abs() < 1e-4 * cpu, "{cuda} and {cpu}");
    }

    // Scored, drawn and probed there.
    let on_cuda = |flags: &[&str]| {
        let mut command: Command = driver.engine(0);
        command.args(flags).arg("--checkpoint").arg(&run).args(["--device", "cuda"]);
        assert_succeeds(command.current_dir(folder.path()));
    };
    on_cuda(&["eval", "--images", "2"]);
    on_cuda(&["sample", "--unconditional", "--count", "2", "--top-k", "900", "--top-p", "0.9"]);
    on_cuda(&["probe", "--data", "sample", "--images", "30", "--c", "1", "--out", "probe"]);
}
