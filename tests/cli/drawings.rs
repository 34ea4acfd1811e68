//! `sample --npz`: images by the ten thousand into one file, whatever stops them; and `sample --class`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use igpt_engine::data::Palette;
use igpt_engine::data::npy::{Dtype, Npy};
use test_support::skipped;

use test_support::has_turn;

use crate::cuda::Driver;
use crate::finetune::{finetune, pretrained, toy};
use crate::{assert_refused, assert_succeeds, engine, json_lines, stderr, train};

/// A model of a few steps.
fn model(folder: &Path) -> PathBuf {
    let run = folder.join("run");
    assert_succeeds(&mut train(&run, &["--steps", "2", "--eval-every", "0", "--sample-every", "0"]));
    run
}

/// `sample --npz` of `count` images, some at a time.
fn draw(run: &Path, npz: &Path, count: usize, batch: usize) -> Command {
    let mut command = engine();
    command.arg("sample").arg("--checkpoint").arg(run).arg("--npz").arg(npz);
    command.args(["--count", &count.to_string(), "--batch", &batch.to_string(), "--device", "cpu", "--threads", "2"]);
    command
}

fn array(npz: &Path, name: &str) -> Npy {
    Npy::open(format!("{}:{name}", npz.display())).unwrap()
}

fn integers(array: &Npy) -> Vec<i64> {
    array.integers(0..array.len()).unwrap().collect()
}

fn part(npz: &Path) -> PathBuf {
    npz.with_extension("npz.part")
}

#[test]
fn the_file_holds_the_pictures_of_its_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let (run, npz) = (model(folder.path()), folder.path().join("a.npz"));
    let said = json_lines(&assert_succeeds(draw(&run, &npz, 7, 3).arg("--json")));
    assert_eq!((&said[0]["drawings"], &said[0]["drawn_before"]), (&7.into(), &0.into()));

    let (images, tokens) = (array(&npz, "arr_0"), array(&npz, "tokens"));
    assert_eq!((images.dtype(), images.shape()), (Dtype::U8, &[7, 8, 8, 3][..]));
    assert_eq!((tokens.dtype(), tokens.shape()), (Dtype::U16, &[7, 64][..]));
    let palette = Palette::built_in().unwrap();
    let expected = integers(&tokens).into_iter().flat_map(|token| palette.decode_token(token as u16).unwrap());
    assert_eq!(integers(&images), expected.map(i64::from).collect::<Vec<_>>());

    // The first batch is what a grid of as many images is drawn of.
    let grid_tokens = folder.path().join("tokens.npy");
    let mut grid = engine();
    grid.arg("sample").arg("--checkpoint").arg(&run).args(["--unconditional", "--count", "3", "--device", "cpu"]);
    assert_succeeds(grid.arg("--tokens-out").arg(&grid_tokens).arg("--out").arg(folder.path().join("grid.png")));
    assert_eq!(integers(&Npy::open(&grid_tokens).unwrap()), integers(&tokens)[..3 * 64]);

    // Again, over the file that is there: the same bytes, and nothing is left beside it.
    let first = fs::read(&npz).unwrap();
    assert_succeeds(&mut draw(&run, &npz, 7, 3));
    assert!(fs::read(&npz).unwrap() == first, "the bytes differ");
    assert!(!part(&npz).exists());
    assert_succeeds(draw(&run, &npz, 7, 3).args(["--sample-seed", "1"]));
    assert!(fs::read(&npz).unwrap() != first);

    // In bf16, which a CPU has for drawing alone.
    assert_succeeds(draw(&run, &npz, 7, 3).args(["--precision", "bf16"]));
    assert_eq!(array(&npz, "tokens").shape(), [7, 64]);
}

