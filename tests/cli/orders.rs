//! Orders of pixels: saved with the model and honoured by everything that reads it.

use std::fs;
use std::path::{Path, PathBuf};

use igpt_engine::data::npy::{self, Npy};
use igpt_engine::model::Order;
use serde_json::Value;

use crate::evaluate::eval;
use crate::resume::{metrics, start};
use crate::{assert_refused, assert_succeeds, checkpoint, engine, json_lines, losses, train, weights_and_moments};

/// The order of a side of 8 that no name says: the image upside down.
fn upside_down(folder: &Path) -> String {
    let path = folder.join("upside-down.npy");
    let pixels: Vec<u16> = (0..64).map(|place| 63 - place).collect();
    npy::write_u16(&path, &[8, 8], &pixels).unwrap();
    format!("file:{}", path.display())
}

fn config(run: &Path, step: u64) -> Value {
    serde_json::from_slice(&fs::read(checkpoint(run, step).join("config.json")).unwrap()).unwrap()
}

#[test]
fn every_order_is_saved_scored_and_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let file = upside_down(folder.path());
    let mut ends = Vec::new();

    for (order, name) in
        [("raster", "raster"), ("columns", "columns"), ("spiral", "spiral"), ("hilbert", "hilbert"), (&file, "file")]
    {
        let [whole, parts] = ["whole", "parts"].map(|part| folder.path().join(format!("{name}-{part}")));
        let flags =
            ["--order", order, "--schedule", "constant", "--warmup", "0", "--lr", "0.01", "--sample-every", "0"];
        assert_succeeds(train(&whole, &flags).args(["--steps", "6"]));
        assert_succeeds(train(&parts, &flags).args(["--steps", "2"]));
        if name == "file" {
            fs::remove_file(folder.path().join("upside-down.npy")).unwrap();
        }
        assert_succeeds(train(&parts, &flags).args(["--steps", "6", "--resume"]));
        assert!(weights_and_moments(&whole, 6) == weights_and_moments(&parts, 6), "{order}");
        assert_eq!(config(&whole, 6)["igpt_order"], name);
        let text = fs::read_to_string(whole.join("metrics.jsonl")).unwrap();
        let last = json_lines(&text).into_iter().rfind(|line| line.get("val_loss").is_some()).unwrap();
        let scored = eval(&whole, &["--split", "validation", "--images", "8"]);
        let (trained, scored) = (last["val_loss"].as_f64().unwrap(), scored["nats_per_token"].as_f64().unwrap());
        assert!((trained - scored).abs() < 1e-6, "{order}: {trained} in training, {scored} now");
        ends.push(weights_and_moments(&whole, 6));
    }

    assert!((1..ends.len()).all(|one| (0..one).all(|other| ends[one] != ends[other])), "two orders trained alike");
}

#[test]
fn a_killed_run_in_another_order_goes_on_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, killed] = ["whole", "killed"].map(|name| folder.path().join(name));
    let file = upside_down(folder.path());
    for order in ["hilbert", &file] {
        let [whole, killed] = [&whole, &killed].map(|run| run.with_extension(&order[..4]));
        let flags = ["--order", order, "--steps", "8", "--save-every", "1", "--lr", "0.01", "--resume"];
        assert_succeeds(&mut train(&whole, &flags));
        for microseconds in [0, 2_000] {
            let mut child = start(&mut train(&killed, &flags), 2);
            std::thread::sleep(std::time::Duration::from_micros(microseconds));
            let _ = child.kill();
            child.wait().unwrap();
        }
        assert_succeeds(&mut train(&killed, &flags));
        assert!(weights_and_moments(&whole, 8) == weights_and_moments(&killed, 8), "{order}");
        assert_eq!(metrics(&whole), metrics(&killed));
    }
}

/// Images `[12, side²]` that are not their own transpose.
fn images(side: usize) -> Vec<u16> {
    (0..12 * side * side).map(|i| ((i * i * 31 + i * 7) % 512) as u16).collect()
}

fn transposed<T: Copy>(images: &[T], side: usize) -> Vec<T> {
    let turn =
        |image: &[T]| (0..side * side).map(|pixel| image[pixel % side * side + pixel / side]).collect::<Vec<_>>();
    images.chunks(side * side).flat_map(turn).collect()
}

