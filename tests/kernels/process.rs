//! Tests in a process of their own: the simulator's options, reports and counters belong to the whole process, and a fault
//! takes the context with it.

use std::io::{Read, pipe};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use test_support::{TURN, turn};

use crate::ops::support::{LEFT, SHARE};

/// Names the test that this process was started for.
const ALONE: &str = "IGPT_TEST_ALONE";

/// No process takes so long, also on a slow machine: one that does waits for something that never comes.
const LIMIT: Duration = Duration::from_secs(1200);

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
    set(&mut command);
    let (status, printed) = within(LIMIT, command);
    let Some(status) = status else { return Err(format!("{printed}\nno end within {} s", LIMIT.as_secs())) };
    // A name that is no test's would pass.
    if status.success() && printed.contains("1 passed") { Ok(()) } else { Err(printed) }
}

/// How the command ended, unless it took longer than `limit` and was ended, and what it printed until then.
fn within(limit: Duration, mut command: Command) -> (Option<ExitStatus>, String) {
    let (mut reader, writer) = pipe().unwrap();
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut child = command.spawn().unwrap();
    // It holds the other end of the pipe, which would stay open.
    drop(command);
    let reading = thread::spawn(move || {
        let mut printed = Vec::new();
        reader.read_to_end(&mut printed).map(|_| String::from_utf8_lossy(&printed).into_owned())
    });

    let end = Instant::now() + limit;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() < end => thread::sleep(Duration::from_millis(20)),
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
        }
    };
    (status, reading.join().unwrap().unwrap())
}

#[test]
fn a_process_without_an_end_is_ended() {
    let mut command = Command::new("sh");
    command.args(["-c", "echo before; exec sleep 1000"]);
    let (status, printed) = within(Duration::from_millis(300), command);
    assert!(status.is_none() && printed == "before\n", "{status:?}: {printed}");
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
