//! Python virtual environments with pinned packages, for tools that come as wheels.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Holds the requirements of a finished installation.
const STAMP: &str = "requirements-stamp";

/// Installs `requirements` (`name==version`) into the virtual environment `dir` unless they are there already.
///
/// # Errors
/// Python, the network or a wheel for this Python is missing.
pub fn install(dir: &Path, python: &Path, requirements: &[&str]) -> Result<()> {
    install_with(dir, python, requirements, &[])
}

/// As [`install`], without what the packages themselves ask for.
///
/// # Errors
/// As [`install`].
pub fn install_alone(dir: &Path, python: &Path, requirements: &[&str]) -> Result<()> {
    install_with(dir, python, requirements, &["--no-deps"])
}

fn install_with(dir: &Path, python: &Path, requirements: &[&str], options: &[&str]) -> Result<()> {
    let own = dir.join("bin/python");
    let stamp = dir.join(STAMP);
    let wanted = requirements.join("\n");
    if own.is_file() && fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }

    run(Command::new(python).args(["-I", "-m", "venv", "--clear"]).arg(dir)).context("no virtual environment")?;
    let pip =
        ["-I", "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--only-binary=:all:"];
    run(Command::new(&own).args(pip).args(options).args(requirements))
        .with_context(|| format!("pip cannot install {}", requirements.join(", ")))?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    ensure!(status.success(), "{:?} failed ({status})", command.get_program());
    Ok(())
}
