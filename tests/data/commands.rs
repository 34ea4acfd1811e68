//! `igpt-engine data ...` as a user runs it.

use std::path::Path;
use std::process::{Command, Output};

use igpt_engine::data::{Palette, npy};
use serde_json::Value;

fn run(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_igpt-engine")).arg("data").args(args).current_dir(folder).output().unwrap()
}

/// The one JSON line on stdout.
fn json(folder: &Path, args: &[&str]) -> Value {
    let output = run(folder, &[args, &["--json"]].concat());
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn info_counts_the_sample() {
    let folder = tempfile::tempdir().unwrap();
    let info = json(folder.path(), &["info"]);
    assert_eq!(info["splits"][0]["examples"], 1000);
    assert_eq!(info["splits"][0]["held_out"], 100);
    assert_eq!(info["splits"][1]["examples"], 200);
    let counts = info["splits"][0]["class_counts"].as_array().unwrap();
    assert_eq!(counts.iter().filter_map(Value::as_u64).sum::<u64>(), 1000);
    assert_eq!(info["class_names"][9], "truck");
    let text = run(folder.path(), &["info"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("frog"));
}

#[test]
fn info_guesses_the_kind_and_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/cifar10-sample/data_batch_1.bin");
    std::fs::copy(sample, folder.path().join("data_batch_1.bin")).unwrap();
    let info = json(folder.path(), &["info", ".", "--verify"]);
    assert_eq!(info["data"], "cifar10:.");
    // A thousand records are not the official ten thousand.
    assert_eq!(info["files"][0]["official"], false);
    assert!(info["splits"][1]["missing"].as_str().unwrap().contains("test_batch.bin"));
    let none = run(folder.path(), &["info", "nowhere"]);
    assert!(!none.status.success() && none.stdout.is_empty());
    assert!(String::from_utf8_lossy(&none.stderr).contains("cifar10:DIR"));
}

#[test]
fn a_palette_is_fitted_and_used_to_encode() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["palette", "--colours", "16", "--resolution", "16", "--out", "p.npy", "--swatch", "p.png"];
    let fitted = json(folder.path(), &args);
    let palette = Palette::load(folder.path().join("p.npy")).unwrap();
    assert_eq!((palette.len(), fitted["id"].as_str()), (16, Some(palette.id().as_str())));
    assert!(fitted["test"]["mse"].as_f64().unwrap() < 0.05);
    assert!(image::open(folder.path().join("p.png")).is_ok());

    let args = [
        "encode",
        "--palette",
        "p.npy",
        "--resolution",
        "16",
        "--split",
        "test",
        "--out",
        "x.npy",
        "--labels-out",
        "y.npy",
    ];
    assert_eq!(json(folder.path(), &args)["shape"], serde_json::json!([200, 256]));
    let tokens = npy::Npy::open(folder.path().join("x.npy")).unwrap();
    assert_eq!((tokens.shape(), tokens.dtype()), (&[200, 256][..], npy::Dtype::U16));
    assert!(tokens.integers(0..tokens.len()).unwrap().all(|token| token < 16));
    let info = json(folder.path(), &["info", "tokens:x.npy,y.npy"]);
    assert_eq!(info["splits"][0]["class_counts"].as_array().unwrap().len(), 10);
}

