//! Recipes, `plan` and `results`.

use std::fs;
use std::path::{Path, PathBuf};

use igpt_engine::device::Precision;
use igpt_engine::plan::{Cost, DEVICES};
use igpt_engine::recipe::{Command, Recipe, Table, built_in};
use serde_json::{Value, json};

use test_support::has_turn;

use crate::{assert_refused, assert_succeeds, checkpoint, engine, json_lines, train};

const RECIPES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes");

fn recipe(name: &str) -> Recipe {
    built_in().unwrap().into_iter().find(|recipe| recipe.path == name).unwrap_or_else(|| panic!("no {name}"))
}

fn file(name: &str) -> PathBuf {
    Path::new(RECIPES).join(name)
}

#[test]
fn every_file_is_built_in_and_says_what_is_published() {
    let mut files: Vec<String> =
        fs::read_dir(RECIPES).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let recipes = built_in().unwrap();
    let mut names: Vec<&String> = recipes.iter().map(|recipe| &recipe.path).collect();
    names.sort();
    assert_eq!(names, files.iter().collect::<Vec<_>>());

    for recipe in &recipes {
        let paper = recipe.paper.as_ref().unwrap_or_else(|| panic!("{}: no [paper]", recipe.path));
        assert!(paper.source.contains("paper"), "{}: {}", recipe.path, paper.source);
        assert!(paper.expected.is_some() || paper.open.as_ref().is_some_and(|open| !open.is_empty()));
        let table = match recipe.command {
            Command::Train => vec![Table::PreTraining],
            Command::Finetune => vec![Table::FineTuning],
            Command::Probe => vec![Table::LinearProbe, Table::LowData],
        };
        assert!(table.contains(&paper.table), "{}", recipe.path);
    }

    let count = |table| recipes.iter().filter(|recipe| recipe.paper.as_ref().unwrap().table == table).count();
    assert_eq!(Table::ALL.map(count), [8, 11, 6, 3]);
}

/// Table 5 of the paper, with section 3.4.
#[test]
fn pre_training_is_as_the_paper_prints_it() {
    for (name, [layers, width, side], rate, [batch, steps], bert) in [
        ("pretrain-s-ar-32.toml", [24, 512, 32], 0.003, [128, 1_000_000], false),
        ("pretrain-m-ar-32.toml", [36, 1024, 32], 0.003, [128, 1_000_000], false),
        ("pretrain-l-ar-32.toml", [48, 1536, 32], 0.001, [128, 1_000_000], false),
        ("pretrain-l-ar-48.toml", [48, 1536, 48], 0.01, [128, 1_000_000], false),
        ("pretrain-xl-ar-64.toml", [60, 3072, 64], 0.0003, [64, 2_000_000], false),
        ("pretrain-s-bert-32.toml", [24, 512, 32], 0.01, [128, 1_000_000], true),
        ("pretrain-m-bert-32.toml", [36, 1024, 32], 0.003, [128, 1_000_000], true),
        ("pretrain-l-bert-32.toml", [48, 1536, 32], 0.001, [128, 1_000_000], true),
    ] {
        let recipe = recipe(name);
        let model = recipe.model().unwrap();
        assert_eq!([model.layers, model.width, model.positions], [layers, width, side * side], "{name}");
        assert_eq!(recipe.settings["lr"].as_float(), Some(rate), "{name}");
        assert_eq!(["batch", "steps"].map(|key| recipe.number(key).unwrap()), [Some(batch), Some(steps)], "{name}");
        assert_eq!((recipe.is_bert(), recipe.text("schedule")), (bert, Some("cosine")), "{name}");
        // One epoch of the 96 % that is trained on.
        let epoch = 1_229_920_f64 / batch as f64;
        assert_eq!(recipe.number("warmup").unwrap(), Some(epoch.round() as u64), "{name}");
    }
}