/// Waits until so many bytes are in the file.
fn wait_for(path: &Path, bytes: u64, child: &mut Child) {
    let start = Instant::now();
    while fs::metadata(path).map_or(0, |there| there.len()) < bytes {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing is drawn");
        assert!(child.try_wait().unwrap().is_none(), "it ended too soon");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn killed_and_interrupted_drawings_end_with_the_same_bytes() {
    if !has_turn(1, 2) {
        return;
    }
    const COUNT: usize = 4001;
    let folder = tempfile::tempdir().unwrap();
    let run = model(folder.path());
    let (whole, npz) = (folder.path().join("whole.npz"), folder.path().join("a.npz"));
    assert_succeeds(&mut draw(&run, &whole, COUNT, 40));

    let start = |command: &mut Command| command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // Killed twice: in the header's company, and later.
    for batches in [0, 3] {
        let mut child = start(&mut draw(&run, &npz, COUNT, 40));
        wait_for(&part(&npz), 100 + batches * 40 * 128, &mut child);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!npz.exists());
    }

    #[cfg(unix)]
    {
        let drawn = fs::metadata(part(&npz)).unwrap().len();
        let mut child = start(&mut draw(&run, &npz, COUNT, 40));
        wait_for(&part(&npz), drawn + 40 * 128, &mut child);
        crate::resume::signal(&child, "INT");
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
        assert!(stderr(&output).contains("the same command goes on"), "{}", stderr(&output));
        assert!(!npz.exists());
    }

    // Another count or seed is no continuation; the batch needs not be said again.
    let refused = |command: &mut Command| assert_refused(command);
    assert!(refused(&mut draw(&run, &npz, COUNT + 1, 40)).contains("--count was 4001 and is 4002"));
    assert!(refused(draw(&run, &npz, COUNT, 40).args(["--top-k", "9"])).contains("--top-k was all and is 9"));
    assert!(refused(&mut draw(&run, &npz, COUNT, 41)).contains("--batch was 40 and is 41"));
    assert!(refused(draw(&run, &npz, COUNT, 40).args(["--precision", "bf16"])).contains("caches and weights in bf16"));
    let mut last = engine();
    last.arg("sample").arg("--checkpoint").arg(&run).arg("--npz").arg(&npz).args(["--count", "4001", "--threads", "1"]);
    let said = json_lines(&assert_succeeds(last.args(["--device", "cpu", "--json"])));
    assert!(said[0]["drawn_before"].as_u64().is_some_and(|before| before >= 40 && before % 40 == 0), "{said:?}");
    assert!(fs::read(&npz).unwrap() == fs::read(&whole).unwrap(), "the bytes differ");
    assert!(!part(&npz).exists());
}

#[test]
fn drawings_go_into_files_alone_and_flags_of_grids_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = model(folder.path());
    let npz = folder.path().join("a.npz");
    assert!(assert_refused(&mut draw(&run, Path::new("/dev/null"), 2, 2)).contains("go into a file"));
    let nowhere = folder.path().join("no/a.npz");
    assert!(assert_refused(&mut draw(&run, &nowhere, 2, 2)).contains("make it first"));
    for (flags, word) in [
        (&["--out", "x.png"][..], "--out"),
        (&["--scale", "2"], "--scale"),
        (&["--completions", "2"], "--completions"),
        (&["--data", "sample"], "--data"),
        (&["--guidance", "2"], "--class"),
        (&["--class", "cat"], "no class head"),
    ] {
        let message = assert_refused(draw(&run, &npz, 2, 2).args(flags));
        assert!(message.contains(word), "{flags:?}: {message}");
    }
    assert!(assert_refused(&mut draw(&run, &npz, 0, 2)).contains("at least 1"));
    assert!(assert_refused(&mut draw(&run, &npz, 4_000_000_000_000, 2)).contains("GB of disk"));
    assert!(!npz.exists());
}

/// A Python that has NumPy: the one that `cargo xtask test` installs for Triton, or the machine's.
fn numpy() -> Option<Command> {
    let candidates = [std::env::var_os("CUDASIM_TRITON_PYTHON"), Some("python3".into())];
    let has_numpy = |python: &std::ffi::OsString| {
        let mut command = Command::new(python);
        let output = command.args(["-c", "import numpy"]).stderr(Stdio::null()).status();
        output.is_ok_and(|status| status.success())
    };
    candidates.into_iter().flatten().find(has_numpy).map(Command::new)
}

