//! Compiles the loops whose rates are the ceilings, where a CUDA compiler is at hand; without one the benchmark says so.

use std::{
    env,
    error::Error,
    path::{Path, PathBuf},
    process::Command,
};

/// Each source, and the architectures it is made for: PTX beside the machine code, for later cards and for the simulator.
const SOURCES: [(&str, &str); 2] = [
    ("ceilings", "-gencode=arch=compute_80,code=[sm_80,compute_80]"),
    ("wgmma", "-gencode=arch=compute_90a,code=[sm_90a,compute_90a]"),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rustc-check-cfg=cfg(ceilings)");
    for path in ["build.rs", "kernels", "../../kernels/ptx.cuh", "../../kernels/common.cuh"] {
        println!("cargo::rerun-if-changed={path}");
    }
    for variable in ["NVCC", "CUDA_HOME", "PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }

    let own = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let root = own.join("../..");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let warn = |path: &Path, why: &str| println!("cargo::warning={}: {why}; not used", path.display());
    let Some(nvcc) = nvcc::find(&root, warn)? else { return Ok(()) };

    println!("cargo::rustc-cfg=ceilings");
    println!("cargo::rerun-if-changed={}", nvcc.path.display());
    for (name, architectures) in SOURCES {
        let output = Command::new(&nvcc.path)
            .current_dir(&root)
            .args(["-fatbin", "-std=c++17", "-O3", "-I", "kernels", nvcc.uncompressed(), architectures, "-o"])
            .arg(out.join(format!("{name}.fatbin")))
            .arg(format!("benches/gpu/kernels/{name}.cu"))
            .output()?;
        if !output.status.success() {
            return Err(format!("{name}.cu does not compile:\n{}", String::from_utf8_lossy(&output.stderr)).into());
        }
    }
    Ok(())
}
