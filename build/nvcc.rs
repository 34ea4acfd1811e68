//! Finds the CUDA compiler: `$NVCC`, `$CUDA_HOME/bin`, `PATH`, then `.cuda` in the workspace (`cargo xtask toolkit`).

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::Result;

/// The oldest release whose options and targets the kernels need.
const OLDEST: (u32, u32) = (13, 0);

/// A compiler that works.
pub struct Nvcc {
    pub path: PathBuf,
    /// What it says of itself; kernels are compiled again when it changes.
    pub version: String,
}

/// The first compiler that is new enough. `None` if there is none.
///
/// # Errors
/// When `$NVCC` names something that is not one: it was asked for.
pub fn find(root: &Path) -> Result<Option<Nvcc>> {
    if let Some(path) = env::var_os("NVCC").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        return match probe(&path) {
            Ok(nvcc) => Ok(Some(nvcc)),
            Err(why) => Err(format!("NVCC={}: {why}; unset it or correct it", path.display()).into()),
        };
    }
    let mut candidates = Vec::new();
    if let Some(home) = env::var_os("CUDA_HOME").filter(|home| !home.is_empty()) {
        candidates.push(PathBuf::from(home).join("bin/nvcc"));
    }
    if let Some(path) = env::var_os("PATH") {
        candidates.extend(env::split_paths(&path).map(|folder| folder.join("nvcc")));
    }
    candidates.extend(toolkit(root));
    for path in candidates.into_iter().filter(|path| path.is_file()) {
        match probe(&path) {
            Ok(nvcc) => {
                println!("cargo::rerun-if-changed={}", path.display());
                return Ok(Some(nvcc));
            }
            Err(why) => println!("cargo::warning={}: {why}; not used", path.display()),
        }
    }
    Ok(None)
}

/// The compiler that `cargo xtask toolkit` installed. By its own path, not through a link: it finds its headers beside it.
fn toolkit(root: &Path) -> Option<PathBuf> {
    let library = fs::read_dir(root.join(".cuda/lib")).ok()?;
    let mut found: Vec<PathBuf> = library
        .filter_map(|entry| Some(entry.ok()?.path().join("site-packages/nvidia/cu13/bin/nvcc")))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found.pop()
}

fn probe(path: &Path) -> Result<Nvcc> {
    let output = Command::new(path).arg("--version").output().map_err(|error| format!("cannot run it: {error}"))?;
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    let release = version
        .split("release ")
        .nth(1)
        .and_then(|text| text.split(',').next())
        .and_then(|text| text.trim().split_once('.'))
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    match release {
        None => Err("it does not name its release".into()),
        Some(release) if release < OLDEST => Err(format!(
            "release {}.{} is older than {}.{} (`cargo xtask toolkit` installs one that fits)",
            release.0, release.1, OLDEST.0, OLDEST.1
        )
        .into()),
        Some(_) => Ok(Nvcc { path: path.to_owned(), version }),
    }
}