/// Parameters, FLOPs and memory of every recipe against formulae written out here again.
#[test]
fn every_recipe_costs_what_the_formulae_say() {
    if !has_turn(1, 2) {
        return;
    }
    // Each on one device, and each device for some: what fits is found by going through steps.
    for (recipe, device) in built_in().unwrap().into_iter().zip(DEVICES.iter().cycle()) {
        let (model, cost) = (recipe.model().unwrap(), Cost::of(&recipe).unwrap());
        let [l, d, n] = [model.layers, model.width, model.positions].map(|size| size as f64);
        let sos = if recipe.is_bert() { 0.0 } else { d };
        let parameters = l * (12.0 * d * d + 2.0 * d) + n * d + 1024.0 * d + sos + d;
        assert_eq!(cost.parameters as f64, parameters, "{}", recipe.path);
        let attention = if recipe.is_bert() { 12.0 } else { 6.0 };
        let training = 6.0 * (12.0 * l * d * d + 512.0 * d) + attention * l * n * d;
        let per_token = if recipe.command == Command::Probe { training / 3.0 } else { training };
        assert!((cost.flops_per_token / per_token - 1.0).abs() < 1e-12, "{}", recipe.path);
        assert!((cost.flops / (per_token * cost.tokens) - 1.0).abs() < 1e-12, "{}", recipe.path);
        let memory = cost.memory_f32;
        let adam = if recipe.command == Command::Probe { 0.0 } else { 12.0 * parameters };
        assert_eq!(memory.weights, 4.0 * parameters, "{}", recipe.path);
        assert_eq!(memory.gradients + memory.moments, adam, "{}", recipe.path);
        let run = cost.on(device, Precision::Bf16, 0.4);
        assert!(run.seconds > 0.0 && run.kilowatt_hours > 0.0, "{}", recipe.path);

        // What is said to fit does, and one image more does not.
        if let Some(largest) = run.largest_micro_batch {
            let total = |batch: u64| {
                let mut recipe = recipe.clone();
                recipe.settings.insert("batch".into(), (batch as i64).into());
                Cost::of(&recipe).unwrap().on(device, Precision::Bf16, 0.4)
            };
            assert!(total(largest).fits && !total(largest + 1).fits, "{} on {}", recipe.path, device.name);
        }
    }

    let published = ["s", "m", "l", "xl"].map(|size| {
        let mut recipe = recipe(&format!("pretrain-{size}-ar-{}.toml", if size == "xl" { 64 } else { 32 }));
        recipe.settings.insert("resolution".into(), 32.into());
        Cost::of(&recipe).unwrap().parameters
    });
    assert_eq!(published, [76_571_648, 455_157_760, 1_362_250_752, 6_801_438_720]);
}

/// Every pre-training recipe, made small by the flag for that, trains two steps.
#[test]
fn every_pre_training_recipe_trains_two_steps_when_scaled_down() {
    let folder = tempfile::tempdir().unwrap();
    for recipe in built_in().unwrap().into_iter().filter(|recipe| recipe.command == Command::Train) {
        let out = folder.path().join(&recipe.path);
        let mut command = engine();
        command.args(["train", "--scale-down", "64", "--steps", "2", "--data", "sample", "--json", "--config"]);
        command.arg(file(&recipe.path)).arg("--out").arg(&out);
        let lines = json_lines(&assert_succeeds(&mut command));
        let steps = lines.iter().filter(|line| line["event"] == "step").count();
        assert_eq!(steps, 2, "{}: {lines:?}", recipe.path);
        // What was trained is what the plan of the scaled recipe says.
        let model = recipe.clone().scaled_down(64).unwrap().model().unwrap();
        let saved = igpt_engine::checkpoint::load_config(&checkpoint(&out, 2)).unwrap();
        assert_eq!((saved.layers, saved.width, saved.positions), (model.layers, model.width, model.positions));
        assert_eq!(saved.sos, !recipe.is_bert(), "{}", recipe.path);
        let config = fs::read_to_string(out.join("config.toml")).unwrap();
        assert!(!config.contains("paper") && config.contains("steps = 2"), "{config}");
    }
}

