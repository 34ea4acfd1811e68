//! Ranks on CPUs under a real mpirun: the engine once more, with its feature `mpi`, and the one test program that starts it.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{cargo, stage};

/// Debian's packages of it, the last two for the crate's own build.
const PACKAGES: &str = "libopenmpi-dev openmpi-bin libclang1-14 libclang-common-14-dev";

/// What this machine lacks, with the remedy; nothing where all is there.
pub fn missing() -> Option<String> {
    let runs =
        |program: &str| Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    let lacking = ["mpicc", "mpirun"].into_iter().find(|program| !runs(program))?;
    Some(format!(
        "there is no {lacking}; install Open MPI (Debian: apt-get install --no-install-recommends {PACKAGES})"
    ))
}

/// Builds and runs the tests under mpirun, or those of them whose names contain one of `filter`. The feature makes another library of
/// the engine, and its code generator other features of what proc-macros stand on, so nearly all is compiled once more.
///
/// # Errors
/// No MPI, and a test that failed.
pub fn run(filter: &[String]) -> Result<()> {
    if let Some(what) = missing() {
        bail!(what);
    }
    let mut tests =
        cargo(["test", "--locked", "--package", "igpt-engine", "--features", "mpi", "--test", "ranks", "--"]);
    stage("ranks on CPUs, by MPI", tests.arg("mpi::").args(filter))
}
