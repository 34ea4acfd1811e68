//! NVIDIA's NCCL from PyPI, for the test of the table of its functions.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::venv;

/// The oldest release that ranks can meet by without MPI: what it has, later ones have.
const REQUIREMENTS: [&str; 1] = ["nvidia-nccl-cu12==2.22.3"];

/// Puts the library into `dir` unless it is there already; returns its path.
///
/// # Errors
/// Python, the network or a wheel for this machine is missing.
pub fn install(dir: &Path, python: &Path) -> Result<PathBuf> {
    venv::install_alone(dir, python, &REQUIREMENTS)?;
    let versions = std::fs::read_dir(dir.join("lib"))?.flatten();
    let mut found = versions.map(|version| version.path().join("site-packages/nvidia/nccl/lib/libnccl.so.2"));
    found.find(|path| path.is_file()).with_context(|| format!("there is no libnccl.so.2 in {}", dir.display()))
}