/// Every fine-tuning recipe, on a small model of its objective, trains two steps; then as many as were best once more.
#[test]
fn every_fine_tuning_recipe_trains_two_steps_when_scaled_down() {
    let folder = tempfile::tempdir().unwrap();
    let model = |objective: &str| {
        let run = folder.path().join(objective);
        assert_succeeds(&mut train(&run, &["--steps", "1", "--objective", objective]));
        run
    };
    let models = [model("ar"), model("bert")];

    for recipe in built_in().unwrap().into_iter().filter(|recipe| recipe.command == Command::Finetune) {
        let out = folder.path().join(&recipe.path);
        let mut command = engine();
        command.args(["finetune", "--scale-down", "64", "--steps", "2", "--data", "sample", "--json"]);
        command.args(["--eval-every", "1", "--eval-images", "16", "--threads", "2"]);
        command.arg("--checkpoint").arg(&models[usize::from(recipe.is_bert())]);
        command.arg("--config").arg(file(&recipe.path)).arg("--out").arg(&out);
        let lines = json_lines(&assert_succeeds(&mut command));
        let steps = lines.iter().filter(|line| line["event"] == "step").count();
        assert!((3..=4).contains(&steps), "{}: {lines:?}", recipe.path);
        assert!(out.join("folded").is_dir(), "{}", recipe.path);
        let config = fs::read_to_string(out.join("config.toml")).unwrap();
        assert!(config.contains("batch = 2\n") && config.contains("patience = 5"), "{config}");
    }

    let report: Value = serde_json::from_str(&results(folder.path(), &["--json"])).unwrap();
    let tuned = report["others"].as_array().unwrap().iter().filter(|found| found["command"] == "finetune").count();

    // Six, and six folded ones: those have measured nothing, for no image was left to measure on.
    assert_eq!(tuned, 6, "{report}");
}

/// Every recipe of a probe runs when scaled down: on a few images, with solvers of a few iterations.
#[test]
fn every_probe_recipe_runs_when_scaled_down() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let masked = folder.path().join("masked");

    // Five depths, for the recipe that reads five layers together.
    assert_succeeds(&mut train(&run, &["--steps", "1", "--layers", "4"]));
    assert_succeeds(&mut train(&masked, &["--steps", "1", "--layers", "4", "--objective", "bert"]));
    let probes = built_in().unwrap().into_iter().filter(|recipe| recipe.command == Command::Probe);

    for recipe in probes {
        let out = folder.path().join(&recipe.path);
        let mut command = engine();
        command.args(["probe", "--scale-down", "1024", "--data", "sample", "--images", "120", "--iterations", "2"]);
        command.args(["--threads", "2", "--json", "--config"]).arg(file(&recipe.path));
        command.arg("--checkpoint").arg(if recipe.is_bert() { &masked } else { &run }).arg("--out").arg(&out);
        let few = recipe.path.starts_with("low-data");
        if few {
            // So few images have no 25 or 400 of a class.
            command.args(["--labels-per-class", "4"]);
        }
        let report = json_lines(&assert_succeeds(&mut command)).remove(0);
        assert_eq!(report["finished"], true, "{}: {report}", recipe.path);
        let concatenated = recipe.number("concat").unwrap().unwrap_or(1) as usize;
        let read = |row: &Value| row["depths"].as_array().unwrap().len() == concatenated;
        assert!(report["rows"].as_array().unwrap().iter().any(read), "{}: {report}", recipe.path);
        assert_eq!(report["few_labels"].as_array().unwrap().len(), usize::from(few), "{}", recipe.path);
    }
}

