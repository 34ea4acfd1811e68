//! clang-format in a virtual environment of its own, for the style of every kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::venv;

/// What is installed: 2 MB from PyPI. Another version would format some lines in another way.
const REQUIREMENTS: [&str; 1] = ["clang-format==21.1.8"];

/// Puts clang-format into `dir` unless it is there already; returns the program.
///
/// # Errors
/// Python, the network or a wheel for this Python is missing.
pub fn install(dir: &Path, python: &Path) -> Result<PathBuf> {
    venv::install(dir, python, &REQUIREMENTS)?;
    Ok(dir.join("bin/clang-format"))
}

/// The command that fails if a source in one of `folders` is not as `.clang-format` wants it; with `-i` for `--dry-run` it mends them.
///
/// # Errors
/// When the folder cannot be read.
pub fn check(program: &Path, folders: &[PathBuf]) -> Result<Command> {
    let mut command = Command::new(program);
    command.args(["--dry-run", "--Werror"]);
    for folder in folders {
        command.args(sources(folder)?);
    }
    Ok(command)
}

/// Every `.cu` and `.cuh` in a folder and the folders in it.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "cu" || extension == "cuh") {
            found.push(path);
        }
    }
    Ok(found)
}