#[test]
fn numpy_reads_what_is_drawn() {
    let Some(mut python) = numpy() else {
        skipped("NumPy's reading of `sample --npz`; there is no python3 with numpy (`cargo xtask test` installs one)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (run, npz) = (model(folder.path()), folder.path().join("a.npz"));
    assert_succeeds(&mut draw(&run, &npz, 5, 2));
    let script = "\
import sys, zipfile, numpy
assert zipfile.ZipFile(sys.argv[1]).testzip() is None
with numpy.load(sys.argv[1]) as npz:
    assert npz.files == ['arr_0', 'tokens'], npz.files
    images, tokens = npz['arr_0'], npz['tokens']
assert images.dtype == numpy.uint8 and images.shape == (5, 8, 8, 3), images
assert tokens.dtype == numpy.uint16 and tokens.shape == (5, 64), tokens
print(int(images.astype(int).sum()), int(tokens.astype(int).sum()))";
    let output = python.args(["-c", script]).arg(&npz).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let sum = |name: &str| integers(&array(&npz, name)).iter().sum::<i64>();
    let sums = format!("{} {}\n", sum("arr_0"), sum("tokens"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), sums);
}

#[test]
fn a_gpu_draws_into_a_file_too() {
    let Some(driver) = Driver::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (run, npz) = (folder.path().join("run"), folder.path().join("a.npz"));
    assert_succeeds(&mut driver.train(0, "cuda", &run, &["--steps", "1"]));
    let draw = |seed: u64, flags: &[&str]| {
        let mut command = driver.engine(seed);
        command.arg("sample").arg("--checkpoint").arg(&run).arg("--npz").arg(&npz).args(["--device", "cuda"]);
        command.args(["--count", "5", "--batch", "2"]).args(flags);
        command
    };
    assert_succeeds(&mut draw(0, &[]));
    let first = fs::read(&npz).unwrap();
    assert_eq!(array(&npz, "arr_0").shape(), [5, 4, 4, 3]);
    assert_succeeds(&mut draw(1, &[]));
    assert!(fs::read(&npz).unwrap() == first, "another order of blocks and warps");
}

/// How sure the class head is of `class`, on average: `e` to the minus of the mean class loss of tokens that all have that label.
fn sureness(run: &Path, tokens: &Npy, class: i64, folder: &Path) -> f64 {
    let (images, length) = (tokens.shape()[0], tokens.shape()[1]);
    let (x, y) = (folder.join("x.npy"), folder.join("y.npy"));
    let ids: Vec<u16> = integers(tokens).into_iter().map(|token| token as u16).collect();
    igpt_engine::data::npy::write_u16(&x, &[images, length], &ids).unwrap();
    igpt_engine::data::npy::write_i64(&y, &[images], &vec![class; images]).unwrap();
    let data = format!("tokens:{},{}", x.display(), y.display());
    let mut command = engine();
    command.arg("eval").arg("--checkpoint").arg(run).args(["--data", &data, "--json"]);
    let found = json_lines(&assert_succeeds(&mut command)).remove(0);
    (-found["class_loss"].as_f64().unwrap_or_else(|| panic!("{found}"))).exp()
}

#[test]
fn a_class_that_is_asked_for_is_drawn_the_more_the_stronger_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let data = toy(folder.path());
    let from = pretrained(folder.path(), &data, "ar");
    let run = folder.path().join("tuned");
    let flags = ["--steps", "80", "--eval-every", "0", "--patience", "0"];
    assert_succeeds(&mut finetune(&run, &from, &data, &flags));

    let npz = folder.path().join("a.npz");
    let draw = |class: &str, flags: &[&str]| {
        let mut command = draw(&run, &npz, 12, 12);
        assert_succeeds(command.args(["--class", class]).args(flags));
        array(&npz, "tokens")
    };
    let sure = |strength: &str| {
        let drawn = draw("lower", &["--particles", "8", "--guidance", strength]);
        assert_eq!(integers(&array(&npz, "labels")), [1; 12]);
        sureness(&run, &drawn, 1, folder.path())
    };
    let [none, little, much] = ["0", "1", "8"].map(sure);
    println!("the head's geometric mean probability of the class: {none:.3} {little:.3} {much:.3}");
    assert!(none < little && little < much && much > 3.0 * none, "{none} {little} {much}");

    // By number as by name; at strength 0 and with one particle as without a class; deterministic.
    let named = integers(&draw("lower", &["--particles", "4"]));
    assert_eq!(integers(&draw("1", &["--particles", "4"])), named);
    let plain = {
        assert_succeeds(&mut self::draw(&run, &npz, 12, 12));
        integers(&array(&npz, "tokens"))
    };
    assert_ne!(named, plain);
    assert_eq!(integers(&draw("lower", &["--guidance", "0"])), plain);
    assert_eq!(integers(&draw("lower", &["--particles", "1", "--guidance", "3"])), plain);
    draw("each", &["--particles", "2"]);
    assert_eq!(integers(&array(&npz, "labels")), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);

    // Completions keep what is given; unknown classes are named.
    let tokens = folder.path().join("tokens.npy");
    let mut command = engine();
    command.arg("sample").arg("--checkpoint").arg(&run).args([
        "--count",
        "2",
        "--completions",
        "2",
        "--class",
        "upper",
    ]);
    command.args(["--particles", "3", "--device", "cpu", "--out"]).arg(folder.path().join("grid.png"));
    assert_succeeds(command.arg("--tokens-out").arg(&tokens));
    let completed = integers(&Npy::open(&tokens).unwrap());
    assert_eq!(completed[..32], completed[64..96], "both completions keep the upper half");
    let refused = |flags: &[&str]| assert_refused(self::draw(&run, &npz, 12, 12).args(flags));
    let message = refused(&["--class", "purple"]);
    assert!(message.contains("unknown class 'purple'") && message.contains("lower, middle"), "{message}");
    assert!(refused(&["--class", "10"]).contains("unknown class"));
    assert!(refused(&["--class", "1", "--guidance", "-1"]).contains("--guidance must be 0 or more"));
    assert!(refused(&["--class", "1", "--temperature", "0"]).contains("--class"));
}
