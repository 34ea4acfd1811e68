//! What commands write: whole, where the user said, found out before the work, and destroying nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{SMALL, assert_refused, assert_succeeds, engine, train};

/// A folder to work in, and a model in it that scores an image in no time.
struct Workshop(tempfile::TempDir);

impl Workshop {
    fn new() -> Self {
        let workshop = Self(tempfile::tempdir().unwrap());
        assert_succeeds(&mut train(&workshop.at("run"), &["--steps", "1", "--sample-every", "0"]));
        workshop
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, line: &str) -> Command {
        run_in(self.0.path(), line)
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.at(name), content).unwrap();
    }
}

fn run_in(folder: &Path, line: &str) -> Command {
    let mut command = engine();
    command.current_dir(folder).args(line.split(' '));
    command
}

/// Every flag that names a file, with a model or data that are not there: what is refused first is the file.
const FILES: [&str; 8] = [
    "eval --checkpoint nowhere --out OUT",
    "eval --checkpoint nowhere --per-token OUT",
    "sample --checkpoint nowhere --out OUT",
    "sample --checkpoint nowhere --tokens-out OUT",
    "data palette --data images:nowhere --out OUT",
    "data palette --data images:nowhere --out p.npy --swatch OUT",
    "data encode --data images:nowhere --out OUT",
    "data encode --data images:nowhere --out x.npy --labels-out OUT",
];

/// Every flag that names a folder.
const FOLDERS: [&str; 6] = [
    "train --data images:nowhere --out OUT",
    "finetune --checkpoint nowhere --data images:nowhere --out OUT",
    "probe --raw-pixels --data images:nowhere --out OUT",
    "demo --data images:nowhere --out OUT",
    "data fetch cifar10 --out OUT",
    "man --out OUT",
];

#[test]
fn a_file_that_cannot_be_written_is_found_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("folder.npy")).unwrap();
    fs::write(at("file"), "").unwrap();
    for line in FILES {
        let refused = |out: &str| assert_refused(&mut run_in(folder.path(), &line.replace("OUT", out)));
        let message = refused("no/such/x.npy");
        assert!(message.contains("there is no folder no/such; make it first"), "{line}: {message}");
        let message = refused("folder.npy");
        assert!(message.contains("folder.npy: it is a folder"), "{line}: {message}");
        let message = refused("file/x.npy");
        assert!(message.contains("file is no folder"), "{line}: {message}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing was left by looking");
}

#[test]
fn a_folder_that_cannot_be_made_is_found_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "kept").unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden/l2d64h2p64");
    let convert = ["import MODEL --out OUT", "export --checkpoint MODEL --out OUT"];
    for line in FOLDERS.iter().chain(&convert) {
        for out in ["file", "file/run"] {
            let line = line.replace("MODEL", model.to_str().unwrap()).replace("OUT", out);
            let message = assert_refused(&mut run_in(folder.path(), &line));
            assert!(message.contains("no folder"), "{line}: {message}");
        }
    }
    assert_eq!(fs::read_to_string(folder.path().join("file")).unwrap(), "kept");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn links_pipes_and_devices_are_written_and_stay() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    let workshop = Workshop::new();
    fs::create_dir(workshop.at("disk")).unwrap();
    for name in ["scores.json", "nats.npy", "grid.png", "tokens.npy", "palette.npy", "swatch.png", "x.npy", "y.npy"] {
        symlink(Path::new("disk").join(name), workshop.at(name)).unwrap();
    }
    for line in [
        "eval --checkpoint run --images 2 --out scores.json --per-token nats.npy",
        "sample --checkpoint run --unconditional --count 1 --out grid.png --tokens-out tokens.npy",
        "data palette --resolution 8 --colours 4 --iterations 2 --out palette.npy --swatch swatch.png",
        "data encode --resolution 8 --split test --out x.npy --labels-out y.npy",
    ] {
        assert_succeeds(&mut workshop.run(line));
    }
    let links = fs::read_dir(workshop.0.path()).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_symlink());
    assert_eq!(links.count(), 8);
    for entry in fs::read_dir(workshop.at("disk")).unwrap() {
        assert!(entry.as_ref().unwrap().metadata().unwrap().len() > 50, "{entry:?}");
    }

    // A pipe: its reader has an array.
    assert!(Command::new("mkfifo").arg(workshop.at("pipe")).status().unwrap().success());
    let reader = std::thread::spawn({
        let pipe = workshop.at("pipe");
        move || fs::read(pipe).unwrap()
    });
    assert_succeeds(&mut workshop.run("eval --checkpoint run --images 2 --per-token pipe --out /dev/null"));
    assert_eq!(reader.join().unwrap(), fs::read(workshop.at("nats.npy")).unwrap());
    assert!(fs::symlink_metadata(workshop.at("pipe")).unwrap().file_type().is_fifo());
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
}

