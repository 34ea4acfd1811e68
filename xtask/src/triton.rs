//! Triton and NumPy in a virtual environment of their own, for the test that runs Triton's PTX on the simulator.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What is installed. Triton compiles without a GPU and without PyTorch.
const REQUIREMENTS: [&str; 2] = ["triton==3.9.0", "numpy==2.4.6"];

/// Holds the requirements of a finished installation.
const STAMP: &str = "triton-stamp";

/// Puts Triton into `dir` unless it is there already; returns its Python.
///
/// # Errors
/// Python, the network or a wheel for this Python is missing.
pub fn install(dir: &Path, python: &Path) -> Result<PathBuf> {
    let own = dir.join("bin/python");
    let stamp = dir.join(STAMP);
    let wanted = REQUIREMENTS.join("\n");
    if own.is_file() && fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(own);
    }
    run(Command::new(python).args(["-I", "-m", "venv", "--clear"]).arg(dir)).context("no virtual environment")?;
    let pip =
        ["-I", "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--only-binary=:all:"];
    run(Command::new(&own).args(pip).args(REQUIREMENTS)).context("pip cannot install Triton (300 MB from PyPI)")?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(own)
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    ensure!(status.success(), "{:?} failed ({status})", command.get_program());
    Ok(())
}
