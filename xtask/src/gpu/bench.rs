//! Builds and starts the benchmark (`benches/gpu`), with cuBLASLt where the loader finds it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cargo, root, venv};

/// NVIDIA's library, for a driver from 525 on: 600 MB from PyPI.
const CUBLAS: [&str; 1] = ["nvidia-cublas-cu12==12.9.1.4"];

/// Runs the benchmark with these arguments.
///
/// # Errors
/// When it cannot be started, or fails: a row is wrong, or worse than the baseline.
pub fn run(arguments: &[String]) -> Result<()> {
    let mut command = command(true, arguments)?;
    let status = command.status().context("cannot start the benchmark")?;
    if !status.success() {
        bail!("the benchmark failed ({status})");
    }
    Ok(())
}

/// The benchmark, built with optimisation or without.
///
/// # Errors
/// When the paths in the environment cannot be joined.
pub fn command(release: bool, arguments: &[String]) -> Result<Command> {
    let mut command = cargo(["run", "--quiet", "--locked", "--package", "gpu-bench"]);
    if release {
        command.arg("--release");
    }
    command.arg("--").args(arguments);

    // At toy size, on the simulator, no library of NVIDIA's runs.
    if !arguments.iter().any(|argument| argument == "toy")
        && let Some(folder) = cublas()
    {
        let before = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let paths = env::split_paths(&before).filter(|path| !path.as_os_str().is_empty()).chain([folder]);
        command.env("LD_LIBRARY_PATH", env::join_paths(paths)?);
    }
    Ok(command)
}

/// The folder of cuBLASLt, installed into `.cublas` unless it is there; says why not and goes on without.
fn cublas() -> Option<PathBuf> {
    let dir = root().join(".cublas");
    eprintln!("==> cuBLASLt ({}, once) to stand beside our GEMMs", CUBLAS[0]);
    if let Err(error) = venv::install(&dir, Path::new("python3"), &CUBLAS) {
        eprintln!("note: without PyPI's cuBLASLt: {error:#}");
    }
    let folder = nvcc::site_packages(&dir)?.join("nvidia/cublas/lib");
    folder.is_dir().then_some(folder)
}