/// Reading columns of the transposed images is reading rows of the images: the same weights, and nats that are transposed.
#[test]
fn columns_of_the_transpose_are_rows() {
    let folder = tempfile::tempdir().unwrap();
    let side = 5;
    let [rows, columns] = ["rows", "columns"].map(|name| {
        let path = folder.path().join(format!("{name}.npy"));
        let images = if name == "rows" { images(side) } else { transposed(&images(side), side) };
        npy::write_u16(&path, &[12, side * side], &images).unwrap();
        format!("tokens:{}", path.display())
    });
    let run = |name: &str, data: &str, order: &str| {
        let out = folder.path().join(name);
        let flags = ["--data", data, "--order", order, "--resolution", "5", "--steps", "5", "--lr", "0.01"];
        assert_succeeds(&mut train(&out, &flags));
        out
    };
    let (by_rows, by_columns) = (run("by-rows", &rows, "raster"), run("by-columns", &columns, "columns"));
    assert!(weights_and_moments(&by_rows, 5) == weights_and_moments(&by_columns, 5));

    let nats = |run: &PathBuf, data: &str| {
        let path = folder.path().join("nats.npy");
        eval(run, &["--data", data, "--per-token", path.to_str().unwrap()]);
        Npy::open(path).unwrap().to_f32().unwrap()
    };
    assert_eq!(nats(&by_rows, &rows), transposed(&nats(&by_columns, &columns), side));

    // So it stays in fine-tuning.
    let labels = folder.path().join("labels.npy");
    npy::write_u16(&labels, &[12], &[0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]).unwrap();
    let tuned = |name: &str, from: &PathBuf, data: &str| {
        let out = folder.path().join(name);
        let data = format!("{data},{}", labels.display());
        let mut command = engine();
        command.args(["finetune", "--steps", "4", "--batch", "3", "--lr", "0.01", "--data", &data, "--checkpoint"]);
        assert_succeeds(command.arg(from).arg("--out").arg(&out));
        let scored = eval(&out, &["--data", &data]);
        (weights_and_moments(&out, 4), scored["class_loss"].as_f64(), config(&out, 4)["igpt_order"].clone())
    };
    let (of_rows, of_columns) = (tuned("t-rows", &by_rows, &rows), tuned("t-columns", &by_columns, &columns));
    assert!(of_rows.0 == of_columns.0 && of_rows.1 == of_columns.1);
    assert_eq!(of_columns.2, "columns");

    // A file that lists the pixels in raster order is raster order.
    let identity = folder.path().join("identity.npy");
    npy::write_i64(&identity, &[25], &(0..25).collect::<Vec<_>>()).unwrap();
    let by_file = run("by-file", &rows, &format!("file:{}", identity.display()));
    assert!(weights_and_moments(&by_rows, 5) == weights_and_moments(&by_file, 5));
}

