//! `cargo xtask test --aarch64`: the engine compiled for 64-bit ARM, and the tests of what it computes on a CPU there, in an emulator.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail, ensure};

use crate::{cargo, stage};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64";
/// Where Debian has the libraries of programs for ARM.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";
/// Debian's packages of these.
const PACKAGES: &str = "gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user";

/// Programs of tests that compute on the CPU alone, and how much of each an emulator gets through in minutes.
const TESTS: [(&[&str], &[&str]); 4] = [
    (&["--lib"], &["device::cpu", "tape::", "optim::", "probe::"]),
    (&["--test", "golden"], &["cpu", "drawing::"]),
    (&["--test", "checkpoint"], &[]),
    (&["--test", "kernels"], &["ops::cpu"]),
];

/// Builds all and runs [`TESTS`], or those of them whose names contain one of `filter`.
///
/// # Errors
/// A compiler, the emulator or Rust's target is missing; a test failed; a name of [`TESTS`] is no longer any test's.
pub fn run(filter: &[String]) -> Result<()> {
    let runs =
        |program: &str| Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if let Some(program) = [LINKER, EMULATOR].into_iter().find(|program| !runs(program)) {
        bail!("there is no {program} (Debian: apt-get install --no-install-recommends {PACKAGES})");
    }
    let target = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output()?;
    if !Path::new(String::from_utf8_lossy(&target.stdout).trim()).is_dir() {
        bail!("rustc has no library for {TARGET}; install it with `rustup target add {TARGET}`");
    }

    let command = |program: &[&str]| {
        let mut command = cargo(["test", "--locked", "--target", TARGET]);
        command.args(program);
        command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER);
        command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", format!("{EMULATOR} -L {LIBRARIES}"));
        command.env("CC_aarch64_unknown_linux_gnu", LINKER);
        command
    };
    for (program, of_it) in TESTS {
        let title = format!("{} on {TARGET}", program.join(" "));
        // A name that no test has any more would pass.
        for name in of_it.iter().filter(|_| filter.is_empty()) {
            let listed = command(program).args(["--", name, "--list"]).stderr(Stdio::inherit()).output()?;
            ensure!(listed.status.success(), "{title}: does not compile");
            let found = String::from_utf8_lossy(&listed.stdout).lines().any(|line| line.ends_with(": test"));
            ensure!(found, "{title}: no test is named {name}; mend TESTS of xtask/src/aarch64.rs");
        }

        let mut tests = command(program);
        tests.arg("--");
        if filter.is_empty() {
            tests.args(of_it)
        } else {
            tests.args(filter)
        };
        stage(&title, &mut tests)?;
    }
    Ok(())
}