#[test]
fn plan_says_what_fits() {
    let plan = |flags: &[&str]| {
        let mut command = engine();
        command.arg("plan").args(flags).arg("--config").arg(file("pretrain-l-ar-32.toml"));
        command
    };
    let text = assert_succeeds(&mut plan(&[]));

    for words in ["1,362,250,752 parameters", "activations", "H100 SXM", "kWh", "2.0466 nats", "1,000,000 steps"] {
        assert!(text.contains(words), "{words} is not in\n{text}");
    }

    let report = json_lines(&assert_succeeds(&mut plan(&["--device-model", "h100,v100", "--json"]))).remove(0);
    let devices = report["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 2);
    assert_eq!((&devices[0]["fits"], &devices[1]["precision"]), (&json!(false), &json!("f32")));

    let largest = devices[0]["largest_micro_batch"].as_u64().unwrap().to_string();
    let fitting =
        json_lines(&assert_succeeds(&mut plan(&["--device-model", "h100", "--batch", &largest, "--json"]))).remove(0);
    assert_eq!(fitting["devices"][0]["fits"], true);

    // Scaled down, it fits anything.
    let small = json_lines(&assert_succeeds(&mut plan(&["--scale-down", "16", "--json"]))).remove(0);
    assert!(small["devices"].as_array().unwrap().iter().all(|device| device["fits"] == true));

    for (flags, word) in [
        (["--device-model", "abacus"], "rtx4090"),
        (["--utilisation", "0"], "--utilisation"),
        (["--scale-down", "0"], "--scale-down"),
        (["--scale-down", "5000"], "1024"),
    ] {
        let message = assert_refused(&mut plan(&flags));
        assert!(message.contains(word), "{flags:?}: {message}");
    }
}

#[test]
fn files_that_are_not_recipes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.toml");
    for (text, word) in [
        ("= 3", "TOML"),
        ("command = \"bake\"", "command"),
        ("batch = -1", "batch"),
        ("model = \"xxl\"", "xxl"),
        ("resolution = 100000", "resolution"),
        ("heads = 7", "heads"),
        ("[paper]\ntable = \"pre-training\"", "row"),
        ("[pretrained]\nmodel = \"l\"", "resolution"),
    ] {
        fs::write(&path, text).unwrap();
        let message = assert_refused(engine().arg("plan").arg("--config").arg(&path));
        assert!(message.contains(word), "{text}: {message}");
    }

    assert!(assert_refused(engine().args(["plan", "--config", "no/such.toml"])).contains("no/such.toml"));
    // For another command, and dividing nothing.
    let out = folder.path().join("run");
    let message = assert_refused(train(&out, &[]).arg("--config").arg(file("finetune-cifar10-l.toml")));
    assert!(message.contains("igpt-engine finetune"), "{message}");

    let message = assert_refused(&mut train(&out, &["--scale-down", "8"]));
    assert!(message.contains("--config"), "{message}");
    assert!(!out.exists());
}

fn results(folder: &Path, flags: &[&str]) -> String {
    assert_succeeds(engine().arg("results").args(flags).arg(folder))
}

/// A run of iGPT-S on ImageNet, as far as its folder tells.
fn pretended_run(folder: &Path, steps: u64, loss: f64) {
    fs::create_dir_all(folder).unwrap();
    let settings = fs::read_to_string(file("pretrain-s-ar-32.toml")).unwrap();
    let settings = settings.split("[paper]").next().unwrap().replace("batch = 128", "batch = 64");
    fs::write(folder.join("config.toml"), settings).unwrap();
    let record = json!({"step": steps, "val_loss": loss, "unigram_entropy": 5.5, "images": 9, "elapsed": 1.0});
    fs::write(folder.join("metrics.jsonl"), format!("{record}\n")).unwrap();
}