#[test]
fn a_completion_keeps_the_first_pixels_of_the_order() {
    let folder = tempfile::tempdir().unwrap();
    let encoded = folder.path().join("encoded.npy");
    let flags = ["data", "encode", "--data", "sample", "--split", "test", "--resolution", "8", "--out"];
    assert_succeeds(engine().args(flags).arg(&encoded));
    let pixels = |path: &Path, image: usize| -> Vec<i64> {
        Npy::open(path).unwrap().integers(image * 64..(image + 1) * 64).unwrap().collect()
    };
    let file = upside_down(folder.path());
    type Shown = fn(usize, usize) -> bool;
    let upper: Shown = |row, _| row < 4;
    let cases: [(&str, Shown, &str); 5] = [
        ("raster", upper, "upper half"),
        ("columns", |_, column| column < 4, "left half"),
        ("spiral", |row, column| [0, 7].contains(&row) || [0, 7].contains(&column), "outer rings"),
        ("hilbert", upper, "Hilbert"),
        (&file, |row, _| row >= 4, "own order"),
    ];

    for (number, (order, shown, words)) in cases.into_iter().enumerate() {
        let run = folder.path().join(number.to_string());
        let [grid, tokens] = ["grid.png", "tokens.npy"].map(|name| folder.path().join(name));
        assert_succeeds(&mut train(&run, &["--order", order, "--steps", "1", "--sample-every", "0"]));
        let mut command = engine();
        command.arg("sample").arg("--checkpoint").arg(&run).args([
            "--count",
            "2",
            "--completions",
            "2",
            "--scale",
            "1",
        ]);
        let text = assert_succeeds(command.arg("--out").arg(&grid).arg("--tokens-out").arg(&tokens));
        assert!(text.contains(words), "{order}: {text}");
        let mut drawn_otherwise = 0;
        for drawing in 0..4 {
            let (drawn, original) = (pixels(&tokens, drawing), pixels(&encoded, drawing / 2));
            for pixel in 0..64 {
                if shown(pixel / 8, pixel % 8) {
                    assert_eq!(drawn[pixel], original[pixel], "{order}: pixel {pixel} of drawing {drawing}");
                } else {
                    drawn_otherwise += usize::from(drawn[pixel] != original[pixel]);
                }
            }
        }
        assert!(drawn_otherwise > 50, "{order}: what was not shown seems to have been known");
        // The grid's second column shows what the model sees; the rest of it is one grey.
        let picture = image::open(&grid).unwrap().to_rgb8();
        let cell = |row: usize, column: usize| picture.get_pixel(12 + 4 + column as u32, 4 + row as u32).0;
        for pixel in 0..64 {
            let (row, column) = (pixel / 8, pixel % 8);
            let unseen = cell(row, column) == [64, 64, 72];
            assert_eq!(unseen, !shown(row, column), "{order}: row {row}, column {column} of the picture");
        }
    }
}

#[test]
fn a_model_brings_its_order_along() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
    assert_succeeds(&mut train(&first, &["--order", "spiral", "--steps", "30", "--lr", "0.01"]));
    let init = |flags: &[&str]| {
        let mut command = engine();
        command
            .args(["train", "--batch", "4", "--steps", "1", "--json", "--init"])
            .arg(&first)
            .arg("--out")
            .arg(&second);
        command.args(flags);
        command
    };
    let message = assert_refused(&mut init(&["--order", "hilbert"]));
    assert!(message.contains("order spiral") && message.contains("order hilbert"), "{message}");

    let losses = losses(&json_lines(&assert_succeeds(&mut init(&[]))));
    assert!(losses[0].1 < 6.1, "the loss starts at {} as if nothing had been learned", losses[0].1);
    assert_eq!(config(&second, 1)["igpt_order"], "spiral");
}

#[test]
fn invalid_orders_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let path = folder.path().join("order.npy");
    let file = format!("file:{}", path.display());
    let refused = |order: &str| assert_refused(&mut train(&out, &["--steps", "1", "--order", order]));
    assert!(refused("snake").contains("hilbert"));
    assert!(refused("file:").contains("file:PERM.npy"));
    assert!(refused("file:no/such.npy").contains("no/such.npy"));

    for (pixels, word) in
        [((0..63).collect::<Vec<i64>>(), "63"), ([0; 64].to_vec(), "pixel 0"), ((1..65).collect(), "pixel 64")]
    {
        npy::write_i64(&path, &[pixels.len()], &pixels).unwrap();
        let message = refused(&file);
        assert!(message.contains(word) && message.contains("order"), "{message}");
    }

    npy::write_f32(&path, &[64], &[0.5; 64]).unwrap();
    assert!(refused(&file).contains("integers"));

    // Sequences that are shorter than the model have no place for half of the order.
    let tokens = folder.path().join("tokens.npy");
    npy::write_u16(&tokens, &[4, 16], &[3; 64]).unwrap();
    let data = format!("tokens:{}", tokens.display());
    let message = assert_refused(&mut train(&out, &["--steps", "1", "--order", "columns", "--data", &data]));
    assert!(message.contains("64 pixels") && message.contains("16"), "{message}");
    assert!(!out.exists(), "nothing should have been started");

    assert_succeeds(&mut train(&out, &["--steps", "1", "--order", "columns"]));
    let message = assert_refused(engine().arg("eval").arg("--checkpoint").arg(&out).args(["--data", &data]));
    assert!(message.contains("64 pixels"), "{message}");

    let message = assert_refused(&mut train(&out, &["--steps", "2", "--resume", "--order", "raster"]));
    assert!(message.contains("order"), "{message}");
    assert_eq!(Order::named("file"), None);
}
