//! Data sets as people name and have them: what is taken, and what is said.

use std::fs;
use std::path::Path;

use igpt_engine::data::npy;

use crate::{SMALL, assert_refused, assert_succeeds, engine, stderr, train};

/// A PNG of one colour, with alpha or without.
fn picture(path: &Path, side: u32, colour: [u8; 4]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let picture = image::RgbaImage::from_pixel(side, side, image::Rgba(colour));
    if colour[3] == 255 { image::DynamicImage::from(picture).into_rgb8().save(path) } else { picture.save(path) }
        .unwrap();
}

/// What a command that succeeds tells on standard error.
#[track_caller]
fn told(command: &mut std::process::Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", stderr(&output));
    stderr(&output)
}

#[test]
fn a_tilde_behind_the_colon_is_the_home_folder() {
    let home = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    picture(&home.path().join("photos/0.png"), 16, [1, 2, 3, 255]);
    npy::write_u16(home.path().join("t.npy"), &[2, 4], &[1; 8]).unwrap();
    npy::write_i64(home.path().join("y.npy"), &[2], &[0, 1]).unwrap();
    let info = |data: &str| {
        let mut command = engine();
        command.current_dir(elsewhere.path()).env("HOME", home.path()).args(["data", "info", data]);
        command
    };
    assert!(assert_succeeds(&mut info("images:~/photos")).contains("1 files"));
    assert!(assert_succeeds(&mut info("images:~")).contains("1 files"));
    assert!(assert_succeeds(&mut info("tokens:~/t.npy,~/y.npy")).contains("2 classes"));

    // Any other ~ is a name, here as in a shell.
    picture(&elsewhere.path().join("~photos/0.png"), 16, [1, 2, 3, 255]);
    picture(&elsewhere.path().join("a/~/0.png"), 16, [1, 2, 3, 255]);
    assert_succeeds(&mut info("images:~photos"));
    assert_succeeds(&mut info("images:a/~"));
}

#[test]
fn sample_gives_advice_that_can_be_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (run, at) = (folder.path().join("run"), |name: &str| folder.path().join(name));
    assert_succeeds(&mut train(&run, &["--steps", "1", "--eval-every", "0", "--sample-every", "0"]));
    picture(&at("icon.png"), 7, [9, 9, 9, 255]);
    picture(&at("whole.png"), 40, [9, 9, 9, 255]);
    let whole = fs::read(at("whole.png")).unwrap();
    fs::write(at("cut.png"), &whole[..whole.len() / 2]).unwrap();
    fs::write(at("text.png"), "no picture").unwrap();
    fs::write(at("phone.png"), b"\0\0\0\x18ftypheic\0\0\0\0mif1heic").unwrap();

    for (name, word) in [
        ("icon.png", "Use a model of smaller images"),
        ("cut.png", "Mend the picture"),
        ("text.png", "Mend the picture"),
        ("phone.png", "is HEIC, which is not read; convert it"),
    ] {
        let mut command = engine();
        command.current_dir(folder.path()).args(["sample", "--checkpoint", "run", name, "--completions", "1"]);
        let message = assert_refused(&mut command);
        assert!(message.contains(name) && message.contains(word), "{message}");
        assert!(!message.contains("--skip-bad") && !message.contains("--resolution"), "{message}");
    }
}

#[test]
fn a_missing_part_of_a_data_set_is_noted() {
    let folder = tempfile::tempdir().unwrap();
    let records = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/cifar10-sample/data_batch_1.bin")).unwrap();
    for batch in [1, 2, 4, 5] {
        fs::write(folder.path().join(format!("data_batch_{batch}.bin")), &records[..20 * 3073]).unwrap();
    }
    let data = format!("cifar10:{}", folder.path().display());
    let flags = ["--data", &data, "--steps", "1", "--eval-every", "0", "--sample-every", "0"];
    let note = "data_batch_3.bin is missing: only 4 of the 5 files";
    let noted = told(&mut train(&folder.path().join("run"), &flags));
    assert!(noted.contains(note), "{noted}");
    assert!(assert_succeeds(engine().args(["data", "info", &data])).contains(note));

    fs::write(folder.path().join("data_batch_3.bin"), &records[..3073]).unwrap();
    let noted = told(&mut train(&folder.path().join("whole"), &flags));
    assert!(!noted.contains("missing"), "{noted}");
}

