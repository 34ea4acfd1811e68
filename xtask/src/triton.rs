//! Triton and NumPy in a virtual environment of their own, for the test that runs Triton's PTX on the simulator.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::venv;

/// What is installed: 300 MB from PyPI. Triton compiles without a GPU and without PyTorch.
const REQUIREMENTS: [&str; 2] = ["triton==3.9.0", "numpy==2.4.6"];

/// Puts Triton into `dir` unless it is there already; returns its Python.
///
/// # Errors
/// Python, the network or a wheel for this Python is missing.
pub fn install(dir: &Path, python: &Path) -> Result<PathBuf> {
    venv::install(dir, python, &REQUIREMENTS)?;
    Ok(dir.join("bin/python"))
}