/// What `probe` writes, of a model of iGPT-L's shape whose weights nobody has.
#[test]
fn probes_appear_in_their_rows() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("tiny");
    assert_succeeds(&mut train(&run, &["--steps", "1"]));
    let config = fs::read_to_string(checkpoint(&run, 1).join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();

    for (key, value) in [("n_layer", 48), ("n_embd", 1536), ("n_head", 16), ("n_positions", 1024)] {
        config[key] = value.into();
    }
    config.as_object_mut().unwrap().remove("igpt_manifest");

    fs::write(checkpoint(&run, 1).join("config.json"), config.to_string()).unwrap();
    for verified in ["igpt-engine.sha256", "training.json"] {
        fs::remove_file(checkpoint(&run, 1).join(verified)).unwrap();
    }
    let few = |labels: u64, mean: f64| {
        json!({"labels_per_class": labels, "depths": [20], "accuracies": [mean, mean], "mean": mean, "deviation": 0.01,
               "converged": 2})
    };
    let row = |source: &str, depth: u64, held_out: f64, test: Option<f64>| {
        json!({"source": source, "depths": [depth], "validation_accuracy": held_out, "test_accuracy": test,
               "converged": true})
    };
    let report = json!({
        "rows": [row("untrained", 20, 0.9, Some(0.9)), row("trained", 21, 0.6, None),
                 row("trained", 19, 0.4, Some(0.75)), row("trained", 20, 0.5, Some(0.625))],
        "classes": 10, "data": "cifar10:data", "checkpoint": run, "finished": true,
        "few_labels": [few(4, 0.25), few(25, 0.375)],
    });
    fs::create_dir(run.join("probe")).unwrap();
    fs::write(run.join("probe/probe.json"), format!("{report:#}\n")).unwrap();
    let text = results(folder.path(), &[]);

    for (row, words) in [
        ("CIFAR-10, iGPT-L 32×32 ", ["96.3", "62.5", "depth 20"]),
        ("CIFAR-10, 4 labels a class, iGPT", ["73.2 ± 1.5", "25.0 ± 1.0", "2 choices"]),
        ("CIFAR-10, 25 labels a class, iGPT", ["87.6 ± 0.6", "37.5 ± 1.0", "probe.json"]),
        ("CIFAR-10, 400 labels a class, iGPT", ["94.3 ± 0.1", "missing", "recipes/low-data-cifar10-4000-labels.toml"]),
        ("CIFAR-100, iGPT-L 32×32", ["82.8", "missing", "probe-cifar100-l.toml"]),
    ] {
        let line = text.lines().find(|line| line.contains(row)).unwrap_or_else(|| panic!("no {row} in\n{text}"));
        words.iter().for_each(|word| assert!(line.contains(word), "{word} is not in {line}"));
    }

    // Other reports, and those of a probe that was stopped, are no results without a remark.
    let row = json!({"source": "trained", "depths": [1, 2, 3], "validation_accuracy": 0.5, "test_accuracy": null});
    let stopped = json!({"rows": [row], "few_labels": [], "data": "sample", "checkpoint": run, "finished": false});
    fs::write(run.join("probe/probe.json"), format!("{stopped}\n{{\"event\":\"start\"}}\n")).unwrap();
    let text = results(folder.path(), &[]);
    let line = text.lines().find(|line| line.contains("probe on sample")).unwrap();

    for word in ["3 layers", "50.0 %", "held-out images", "not finished", "depths 1 to 3"] {
        assert!(line.contains(word), "{word} is not in {line}");
    }
}

/// The methods of the paper's tables, each in its place, with nothing but what the paper prints.
#[test]
fn other_methods_stand_beside_image_gpt() {
    let folder = tempfile::tempdir().unwrap();
    let (runs, plot) = (folder.path().join("runs"), folder.path().join("plot.svg"));
    fs::create_dir(&runs).unwrap();
    let text = results(&runs, &["--plot", plot.to_str().unwrap()]);
    let columns = |row: &str| -> Vec<&str> {
        let line = text.lines().find(|line| line.contains(row)).unwrap_or_else(|| panic!("no {row} in\n{text}"));
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
    };
    let expected =
        ["ImageNet, SimCLR, large", "unsupervised", "original", "375", "8192", "76.5", "-", "paper, Table 2"];
    assert_eq!(columns("ImageNet, SimCLR, large"), expected);
    let expected = ["CIFAR-100, EfficientNet", "supervised", "-", "-", "-", "91.7", "-", "paper, Table 3"];
    assert_eq!(columns("CIFAR-100, EfficientNet"), expected);
    let own = columns("ImageNet, iGPT-XL 64×64, five layers");
    assert_eq!(own[1..7], ["unsupervised", "64×64", "6810", "15360", "72.0", "missing"]);
    assert_eq!(columns("4 labels a class, FixMatch CTA")[5], "88.6 ± 3.4");

    // By accuracy within a data set, as the paper has them.
    let place = |row: &str| text.find(row).unwrap_or_else(|| panic!("no {row}"));
    let order = [
        "CIFAR-10, ResNet-152",
        "CIFAR-10, SimCLR",
        "ImageNet, Rotation",
        "ImageNet, iGPT-L 32×32 ",
        "ImageNet, BigBiGAN",
        "ImageNet, SimCLR, large",
        "CIFAR-10, AutoAugment",
    ];
    assert!(order.windows(2).all(|pair| place(pair[0]) < place(pair[1])), "{text}");

    let drawn = fs::read_to_string(&plot).unwrap();
    for name in ["Rotation 55.4", "iGPT-XL 64×64 68.7", "parameters, millions"] {
        assert!(drawn.contains(name), "{name} is not in the plot");
    }
    let json: Value = serde_json::from_str(&results(&runs, &["--json"])).unwrap();
    assert_eq!(json["tables"][1]["compared"].as_array().unwrap().len(), 12);
    assert_eq!(json["tables"][0]["compared"], json!([]));
}