#[test]
fn mistakes_end_with_the_fix_and_no_file() {
    let folder = tempfile::tempdir().unwrap();
    for (args, wanted) in [
        (vec!["palette", "--colours", "4097", "--out", "p.npy"], "from 1 to 4096"),
        (vec!["encode", "--resolution", "64", "--out", "x.npy"], "lower --resolution"),
        (vec!["encode", "--data", "tokens:x.npy", "--out", "y.npy"], "x.npy"),
        (vec!["encode", "--holdout", "0", "--split", "validation", "--out", "x.npy"], "--holdout"),
        (vec!["encode", "--palette", "missing.npy", "--out", "x.npy"], "missing.npy"),
    ] {
        let output = run(folder.path(), &args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(wanted), "{args:?}: {stderr}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// ImageNet's training tar with two classes of three photos each; of the second, one is broken.
fn imagenet(folder: &Path) {
    let photo = |number: u32| {
        let picture = image::RgbImage::from_fn(280, 250, |x, y| image::Rgb([x, y, number * 40].map(|v| v as u8)));
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
        bytes.into_inner()
    };
    let tar = |files: &[(String, Vec<u8>)]| {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, bytes.as_slice()).unwrap();
        }
        tar.into_inner().unwrap()
    };
    let class = |wnid: &str, first: u32| {
        let images = (first..first + 3).map(|number| (format!("{wnid}_{number}.JPEG"), photo(number)));
        let mut images: Vec<_> = images.collect();
        if first > 0 {
            images[1].1.truncate(500);
        }
        (format!("{wnid}.tar"), tar(&images))
    };
    let train = tar(&[class("n01440764", 0), class("n01443537", 3)]);
    std::fs::write(folder.join("ILSVRC2012_img_train.tar"), train).unwrap();
}

#[test]
fn shards_of_imagenet_tars() {
    let folder = tempfile::tempdir().unwrap();
    imagenet(folder.path());
    let encode = ["encode", "--data", "imagenet-tar:.", "--holdout", "0", "--out"];
    let strict = run(folder.path(), &[&encode[..], &["x.shard"]].concat());
    let stderr = String::from_utf8_lossy(&strict.stderr);
    assert_eq!(strict.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("n01443537/n01443537_4.JPEG") && stderr.contains("--skip-bad=N"), "{stderr}");
    assert!(!folder.path().join("x.shard").exists());

    let made = json(folder.path(), &[&encode[..], &["x.shard", "--skip-bad=1", "--workers", "1"]].concat());
    assert_eq!(made["shape"], serde_json::json!([6, 1024]));

    json(folder.path(), &[&encode[..], &["x.npy", "--skip-bad=1", "--workers", "3"]].concat());
    let info = json(folder.path(), &["info", "x.shard"]);
    assert_eq!((&info["data"], &info["kind"]), (&"shard:x.shard".into(), &"shard of tokens".into()));
    assert_eq!(info["splits"][0]["class_counts"], serde_json::json!([3, 3]));
    assert_eq!(info["class_names"], serde_json::json!(["n01440764", "n01443537"]));

    // The same tokens as in the array.
    let tokens = npy::Npy::open(folder.path().join("x.npy")).unwrap();
    let shard = std::fs::read(folder.path().join("x.shard")).unwrap();
    let tokens: Vec<u8> =
        tokens.integers(0..6 * 1024).unwrap().flat_map(|token| (token as u16).to_le_bytes()).collect();
    assert!(shard.windows(tokens.len()).any(|window| window == tokens));

    // A model evaluates on it, and refuses it once a bit has changed.
    let engine = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_igpt-engine")).args(args).current_dir(folder.path()).output().unwrap()
    };
    let model = ["--layers", "1", "--width", "16", "--heads", "2", "--eval-every", "0", "--sample-every", "0"];
    let train = ["train", "--data", "imagenet-tar:.", "--skip-bad=1", "--steps", "2", "--batch", "2", "--workers", "2"];
    let trained = engine(&[&train[..], &model, &["--out", "run", "--json"]].concat());
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));

    let step = String::from_utf8(trained.stdout).unwrap();
    let step: Value = serde_json::from_str(step.lines().find(|line| line.contains("\"step\":2")).unwrap()).unwrap();
    assert!((0.0..=1.0).contains(&step["data_wait"].as_f64().unwrap()), "{step}");

    let eval = ["eval", "--checkpoint", "run", "--data", "shard:x.shard", "--json"];
    let evaluated = engine(&eval);
    assert!(evaluated.status.success(), "{}", String::from_utf8_lossy(&evaluated.stderr));
    assert_eq!(serde_json::from_slice::<Value>(&evaluated.stdout).unwrap()["images"], 6);

    let mut altered = shard.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;

    for bytes in [&altered[..], &shard[..middle]] {
        std::fs::write(folder.path().join("x.shard"), bytes).unwrap();
        let refused = engine(&eval);
        assert_eq!(refused.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("x.shard"));
    }
}

#[test]
fn bench_measures() {
    let folder = tempfile::tempdir().unwrap();
    let rate = json(folder.path(), &["bench", "--seconds", "0.2", "--batch", "32", "--workers", "2"]);
    assert!(rate["images_per_second"].as_f64().unwrap() > 1.0 && rate["images"].as_u64().unwrap() >= 32, "{rate}");
    let per_core = rate["images_per_second_per_core"].as_f64().unwrap();
    assert!(per_core <= rate["images_per_second"].as_f64().unwrap(), "{rate}");
    assert!(rate["seconds_per_image"]["palette"].as_f64().unwrap() > 0.0);
    let text = run(folder.path(), &["bench", "--seconds", "0.1"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("per core"));
    for (args, word) in
        [(["--batch", "0"], "--batch"), (["--seconds", "0"], "--seconds"), (["--workers", "9999"], "1024")]
    {
        let output = run(folder.path(), &[&["bench"][..], &args].concat());
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(word), "{args:?}");
    }
}

/// The published hash of STL-10's `class_names.txt` is that of these names; the other files are cut.
#[test]
fn official_sizes_and_hashes_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let stl = folder.path().join("stl10_binary");
    std::fs::create_dir(&stl).unwrap();
    let names = "airplane\nbird\ncar\ncat\ndeer\ndog\nhorse\nmonkey\nship\ntruck\n";
    std::fs::write(stl.join("class_names.txt"), names).unwrap();
    std::fs::write(stl.join("train_X.bin"), vec![0; 27_648]).unwrap();
    std::fs::write(stl.join("train_y.bin"), vec![1; 1]).unwrap();
    let of = |info: &Value, name: &str| {
        let files = info["files"].as_array().unwrap().clone();
        files.into_iter().find(|file| file["path"].as_str().unwrap().ends_with(name)).unwrap()
    };
    let info = json(folder.path(), &["info", "."]);
    assert_eq!(info["data"], "stl10:.");
    assert_eq!(of(&info, "class_names.txt")["official_size"], true);
    assert_eq!(of(&info, "train_X.bin")["official_size"], false);
    assert!(of(&info, "class_names.txt")["official"].is_null());

    let info = json(folder.path(), &["info", ".", "--verify"]);
    assert_eq!(
        (of(&info, "class_names.txt")["official"].as_bool(), of(&info, "train_y.bin")["official"].as_bool()),
        (Some(true), Some(false))
    );
    assert_eq!(of(&info, "class_names.txt")["hash"], "MD5");

    let text = run(folder.path(), &["info", ".", "--verify"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("official MD5") && text.contains("NOT the official size"), "{text}");
}
