//! `cargo xtask release`: what a release holds, and how it is made, by dist (`dist-workspace.toml`).

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Subcommand;

use crate::{root, stage, toolkit, venv};

/// dist: 9 MB from PyPI, where Astral builds it from upstream's tag.
const DIST: [&str; 1] = ["astral-dev-toolchain-cargo-dist==0.33.0"];

/// What compiles and links for another processor than this machine's: 100 MB.
const CROSS: [&str; 2] = ["cargo-zigbuild==0.24.1", "ziglang==0.17.1"];

/// The processor of this machine, for which nothing else is needed.
const HERE: &str = "x86_64-unknown-linux-gnu";

/// Making a release.
#[derive(Subcommand)]
pub enum Release {
    /// List what the release would hold, and check that the version has its section in the changelog
    Plan {
        /// The tag, as `v0.1.0`: checked against the version of Cargo.toml [default: none, as long as nothing is released]
        #[arg(long)]
        tag: Option<String>,
    },
    /// Make the archive of one system, with the CUDA kernels, and its checksum, in target/distrib (x86_64 Linux)
    Build {
        /// The system: x86_64-unknown-linux-gnu or aarch64-unknown-linux-gnu
        #[arg(long, default_value = HERE)]
        target: String,
    },
    /// Make what belongs to no system: the sources, and the list of all crates (SBOM; needs cargo-cyclonedx)
    Sources,
}

/// Does one of them.
///
/// # Errors
/// A tool is missing, or what is asked for fails.
pub fn release(task: Release) -> Result<()> {
    match task {
        Release::Plan { tag } => plan(tag.as_deref()),
        Release::Build { target } => build(&target),
        Release::Sources => sources(),
    }
}

fn plan(tag: Option<&str>) -> Result<()> {
    if let Some(tag) = tag {
        let version = tag.strip_prefix('v').with_context(|| format!("the tag {tag} does not begin with v"))?;
        let changelog = fs::read_to_string(root().join("CHANGELOG.md")).context("cannot read CHANGELOG.md")?;
        ensure!(notes(&changelog, version).is_some(), "CHANGELOG.md has no section \"## [{version}]\" with an entry");
    }
    let mut plan = dist(false, &["plan"])?;
    stage("plan", plan.args(tag.map(|tag| format!("--tag={tag}"))))
}

fn build(target: &str) -> Result<()> {
    // Kernels are for a GPU, whatever the processor beside it: the same compiler makes them for both.
    toolkit::install(toolkit::Release::Thirteen, &root().join(".cuda"), Path::new("python3"))?;
    stage("archive", dist(target != HERE, &["build", "--artifacts=local"])?.arg(format!("--target={target}")))
}

fn sources() -> Result<()> {
    let crates = root().join("target/distrib/igpt-engine.cdx.xml");
    stage("sources", &mut dist(false, &["build", "--artifacts=global"])?)?;
    // dist says nothing where the tool is missing that makes it.
    ensure!(crates.is_file(), "there is no {}; `cargo install --locked cargo-cyclonedx`, and again", crates.display());
    Ok(())
}

/// dist with these arguments; with what it needs for another processor where that is so.
fn dist(crosses: bool, arguments: &[&str]) -> Result<Command> {
    let (tools, python) = (root().join(".dist"), Path::new("python3"));
    venv::install(&tools.join("dist"), python, &DIST)?;
    let mut folders = vec![tools.join("dist/bin")];
    let program = folders[0].join("dist");
    if crosses {
        venv::install(&tools.join("cross"), python, &CROSS)?;
        folders.push(tools.join("cross/bin"));
    }

    // It looks for the others on the path.
    folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let mut command = Command::new(program);
    command.current_dir(root()).env("PATH", env::join_paths(folders)?).args(arguments);
    Ok(command)
}

/// What the changelog says of a version: its section without the heading, if there is anything in it.
fn notes<'a>(changelog: &'a str, version: &str) -> Option<&'a str> {
    let (_, rest) = changelog.split_once(&format!("\n## [{version}]"))?;
    let (_, rest) = rest.split_once('\n')?;
    let notes = rest.split("\n## [").next().unwrap_or(rest).trim();
    notes.lines().any(|line| line.starts_with("- ")).then_some(notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_notes_if_its_section_has_an_entry() {
        let changelog = "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2027-01-02\n\n### Added\n\n- One thing.\n\n## [0.1.0]\n\n- All.\n";
        assert_eq!(notes(changelog, "0.2.0"), Some("### Added\n\n- One thing."));
        assert_eq!(notes(changelog, "0.1.0"), Some("- All."));
        for missing in ["0.3.0", "0.2", "Unreleased"] {
            assert_eq!(notes(changelog, missing), None, "{missing}");
        }
    }
}
