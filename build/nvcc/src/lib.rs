//! Finds the CUDA compiler: `$NVCC`, `$CUDA_HOME/bin`, `PATH`, then `.cuda` in the workspace (`cargo xtask toolkit`).
//!
//! The one home of this search. The engine's build script, its tests, the simulator's tests and `cargo xtask` all ask here.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The oldest release whose options and targets the kernels need.
pub const OLDEST: (u32, u32) = (12, 4);

/// A compiler that works.
#[derive(Clone, Debug)]
pub struct Nvcc {
    /// The program.
    pub path: PathBuf,
    /// The output of `nvcc --version`; kernels are compiled again when it changes.
    pub version: String,
    /// Its release: major, minor.
    pub number: (u32, u32),
}

impl Nvcc {
    /// Its release as it prints it: `13.0, V13.0.88`.
    pub fn release(&self) -> &str {
        release(&self.version)
    }

    /// The option that leaves a fatbin's PTX readable; 13.0 has another than 12.4.
    pub fn uncompressed(&self) -> &'static str {
        if self.number < (13, 0) { "--no-compress" } else { "--compress-mode=none" }
    }
}

fn release(version: &str) -> &str {
    version.split("release ").nth(1).and_then(|text| text.lines().next()).unwrap_or_default()
}

/// The first compiler that is new enough; `None` if there is none, or if `$NVCC` is `none`. `root` is the workspace's root. `reject` is told of each
/// compiler that was found but cannot be used, and why.
///
/// # Errors
/// When `$NVCC` is set and names no compiler that can be used: it was asked for.
pub fn find(root: &Path, mut reject: impl FnMut(&Path, &str)) -> Result<Option<Nvcc>, String> {
    if let Some(path) = env::var_os("NVCC").filter(|path| !path.is_empty()) {
        if path == "none" {
            return Ok(None);
        }
        let path = PathBuf::from(path);
        return match probe(&path) {
            Ok(nvcc) => Ok(Some(nvcc)),
            Err(why) => Err(format!("NVCC={}: {why}; unset it or correct it", path.display())),
        };
    }

    let mut candidates = Vec::new();
    if let Some(home) = env::var_os("CUDA_HOME").filter(|home| !home.is_empty()) {
        candidates.push(PathBuf::from(home).join("bin/nvcc"));
    }
    if let Some(path) = env::var_os("PATH") {
        candidates.extend(env::split_paths(&path).map(|folder| folder.join("nvcc")));
    }
    candidates.extend(in_toolkit(&root.join(".cuda")));

    for path in candidates.into_iter().filter(|path| path.is_file()) {
        match probe(&path) {
            Ok(nvcc) => return Ok(Some(nvcc)),
            Err(why) => reject(&path, &why),
        }
    }
    Ok(None)
}

/// The compiler in the folder `dir` that `cargo xtask toolkit` filled, if it is there. By its own path, not through a link: it
/// finds its headers beside it.
pub fn in_toolkit(dir: &Path) -> Option<PathBuf> {
    let nvcc = site_packages(dir)?.join("nvidia/cu13/bin/nvcc");
    nvcc.is_file().then_some(nvcc)
}

/// `dir/lib/python3.<minor>/site-packages`; a virtual environment has one.
pub fn site_packages(dir: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(dir.join("lib")).ok()?.flatten();
    let is_python = |name: &str| name.starts_with("python3");
    let pythons = versions.filter(|entry| entry.file_name().to_str().is_some_and(is_python));
    pythons.map(|entry| entry.path().join("site-packages")).filter(|path| path.is_dir()).max()
}

/// Runs the compiler to learn its release.
///
/// # Errors
/// Why it cannot be used.
pub fn probe(path: &Path) -> Result<Nvcc, String> {
    let output = Command::new(path).arg("--version").output().map_err(|error| format!("cannot run it: {error}"))?;
    let version = String::from_utf8_lossy(&output.stdout).into_owned();

    let number = release(&version).split(',').next().and_then(|text| text.trim().split_once('.'));
    let number = number.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    match number {
        None => Err("it does not name its release".to_owned()),
        Some((major, minor)) if (major, minor) < OLDEST => Err(format!(
            "release {major}.{minor} is older than {}.{} (`cargo xtask toolkit` installs one that fits)",
            OLDEST.0, OLDEST.1
        )),
        Some(number) => Ok(Nvcc { path: path.to_owned(), version, number }),
    }
}
