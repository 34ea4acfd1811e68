//! Tests in a process of their own: the simulator's options, reports and counters belong to the whole process, and a fault
//! takes the context with it.

use std::process::Command;

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
    command.args(["--exact", name, "--include-ignored", "--nocapture"]);
    let output = set(&mut command).output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    // A name that is no test's would pass.
    if output.status.success() && printed.contains("1 passed") { Ok(()) } else { Err(printed) }
}
