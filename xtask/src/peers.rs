//! `cargo xtask test --peers`: kernels of other compilers and libraries (Triton, CUTLASS, CUB, cooperative groups) on the
//! simulator, compared with NumPy. What runs and how it is judged is in `cudasim/tests/peers`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{root, stage, toolkit, venv};

/// What is installed into `.peers`, 320 MB from PyPI. No package is taken that is not named here.
const REQUIREMENTS: [&str; 5] =
    ["triton==3.9.0", "numpy==2.4.6", "ml_dtypes==0.6.0", "nvidia-cutlass==4.2.0.0", "liger-kernel==0.8.5"];

/// What was installed.
pub struct Peers {
    pub python: PathBuf,
    pub nvcc: PathBuf,
}

/// Installs the compilers and libraries of others, and the CUDA compiler, unless they are there.
///
/// # Errors
/// A package or the CUDA compiler cannot be installed.
pub fn install() -> Result<Peers> {
    let python = Path::new("python3");
    let release = toolkit::Release::Thirteen;
    let folder = root().join(release.folder());
    let venv = root().join(".peers");
    toolkit::install(release, &folder, python)?;
    venv::install_alone(&venv, python, &REQUIREMENTS)?;
    let nvcc = release.nvcc(&folder).with_context(|| format!("{}: no nvcc", folder.display()))?;
    Ok(Peers { python: venv.join("bin/python"), nvcc })
}

/// Runs the corpus, or the cases whose names contain one of `filter`; counts and cases go to `json`.
///
/// # Errors
/// A package or the CUDA compiler cannot be installed; a value is wrong, or the simulator reported an error.
pub fn run(filter: &[String], json: Option<&Path>) -> Result<()> {
    let Peers { python, nvcc } = install().context("the corpus of other compilers' kernels is SKIPPED")?;

    stage("the simulator", &mut crate::cargo(["build", "--locked", "--package", "cudasim"]))?;
    let mut cases = Command::new(python);
    cases.args(["-B", "-W", "ignore"]).arg(root().join("cudasim/tests/peers/run.py"));
    cases.arg("--library").arg(library()).arg("--nvcc").arg(nvcc).arg("--cache").arg(root().join("target/peers"));
    if let Some(json) = json {
        cases.arg("--json").arg(json);
    }
    stage("kernels of other compilers", cases.args(filter))
}

/// The simulator's library, where cargo puts it.
pub fn library() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("debug/libcudasim.so")
}
