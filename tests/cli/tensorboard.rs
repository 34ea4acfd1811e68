//! Event files for TensorBoard: record by record, and as TensorBoard itself reads them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use test_support::skipped;

use crate::{assert_succeeds, checkpoint, json_lines, train};

/// The event files of a run, in the order that TensorBoard reads them in.
pub fn event_files(run: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(run).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.to_str().unwrap().contains(".tfevents.")).collect();
    files.sort();
    files
}

/// A field of a message of protocol buffers.
#[derive(Debug)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message with their numbers.
fn fields(mut message: &[u8]) -> Vec<(u64, Field<'_>)> {
    fn varint(message: &mut &[u8]) -> u64 {
        let length = message.iter().position(|byte| *byte < 0x80).unwrap() + 1;
        let (bytes, rest) = message.split_at(length);
        *message = rest;
        bytes.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7F))
    }
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let length = match key & 7 {
            0 => {
                fields.push((key >> 3, Field::Number(varint(&mut message))));
                continue;
            }
            1 => 8,
            5 => 4,
            _ => varint(&mut message) as usize,
        };
        let (bytes, rest) = message.split_at(length);
        fields.push((key >> 3, Field::Bytes(bytes)));
        message = rest;
    }
    fields
}

fn bytes(message: &[u8], number: u64) -> Option<&[u8]> {
    fields(message).into_iter().find_map(|(found, field)| match field {
        Field::Bytes(bytes) if found == number => Some(bytes),
        _ => None,
    })
}

fn number(message: &[u8], number: u64) -> u64 {
    let found = fields(message).into_iter().find(|(found, _)| *found == number);
    match found {
        // What is not there is zero.
        None => 0,
        Some((_, Field::Number(value))) => value,
        other => panic!("{other:?}"),
    }
}

/// The events of a file, their checksums looked at.
fn events(path: &Path) -> Vec<Vec<u8>> {
    let masked = |bytes: &[u8]| (crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8)).to_le_bytes();
    let file = fs::read(path).unwrap();
    let (mut rest, mut events) = (&file[..], Vec::new());
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        assert_eq!(rest[8..12], masked(&rest[..8]));
        let event = &rest[12..12 + length];
        assert_eq!(rest[12 + length..16 + length], masked(event));
        events.push(event.to_vec());
        rest = &rest[16 + length..];
    }
    events
}

/// The curves of some event files: their points by name. Pictures are points too, of their number of bytes.
pub fn curves(files: &[PathBuf]) -> BTreeMap<String, Vec<(u64, f32)>> {
    let mut curves: BTreeMap<String, Vec<(u64, f32)>> = BTreeMap::new();
    for event in files.iter().flat_map(|path| events(path)) {
        let step = number(&event, 2);
        let summary = bytes(&event, 5).unwrap_or_default();
        for (_, value) in fields(summary) {
            let Field::Bytes(value) = value else { panic!("{value:?}") };
            let tag = String::from_utf8(bytes(value, 1).unwrap().to_vec()).unwrap();
            let scalar = bytes(value, 2).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
            let picture = || bytes(bytes(value, 4).unwrap(), 4).unwrap().len() as f32;
            curves.entry(tag).or_default().push((step, scalar.unwrap_or_else(picture)));
        }
    }
    curves
}

/// What a run's `metrics.jsonl` says under `key`.
fn metric(run: &Path, key: &str) -> Vec<(u64, f32)> {
    let lines = json_lines(&fs::read_to_string(run.join("metrics.jsonl")).unwrap());
    let point = |line: &Value| Some((line["step"].as_u64()?, line.get(key)?.as_f64()? as f32));
    lines.iter().filter_map(point).collect()
}

const FLAGS: [&str; 6] = ["--save-every", "2", "--eval-every", "2", "--sample-every", "3"];

/// A run of six steps that was resumed twice, the second time from an earlier checkpoint than its last.
fn resumed_twice(run: &Path) {
    assert_succeeds(train(run, &FLAGS).args(["--steps", "4", "--schedule", "constant", "--warmup", "0"]));
    assert_succeeds(train(run, &FLAGS).args(["--steps", "6", "--resume"]));
    fs::remove_dir_all(checkpoint(run, 6)).unwrap();
    fs::remove_dir_all(checkpoint(run, 4)).unwrap();
    assert_succeeds(train(run, &FLAGS).args(["--steps", "6", "--resume"]));
}

