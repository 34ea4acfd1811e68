//! Ranks on CPUs under a real mpirun: the engine built with its feature `mpi`, where the machine has what that needs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Result, bail};

use crate::{cargo, stage};

/// Debian's packages of it, the last two for the crate's own build.
const PACKAGES: &str = "libopenmpi-dev openmpi-bin libclang1-14 libclang-common-14-dev";

/// The feature, of any package of the workspace.
pub const FEATURE: [&str; 2] = ["--features", "igpt-engine/mpi"];

/// What this machine lacks, with the remedy; nothing where all is there.
pub fn missing() -> Option<String> {
    let runs =
        |program: &str| Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    let programs = ["mpicc", "mpirun"].into_iter().find(|program| !runs(program));
    let lacking = programs.or_else(|| (!has_libclang()).then_some("libclang"))?;
    Some(format!(
        "there is no {lacking}; install Open MPI (Debian: apt-get install --no-install-recommends {PACKAGES})"
    ))
}

/// Whether the crate's code generator will find libclang and clang's own headers: where Debian has them, or where LIBCLANG_PATH says.
fn has_libclang() -> bool {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_whole = |llvm: PathBuf| {
        let is_library =
            |path: PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libclang"));
        llvm.join("lib/clang").is_dir() && entries(&llvm.join("lib")).any(is_library)
    };
    env::var_os("LIBCLANG_PATH").is_some() || entries(Path::new("/usr/lib")).any(is_whole)
}

/// Builds and runs the tests under mpirun, or those of them whose names contain one of `filter`.
///
/// # Errors
/// No MPI, and a test that failed.
pub fn run(filter: &[String]) -> Result<()> {
    if let Some(what) = missing() {
        bail!(what);
    }
    let mut tests = cargo(["test", "--workspace", "--locked", "--test", "ranks"]);
    stage("ranks on CPUs, by MPI", tests.args(FEATURE).args(["--", "mpi::"]).args(filter))
}
