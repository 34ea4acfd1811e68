//! The binary as its users meet it: what it prints, writes and refuses, and that it loses nothing.

mod accidents;
mod averages;
mod bert;
mod completions;
mod cuda;
mod damage;
mod data_sets;
mod demo;
mod drawings;
mod drivers;
mod errors;
mod evaluate;
mod finetune;
mod first_model;
mod heads;
mod help;
mod memory;
mod new;
mod orders;
mod outputs;
mod palettes;
mod paths;
mod probe;
#[cfg(target_os = "linux")]
mod profile;
mod recipes;
mod resume;
mod run_images;
mod saving;
mod scale;
mod sensors;
mod serve;
#[cfg(unix)]
mod signals;
mod tensorboard;
#[cfg(target_os = "linux")]
mod terminal;
mod train;
mod verification;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A model and a run small enough that a step takes milliseconds.
const SMALL: [&str; 12] =
    ["--layers", "2", "--width", "16", "--heads", "2", "--resolution", "8", "--batch", "4", "--eval-images", "8"];

/// The binary under test.
fn engine() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_igpt-engine"));
    command.stdin(Stdio::null()).env("NO_COLOR", "1").env_remove("RUST_BACKTRACE");
    command
}

/// `train` on the built-in sample with [`SMALL`] settings into `out`, with more flags.
fn train(out: &Path, flags: &[&str]) -> Command {
    let mut command = engine();
    command.arg("train").args(SMALL).args(flags).arg("--out").arg(out);
    command
}

/// Runs a command and asserts that it succeeds; returns its standard output.
#[track_caller]
fn assert_succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = stderr(&output);
    assert!(output.status.success(), "{command:?} failed with {}:\n{text}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command and asserts that it is refused; returns its message.
#[track_caller]
fn assert_refused(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{command:?} should be refused; it said:\n{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every line as JSON; fails on any that is not.
#[track_caller]
fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
}

/// `(step, loss)` of a run's steps.
fn losses(lines: &[Value]) -> Vec<(u64, f64)> {
    let step = |line: &Value| Some((line.get("step")?.as_u64()?, line.get("loss")?.as_f64()?));
    lines.iter().filter_map(step).collect()
}

/// The checkpoint of `step` in a run.
fn checkpoint(run: &Path, step: u64) -> PathBuf {
    run.join(format!("checkpoints/step-{step:08}"))
}

/// Everything of a checkpoint that decides how a run goes on, byte for byte.
fn weights_and_moments(run: &Path, step: u64) -> [Vec<u8>; 2] {
    ["model.safetensors", "optimizer.safetensors"].map(|file| {
        let path = checkpoint(run, step).join(file);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    })
}
