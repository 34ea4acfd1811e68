//! The page of `igpt-engine serve` in a real browser, see `tests/browser/run.py`.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{cargo, root, stage};

/// What a Chromium may be called.
const NAMES: [&str; 5] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];

/// What is said where there is none.
pub const MISSING: &str =
    "there is no Chromium; install one (Debian, Ubuntu: apt-get install chromium), or name it in CHROMIUM";

/// The browser: `$CHROMIUM`, or the first of [`NAMES`] on the path.
pub fn find() -> Option<PathBuf> {
    if let Some(named) = env::var_os("CHROMIUM").filter(|name| !name.is_empty()) {
        return Some(named.into());
    }
    let folders: Vec<PathBuf> = env::split_paths(&env::var_os("PATH")?).collect();
    let files = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    files.into_iter().find(|file| file.is_file())
}

/// Builds the program and runs the tests, or those whose names contain one of `filter`.
///
/// # Errors
/// No browser or no Python, and a test that failed.
pub fn run(filter: &[String]) -> Result<()> {
    find().context(MISSING)?;
    stage("the program", &mut cargo(["build", "--locked", "--package", "igpt-engine", "--bin", "igpt-engine"]))?;
    tests(filter)
}

/// The same with the program that is there: the workspace's tests leave one, and to build it alone would compile what it stands on
/// once more, with other features.
///
/// # Errors
/// As [`run`].
pub fn tests(filter: &[String]) -> Result<()> {
    let browser = find().context(MISSING)?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);

    let mut tests = Command::new("python3");
    tests.arg("-B").arg(root().join("tests/browser/run.py"));
    tests.arg("--program").arg(target.join("debug/igpt-engine")).arg("--browser").arg(browser);
    stage("the page in a browser", tests.args(filter))
}