#[cfg(target_os = "linux")]
#[test]
fn standard_output_can_be_named_as_a_file() {
    let workshop = Workshop::new();
    let line = "eval --checkpoint run --images 2 --json --out /dev/stdout";
    let piped = assert_succeeds(&mut workshop.run(line));
    let [first, second] = piped.lines().collect::<Vec<_>>()[..] else { panic!("{piped}") };
    assert_eq!(first, second);

    // Behind what the shell's file holds already.
    workshop.write("log", "before\n");
    let log = fs::File::options().append(true).open(workshop.at("log")).unwrap();
    assert!(workshop.run(line).stdout(log).stderr(Stdio::null()).status().unwrap().success());
    assert_eq!(fs::read_to_string(workshop.at("log")).unwrap(), format!("before\n{piped}"));

    // A full disk is said.
    let message = assert_refused(&mut workshop.run("eval --checkpoint run --images 2 --out /dev/full"));
    assert!(message.contains("Free some space"), "{message}");
}

#[cfg(unix)]
#[test]
fn a_run_whose_parts_lie_on_another_disk_goes_on_there() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["disk", "disk/checkpoints", "run"] {
        fs::create_dir(at(name)).unwrap();
    }
    for name in ["checkpoints", "metrics.jsonl", "report.html", "config.toml"] {
        symlink(Path::new("../disk").join(name), at("run").join(name)).unwrap();
    }
    let run = at("run");
    for flags in [["--steps", "1", "--seed=0"], ["--steps", "2", "--resume"]] {
        assert_succeeds(&mut train(&run, &flags));
    }
    for name in ["checkpoints", "metrics.jsonl", "report.html", "config.toml"] {
        assert!(run.join(name).is_symlink(), "{name}");
    }
    assert!(at("disk/checkpoints/step-00000002/model.safetensors").is_file());
    assert!(fs::read_to_string(at("disk/metrics.jsonl")).unwrap().contains("\"step\":2"));
}

#[test]
fn runs_that_start_at_the_same_moment_have_numbers_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let start = |_| {
        let mut command = engine();
        command.current_dir(folder.path()).arg("train").args(SMALL).args([
            "--steps",
            "1",
            "--threads",
            "1",
            "--sample-every",
            "0",
            "--eval-every",
            "0",
        ]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let started: Vec<_> = (0..4).map(start).collect();
    for mut process in started {
        assert!(process.wait().unwrap().success());
    }
    for number in 1..=4 {
        let run = folder.path().join(format!("runs/tiny-{number:03}"));
        let config = fs::read_to_string(run.join("config.toml")).unwrap();
        assert!(config.contains(&format!("tiny-{number:03}")), "{config}");
        assert!(run.join("checkpoints/step-00000001/model.safetensors").is_file());
    }
}

#[test]
fn what_killed_commands_left_is_cleared_by_the_next_one() {
    let workshop = Workshop::new();
    let left = ["scores.json.tmp-9", "nats.npy.tmp-00000000000000000009"];
    left.iter().for_each(|name| workshop.write(name, "half"));
    workshop.write("notes.tmp-9", "a user's own");
    let sample = workshop.at("run/samples/step-00000001.png.tmp-7");
    fs::write(&sample, "half").unwrap();

    assert_succeeds(&mut workshop.run("eval --checkpoint run --images 2 --out scores.json"));
    assert!(left.iter().all(|name| !workshop.at(name).exists()));
    assert!(workshop.at("notes.tmp-9").exists());
    assert_succeeds(&mut train(&workshop.at("run"), &["--steps", "2", "--sample-every", "0", "--resume"]));
    assert!(!sample.exists());
}
