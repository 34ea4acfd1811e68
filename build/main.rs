//! Compiles `kernels/*.cu` for the GPU, where a CUDA compiler is at hand.
//!
//! Each file becomes one uncompressed fatbin in `OUT_DIR/kernels`, with machine code for compute capabilities 8.0 and 9.0 and PTX
//! for all others; `OUT_DIR/kernels.rs` describes them: every kernel's parameters as the PTX has them, and what `ptxas` says
//! of its registers, spills and shared memory. Without a compiler the build succeeds for the CPU alone; then
//! `cfg(igpt_kernels)` is off and the CUDA device says what to do.

use std::{env, error::Error, fs, path::PathBuf};

mod compile;
mod tables;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    println!("cargo::rustc-check-cfg=cfg(igpt_kernels)");
    for path in ["build", "kernels"] {
        println!("cargo::rerun-if-changed={path}");
    }
    for variable in ["NVCC", "CUDA_HOME", "PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }

    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let warn = |path: &std::path::Path, why: &str| println!("cargo::warning={}: {why}; not used", path.display());
    let (release, objects) = match nvcc::find(&root, warn)? {
        Some(nvcc) => {
            println!("cargo::rustc-cfg=igpt_kernels");
            println!("cargo::rerun-if-changed={}", nvcc.path.display());
            (nvcc.number, compile::all(&nvcc, &root, &out.join("kernels"))?)
        }
        None => ((0, 0), Vec::new()),
    };

    for warning in objects.iter().flat_map(compile::Object::warnings) {
        println!("cargo::warning={warning}");
    }

    // Written only when it changed: the crate's own fingerprint hangs on it.
    let (path, text) = (out.join("kernels.rs"), tables::modules(release, &objects)?);
    if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
        fs::write(&path, text)?;
    }
    Ok(())
}
