//! `cargo xtask peers --cpu`: what the engine stands beside on a CPU (PyTorch, scikit-learn, Pillow), and transformers, which reads its
//! checkpoints in `tests/ranks/transformers.rs`, in a folder of its own; and `cargo xtask bench`, which measures the engine beside them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cargo, root, stage, venv};

/// PyTorch and what its import needs, without the libraries of CUDA: 600 MB from PyPI. The last two are small, and real.
const REQUIREMENTS: [&str; 19] = [
    "torch==2.14.1",
    "filelock==4.3.1",
    "fsspec==2026.9.0",
    "Jinja2==3.1.6",
    "MarkupSafe==3.0.4",
    "mpmath==1.3.0",
    "networkx==3.6.1",
    "sympy==1.14.0",
    "typing_extensions==4.16.0",
    "numpy==2.4.6",
    "scipy==1.17.1",
    "joblib==1.6.0",
    "cloudpickle==3.1.3",
    "threadpoolctl==3.8.0",
    "narwhals==2.29.0",
    "scikit-learn==1.9.1",
    "pillow==13.0.0",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-cupti==13.0.85",
];

/// transformers and what its import needs: 80 MB from PyPI.
const TRANSFORMERS: [&str; 27] = [
    "transformers==5.24.0",
    "huggingface_hub==2.4.0",
    "packaging==26.4",
    "PyYAML==6.0.4",
    "regex==2026.11.19",
    "safetensors==0.8.0",
    "tokenizers==0.23.3",
    "tqdm==4.70.1",
    "typer==0.29.2",
    "annotated-doc==0.0.7",
    "click==8.5.1",
    "hf-xet==1.8.0",
    "httpx2==2.16.2",
    "httpcore2==2.16.2",
    "pydantic==2.14.4",
    "pydantic_core==2.50.5",
    "rich==15.0.0",
    "shellingham==1.5.4",
    "annotated-types==0.8.0",
    "anyio==4.16.0",
    "idna==3.20",
    "markdown-it-py==4.3.0",
    "Pygments==2.21.0",
    "truststore==0.10.5",
    "typing-inspection==0.4.5",
    "h11==0.16.0",
    "mdurl==0.1.2",
];

/// What was installed.
pub struct CpuPeers {
    pub python: PathBuf,
    /// To preload, so that MKL takes the same path on every processor.
    pub any_cpu: PathBuf,
}

/// Installs the peers into `.peers-cpu` unless they are there.
///
/// # Errors
/// Python, the network, a C compiler or a wheel for this Python is missing.
pub fn install() -> Result<CpuPeers> {
    let dir = root().join(".peers-cpu");
    let peers = CpuPeers { python: dir.join("bin/python"), any_cpu: dir.join("libmkl_any_cpu.so") };
    let fresh = !peers.any_cpu.is_file();
    venv::install_alone(&dir, Path::new("python3"), &[&REQUIREMENTS[..], &TRANSFORMERS].concat())?;

    // A new installation starts from an empty folder.
    if fresh || !peers.any_cpu.is_file() {
        let site_packages = nvcc::site_packages(&dir).context("a virtual environment without site-packages")?;
        let mut stubs = Command::new(&peers.python);
        stubs.arg(root().join("benches/cpu/without_cuda.py")).arg(site_packages);
        stage("PyTorch without CUDA", &mut stubs)?;
        let mut compile = Command::new("cc");
        compile
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .arg(&peers.any_cpu)
            .arg(root().join("benches/cpu/mkl_any_cpu.c"));
        stage("MKL on any processor", &mut compile)?;
    }
    Ok(peers)
}

/// Runs the benchmark with these arguments, beside the peers if they can be had.
///
/// # Errors
/// When it cannot be built or fails: a row got worse than the baseline.
pub fn bench(arguments: &[String]) -> Result<()> {
    let mut command = cargo(["bench", "--locked", "--bench", "cpu", "--"]);
    command.args(arguments);
    eprintln!("==> the peers (PyTorch, scikit-learn, Pillow)");
    match install() {
        Ok(CpuPeers { python, any_cpu }) => {
            command.arg("--python").arg(python).arg("--any-cpu").arg(any_cpu);
        }
        Err(error) => eprintln!("note: without peers: {error:#}"),
    }
    let status = command.status().context("cannot start the benchmark")?;
    if !status.success() {
        bail!("the benchmark failed ({status})");
    }
    Ok(())
}
