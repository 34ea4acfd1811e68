//! Paths that are not UTF-8: shown with replacement characters, or refused; never a panic.
#![cfg(unix)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::{assert_refused, assert_succeeds, checkpoint, engine, json_lines, train};

/// `caf\xe9`, as Latin-1 writes it.
fn odd(name: &str) -> std::ffi::OsString {
    let mut bytes = name.as_bytes().to_vec();
    bytes.extend(b"caf\xe9");
    OsStr::from_bytes(&bytes).to_owned()
}

#[test]
fn json_shows_paths_of_any_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(odd(name));
    let run = folder.path().join("plain");
    assert_succeeds(&mut train(&run, &["--steps", "1", "--sample-every", "0"]));
    let step = at("step");
    fs::rename(checkpoint(&run, 1), &step).unwrap();

    // Twenty images of noise in two classes, for the probe.
    let [images, labels] = ["images.npy", "labels.npy"].map(|name| folder.path().join(name));
    let noise: Vec<u16> = (0..20 * 64).map(|pixel| (pixel * 7919 % 512) as u16).collect();
    igpt_engine::data::npy::write_u16(&images, &[20, 64], &noise).unwrap();
    igpt_engine::data::npy::write_u16(&labels, &[20], &[0, 1].repeat(10)).unwrap();
    let tokens = format!("tokens:{},{}", images.display(), labels.display());

    let mut commands = Vec::new();
    for words in [
        &["eval", "--images", "2", "--out"][..],
        &["sample", "--unconditional", "--count", "1", "--out"],
        &["probe", "--data", &tokens, "--test-data", &tokens, "--c", "1", "--out"],
        &["export", "--out"],
    ] {
        let mut command = engine();
        command.args(words).arg(at(words[0])).arg("--json").arg("--checkpoint").arg(&step);
        commands.push(command);
    }
    let mut import = engine();
    import.arg("import").arg(&step).arg("--json").arg("--out").arg(at("import"));
    let mut encode = engine();
    encode
        .args(["data", "encode", "--data", "sample", "--split", "test", "--resolution", "8", "--json", "--out"])
        .arg(folder.path().join(odd("t")).with_extension("npy"));
    commands.extend([import, encode]);

    for mut command in commands {
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command:?}: {text}");
        let lines = json_lines(&String::from_utf8(output.stdout).unwrap());
        assert!(!lines.is_empty(), "{command:?}");
    }
    let shown = assert_succeeds(engine().arg("results").arg(at("eval").parent().unwrap()).arg("--json"));
    assert!(!json_lines(&shown).is_empty());
}

#[test]
fn runs_and_data_of_such_names_are_taken_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(odd(name));
    // config.toml is UTF-8, so a run needs such a name: said before anything is made.
    let message = assert_refused(&mut train(&at("run"), &["--steps", "1", "--json"]));
    assert!(message.contains("UTF-8") && !at("run").exists(), "{message}");
    for words in [&["data", "info"][..], &["results"], &["eval", "--checkpoint"], &["plan", "--config"]] {
        for json in [true, false] {
            let mut command = engine();
            command.args(words).arg(at("nothing")).args(json.then_some("--json"));
            assert_refused(&mut command);
        }
    }
}
