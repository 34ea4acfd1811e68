//! `cargo xtask docs` and `cargo xtask man`: what people read, made from `docs/` and from the program's own help.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{cargo, root, stage};

/// The version of mdBook that makes the book. Without its default features: no server, no watching, no search index.
const MDBOOK: &str = "0.5.4";

/// Makes the book of `docs/` in `target/book`.
///
/// # Errors
/// mdBook cannot be installed, fails, or warns.
pub fn book() -> Result<()> {
    let mdbook = mdbook(&root().join(".mdbook"))?;
    let output = Command::new(&mdbook).arg("build").arg(root().join("docs")).env("RUST_LOG", "info").output();
    let output = output.with_context(|| format!("cannot start {}", mdbook.display()))?;

    let messages = String::from_utf8_lossy(&output.stderr);
    eprint!("{messages}");
    ensure!(output.status.success(), "mdBook failed ({})", output.status);
    ensure!(!messages.contains("WARN") && !messages.contains("ERROR"), "mdBook warns; its messages are above");
    println!("{}", root().join("target/book/index.html").display());
    Ok(())
}

/// Returns mdBook's path; installs it into `folder` unless it is there already in the right version.
fn mdbook(folder: &Path) -> Result<PathBuf> {
    let program = folder.join("bin/mdbook");
    let version = Command::new(&program).arg("--version").output();
    if version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(MDBOOK)) {
        return Ok(program);
    }

    // Unoptimised, which halves the wait, and in a temporary target folder, which cargo removes.
    let mut install = cargo(["install", "mdbook", "--version", MDBOOK, "--locked", "--no-default-features", "--debug"]);
    install.arg("--root").arg(folder).env("CARGO_PROFILE_DEV_DEBUG", "0").env_remove("CARGO_TARGET_DIR");
    stage(&format!("mdBook {MDBOOK}, compiled once (a few minutes)"), &mut install)?;
    Ok(program)
}

/// Writes the manual pages of igpt-engine into `out`. The program makes them itself, so that xtask need not be built with it.
///
/// # Errors
/// The program cannot be built, or the folder not be written.
pub fn man(out: &Path) -> Result<()> {
    let mut command = cargo(["run", "--quiet", "--locked", "--package", "igpt-engine", "--", "man", "--out"]);
    stage("manual pages", command.arg(out))
}
