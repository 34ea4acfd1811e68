//! Tests in a process of their own: the simulator's options, reports and counters belong to the whole process, and a fault
//! takes the context with it.

use std::process::Command;

use test_support::{TURN, turn};

use crate::ops::support::{LEFT, SHARE};

/// Names the test that this process was started for.
const ALONE: &str = "IGPT_TEST_ALONE";

/// Whether this process was started for the test `name`. If not, starts one, and fails if the test fails there.
#[track_caller]
pub fn is_alone(name: &str) -> bool {
    if std::env::var_os(ALONE).is_some_and(|test| test == name) {
        return true;
    }
    if let Err(output) = run(name, |command| command.env(ALONE, name)) {
        panic!("{name}, in a process of its own:\n{output}");
    }
    false
}

/// Runs one test, ignored or not, in a process of its own; the error is what it printed.
pub fn run(name: &str, set: impl FnOnce(&mut Command) -> &mut Command) -> Result<(), String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--include-ignored", "--nocapture"]).env(TURN, turn().to_string());
    let output = set(&mut command).output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    // A name that is no test's would pass.
    if output.status.success() && printed.contains("1 passed") { Ok(()) } else { Err(printed) }
}

/// The op tables of the CUDA device: one of each precision.
pub const TABLES: [&str; 2] = ["ops::cuda_f32", "ops::cuda_bf16"];

/// Runs some of [`TABLES`] in a process of their own, as [`SHARE`] says of `share`; the error is what it printed.
pub fn op_tables(tables: &[&str], set: impl FnOnce(&mut Command) -> &mut Command, share: u32) -> Result<(), String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(tables).args(["--test-threads=1", "--show-output"]);
    command.env(SHARE, share.to_string()).env(TURN, turn().to_string());
    let output = set(&mut command).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();

    // A filter that finds nothing would pass, and so would a table whose tests are all left to another run.
    let summary = printed.lines().find(|line| line.starts_with("test result:")).unwrap_or_default();
    let passed = summary.split_whitespace().nth(3).and_then(|count| count.parse::<usize>().ok()).unwrap_or(0);
    let left = printed.lines().filter(|line| *line == LEFT).count();
    println!("{summary} {left} of them are left to other runs");
    let enough = passed > 30 * tables.len() && passed.saturating_sub(left) > passed / 5;
    if output.status.success() && enough { Ok(()) } else { Err(printed) }
}