#[test]
fn results_appear_beside_the_papers_and_missing_ones_are_marked() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    assert_succeeds(&mut train(&runs.join("tiny"), &["--steps", "1"]));
    pretended_run(&runs.join("nested/s-001"), 4000, 2.5);
    pretended_run(&runs.join("nested/s-002"), 2000, 2.75);
    let report: Value = serde_json::from_str(&results(&runs, &["--json"])).unwrap();
    let rows = report["tables"][0]["rows"].as_array().unwrap();
    let ours = &rows[0]["ours"];
    assert_eq!((&rows[0]["published"], &ours["value"]), (&json!(2.0895), &json!(2.5)));

    let remarks = ours["remarks"].to_string();
    for words in ["4000 of 1000000 steps", "64 images a step instead of 128", "validation images", "built-in palette"] {
        assert!(remarks.contains(words), "{words} is not in {remarks}");
    }

    let filled = |table: &Value| table["rows"].as_array().unwrap().iter().filter(|row| !row["ours"].is_null()).count();
    assert_eq!(report["tables"].as_array().unwrap().iter().map(filled).sum::<usize>(), 1);

    let others = report["others"].as_array().unwrap();
    assert_eq!(others.len(), 2, "{others:?}");

    // Test images come first, of whichever run.
    let line = json!({"data": "imagenet-tar:x (test)", "split": "test", "images": 50000, "nats_per_token": 2.25});
    fs::write(runs.join("nested/s-002/test.json"), format!("{line}\n")).unwrap();
    let text = results(&runs, &[]);
    let row = text.lines().find(|line| line.contains("iGPT-S, autoregressive")).unwrap();

    for words in ["2.0895", "2.2500", "s-002", "50000 test images"] {
        assert!(row.contains(words), "{words} is not in {row}");
    }

    assert_eq!(text.matches(" missing ").count(), 27);
    assert!(text.contains("95.5") && text.contains("73.2 ± 1.5") && text.contains("train on sample: 2 layers × 16"));

    let markdown = results(&runs, &["--markdown"]);
    assert!(markdown.contains("| iGPT-S, autoregressive, 32×32 | 2.0895 | 2.2500 |"), "{markdown}");
    for table in markdown.split("**").filter(|part| part.contains("|---")) {
        let columns: Vec<usize> =
            table.lines().filter(|line| line.starts_with('|')).map(|line| line.matches('|').count()).collect();
        assert!(columns.iter().all(|count| *count == columns[0] && [5, 9].contains(count)), "{table}");
    }

    // What is damaged is named.
    fs::write(runs.join("nested/s-002/test.json"), "{\n").unwrap();
    assert!(assert_refused(engine().arg("results").arg(&runs)).contains("test.json"));

    fs::write(runs.join("nested/s-001/config.toml"), "model = 3").unwrap();
    assert!(assert_refused(engine().arg("results").arg(&runs)).contains("config.toml"));
    assert!(assert_refused(engine().args(["results", "no/such"])).contains("no/such"));
}