#[test]
fn event_files_hold_what_the_metrics_hold_and_no_step_twice() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    resumed_twice(&run);
    let files = event_files(&run);
    assert_eq!(files.len(), 2, "{files:?}");
    for file in &files {
        assert_eq!(bytes(&events(file)[0], 3), Some(&b"brain.Event:2"[..]));
    }
    // The second session tells a TensorBoard that is open what is void.
    let starts: Vec<u64> = files
        .iter()
        .flat_map(|file| events(file))
        .filter(|event| bytes(event, 7).is_some_and(|session| number(session, 1) == 1))
        .map(|event| number(&event, 2))
        .collect();
    assert_eq!(starts, [3]);

    let curves = curves(&files);
    for (tag, key) in [
        ("train/loss", "loss"),
        ("train/lr", "lr"),
        ("train/grad_norm", "grad_norm"),
        ("train/tokens_per_second", "tokens_per_second"),
        ("train/images_per_second", "images_per_second"),
        ("train/data_wait", "data_wait"),
        ("validation/loss", "val_loss"),
        ("validation/unigram_entropy", "unigram_entropy"),
    ] {
        assert_eq!(curves[tag], metric(&run, key), "{tag}");
    }
    // These are in the first step that ends after a checkpoint is whole, which may be none.
    let of_saving = [("train/save_stall_ms", "save_stall_ms"), ("train/save_write_ms", "save_write_ms")];
    let saving_told = of_saving.map(|(tag, key)| {
        assert_eq!(curves.get(tag).cloned().unwrap_or_default(), metric(&run, key), "{tag}");
        curves.contains_key(tag)
    });
    assert_eq!(metric(&run, "loss").iter().map(|(step, _)| *step).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    let sizes = [3, 6].map(|step| {
        let grid = fs::metadata(run.join(format!("samples/step-{step:08}.png"))).unwrap();
        (step, grid.len() as f32)
    });
    assert_eq!(curves["samples/completions"], sizes);
    let expected = 9 + saving_told.iter().filter(|told| **told).count();
    assert_eq!(curves.len(), expected, "{:?}", curves.keys());
}

#[test]
fn a_run_can_go_without_event_files() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert_succeeds(&mut train(&run, &["--steps", "2", "--no-tensorboard"]));
    assert!(event_files(&run).is_empty());
    assert!(fs::read_to_string(run.join("config.toml")).unwrap().contains("no-tensorboard = true"));
    // It may change its mind.
    assert_succeeds(&mut train(&run, &["--steps", "4", "--resume", "--no-tensorboard=false"]));
    let steps: Vec<u64> = curves(&event_files(&run))["train/loss"].iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [3, 4]);
}

/// Prints as JSON what TensorBoard's own reader finds in the folder that is its argument.
const READER: &str = "
import json, struct, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
run = EventAccumulator(sys.argv[1], size_guidance={'scalars': 0, 'images': 0})
run.Reload()
scalars = {tag: [[e.step, e.value] for e in run.Scalars(tag)] for tag in run.Tags()['scalars']}
images = {tag: [[e.step, e.width, e.height, *struct.unpack('>II', e.encoded_image_string[16:24])]
                for e in run.Images(tag)] for tag in run.Tags()['images']}
print(json.dumps({'scalars': scalars, 'images': images}))
";

#[test]
fn tensorboard_itself_reads_the_curves_and_pictures() {
    let python = std::env::var_os("IGPT_TENSORBOARD_PYTHON").unwrap_or_else(|| "python3".into());
    let knows = Command::new(&python).args(["-c", "import tensorboard"]).output();
    if !knows.is_ok_and(|output| output.status.success()) {
        skipped(&format!(
            "event files read by TensorBoard: {} cannot import it; pip install tensorboard, or name a Python that can by \
             IGPT_TENSORBOARD_PYTHON",
            python.display()
        ));
        return;
    }

    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    resumed_twice(&run);
    let read = assert_succeeds(Command::new(&python).args(["-c", READER]).arg(&run));
    let read: Value = serde_json::from_str(read.lines().last().unwrap()).unwrap();
    for (tag, key) in [("train/loss", "loss"), ("train/lr", "lr"), ("validation/loss", "val_loss")] {
        let points = read["scalars"][tag].as_array().unwrap();
        let points: Vec<_> = points.iter().map(|p| (p[0].as_u64().unwrap(), p[1].as_f64().unwrap() as f32)).collect();
        assert_eq!(points, metric(&run, key), "{tag}");
    }
    let grids = read["images"]["samples/completions"].as_array().unwrap();
    assert_eq!(grids.iter().map(|grid| grid[0].as_u64().unwrap()).collect::<Vec<_>>(), [3, 6]);
    // Width and height as the event says them, and as the picture does.
    assert!(grids.iter().all(|grid| grid[1] == grid[3] && grid[2] == grid[4] && grid[1] != 0), "{grids:?}");
}