#[test]
fn labels_counted_from_one_and_empty_classes_are_noted() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    assert_succeeds(&mut train(&at("run"), &["--steps", "1", "--eval-every", "0", "--sample-every", "0"]));
    let tokens: Vec<u16> = (0..30 * 64).map(|index| (index * 7 % 509) as u16).collect();
    npy::write_u16(at("t.npy"), &[30, 64], &tokens).unwrap();
    for (name, from) in [("y0.npy", 0), ("y1.npy", 1)] {
        let labels: Vec<i64> = (0..30).map(|row| row % 3 + from).collect();
        npy::write_i64(at(name), &[30], &labels).unwrap();
    }
    let finetune = |labels: &str, out: &str| {
        let data = format!("tokens:{},{}", at("t.npy").display(), at(labels).display());
        let mut command = engine();
        command.args(["finetune", "--checkpoint"]).arg(at("run")).args(["--data", &data, "--steps", "1"]);
        told(command.args(["--batch", "2"]).arg("--out").arg(at(out)))
    };
    let noted = finetune("y1.npy", "f1");
    assert!(noted.contains("class 0 has no images; labels are counted from 0"), "{noted}");
    let noted = finetune("y0.npy", "f0");
    assert!(!noted.contains("has no images"), "{noted}");
}

#[test]
fn alpha_reaches_every_command_that_reads_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for number in 0..4 {
        // Nobody would see the colour under the alpha.
        picture(&at(&format!("clear/{number}.png")), 8, [200, 30, 40, 0]);
        picture(&at(&format!("white/{number}.png")), 8, [255, 255, 255, 255]);
        picture(&at(&format!("red/{number}.png")), 8, [200, 30, 40, 255]);
    }
    let encode = |data: &str, flags: &[&str]| {
        let out = at("tokens.npy");
        let data = format!("images:{}", at(data).display());
        let mut command = engine();
        command.args(["data", "encode", "--data", &data, "--resolution", "8", "--holdout", "0", "--out"]).arg(&out);
        assert_succeeds(command.args(flags));
        let tokens = fs::read(&out).unwrap();
        fs::remove_file(&out).unwrap();
        tokens
    };
    let (white, red) = (encode("white", &[]), encode("red", &[]));
    assert!(encode("clear", &["--alpha", "white"]) == white);
    assert!(encode("clear", &[]) == red && encode("clear", &["--alpha", "drop"]) == red);
    assert!(![&white, &red].contains(&&encode("clear", &["--alpha", "black"])));

    // Of a run it is a setting as others are: what reads its data later takes it from there.
    let data = format!("images:{}", at("clear").display());
    let flags = ["--data", &data, "--alpha", "white", "--steps", "1", "--holdout", "0.5", "--sample-every", "0"];
    assert_succeeds(train(&at("run"), &flags).args(["--eval-every", "0"]));
    assert!(fs::read_to_string(at("run/config.toml")).unwrap().contains("alpha = \"white\""));
    let nats = |flags: &[&str]| {
        let mut command = engine();
        command.args(["eval", "--split", "validation", "--json", "--checkpoint"]).arg(at("run")).args(flags);
        let found: serde_json::Value = serde_json::from_str(&assert_succeeds(&mut command)).unwrap();
        found["nats_per_token"].as_f64().unwrap()
    };
    let own = nats(&[]);
    assert_eq!(own, nats(&["--alpha", "white"]));
    assert_ne!(own, nats(&["--alpha", "drop"]));
    assert_eq!(SMALL[7], "8", "the pictures have the model's resolution");
}
