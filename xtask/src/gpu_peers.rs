//! `cargo xtask peers`: kernels of others whose speed on real cards is published, through the model of `igpt-engine profile`. What runs
//! and where the figures are from is in `benches/peers`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::{cargo, peers, root, stage};

/// FlashAttention-2: its headers, and those of CUTLASS that it was made for. As a package it would want PyTorch and compile for hours.
const FLASH: [&str; 2] = [
    "https://files.pythonhosted.org/packages/3b/b2/8d76c41ad7974ee264754709c22963447f7f8134613fd9ce80984ed0dab7/flash_attn-2.8.3.tar.gz",
    "1e71dd64a9e0280e0447b8a0c2541bad4bf6ac65bdeaa2f90e51a9e57de0370d",
];

/// What is printed of which.
#[derive(Args)]
pub struct GpuPeers {
    /// Write figures, predictions and verdict to this file
    #[arg(long, value_name = "FILE", conflicts_with = "cpu")]
    json: Option<PathBuf>,
    /// Instead predict the ops of S, M and L on this card, beside the best that is published of the like; needs none of the packages
    #[arg(long, value_name = "CARD", conflicts_with_all = ["cpu", "json", "filter"])]
    ops: Option<String>,
    /// Parts of names of cases, e.g. `triton/matmul`
    #[arg(conflicts_with = "cpu")]
    filter: Vec<String>,
}

/// Compiles the kernels, counts what they do on the simulator, and prints their predicted times beside the published ones.
///
/// # Errors
/// A package or the CUDA compiler cannot be installed, a kernel cannot be compiled, or the simulator refuses one.
pub fn run(arguments: &GpuPeers) -> Result<()> {
    if let Some(card) = &arguments.ops {
        let mut ops = cargo(["run", "--locked", "--quiet", "--package", "gpu-peers", "--"]);
        return stage("predicted, op by op", ops.args(["--ops", card]));
    }
    let launches = record(&arguments.filter)?;
    let mut table = cargo(["run", "--locked", "--quiet", "--package", "gpu-peers", "--"]);
    table.arg("--launches").arg(launches).args(&arguments.filter);
    if let Some(json) = &arguments.json {
        table.arg("--json").arg(std::path::absolute(json)?);
    }
    stage("predicted beside published", &mut table)
}

/// A kernel of Triton at toy size, all the way to a prediction.
///
/// # Errors
/// As [`run`]; or it is not counted as it must be.
pub fn toy() -> Result<()> {
    let launches = record(&["toy/".to_owned()])?;
    let mut toy = cargo(["test", "--locked", "--package", "gpu-peers", "--test", "toy"]);
    stage("a kernel of Triton through the model", toy.env("GPU_PEERS_LAUNCHES", launches))
}

/// Compiles the kernels of cases and writes down how they are launched; the folder.
fn record(filter: &[String]) -> Result<PathBuf> {
    let tools = peers::install()?;
    let flash = root().join(".peers-flash");
    let mut source = Command::new(&tools.python);
    source.arg(root().join("benches/peers/python/source_package.py")).args(FLASH).arg(&flash);
    source.args(["csrc/flash_attn/src/", "csrc/cutlass/include/"]);
    stage("the headers of FlashAttention-2", &mut source).context("from PyPI")?;

    stage("the simulator", &mut cargo(["build", "--locked", "--package", "cudasim"]))?;
    let target = root().join("target/gpu-peers");
    let launches = target.join("launches");
    let mut record = Command::new(&tools.python);
    record.args(["-B", "-W", "ignore"]).arg(root().join("benches/peers/python/record.py"));
    record.arg("--library").arg(peers::library()).arg("--nvcc").arg(&tools.nvcc).arg("--flash").arg(&flash);
    record.arg("--cache").arg(target.join("cache")).arg("--out").arg(&launches);
    stage("kernels of others, compiled", record.args(filter))?;
    Ok(launches)
}
