//! Compiles a kernel with a bug in it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use nvcc::Nvcc;

use super::table::Mutant;
use super::{Result, tokens};

/// As `build/compile.rs` has them.
const OPTIONS: &[&str] = &["-fatbin", "-std=c++17", "-O3", "-lineinfo"];

/// The same, for PTX alone.
fn architecture(module: &str) -> &'static str {
    if module.ends_with("_sm90") {
        "-gencode=arch=compute_90a,code=compute_90a"
    } else {
        "-gencode=arch=compute_80,code=compute_80"
    }
}

/// The fatbin of the mutant's module; compiled unless it is there from an earlier run.
///
/// # Errors
/// If the code to replace is not there exactly once, or the result does not compile.
pub fn compile(nvcc: &Nvcc, root: &Path, mutant: &Mutant) -> Result<PathBuf> {
    let mut sources = planted(root, mutant)?;
    let (_, text) = sources.iter_mut().find(|(name, _)| name.ends_with(".cu")).ok_or("no such module")?;
    *text = text.lines().filter(|line| is_kept(line, mutant.keep)).map(|line| format!("{line}\n")).collect();

    let mut hash = DefaultHasher::new();
    (&sources, OPTIONS, &nvcc.version, mutant.module).hash(&mut hash);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mutants/{:016x}", hash.finish()));
    let image = folder.join("image.fatbin");
    if image.is_file() {
        return Ok(image);
    }

    for (name, text) in &sources {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().ok_or("a name without a folder")?)?;
        fs::write(path, text)?;
    }
    let output = Command::new(&nvcc.path)
        .current_dir(&folder)
        .args(OPTIONS)
        .arg(architecture(mutant.module))
        .arg(nvcc.uncompressed())
        .args(["-o", "made.fatbin", &format!("{}.cu", mutant.module)])
        .output()?;
    if !output.status.success() {
        return Err(format!("does not compile:\n{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    fs::rename(folder.join("made.fatbin"), &image)?;
    Ok(image)
}

/// The sources of the mutant's module with the bug in them, by their names.
///
/// # Errors
/// If the code to replace is not there exactly once.
pub fn planted(root: &Path, mutant: &Mutant) -> Result<Vec<(String, String)>> {
    let mut sources = sources(&root.join("kernels"), mutant.module)?;
    let (_, text) = sources.iter_mut().find(|(name, _)| name == mutant.file).ok_or("no such file")?;
    *text = tokens::replace(text, mutant.from, mutant.to).map_err(|why| format!("{}: {why}", mutant.file))?;
    Ok(sources)
}

/// Whether a line stays: of a module's kernels those that the check launches. Kernels stand on lines of their own, and so do the variants
/// that a macro has of each, whose names begin with NAME.
fn is_kept(line: &str, keep: &[&str]) -> bool {
    let names_it = |keep: &&str| line.contains(*keep);
    let of_macro = |keep: &&&str| keep.contains("NAME");
    if line.starts_with("KERNEL") || line.starts_with("TYPES") {
        keep.is_empty() || keep.iter().filter(|keep| !of_macro(keep)).any(names_it)
    } else if line.trim_start().starts_with("KERNEL") {
        !keep.iter().any(|keep| of_macro(&keep)) || keep.iter().any(names_it)
    } else {
        true
    }
}

/// `MODULE.cu` and all headers of `kernels`, by their paths in it.
fn sources(kernels: &Path, module: &str) -> Result<Vec<(String, String)>> {
    let mut sources = Vec::new();
    let mut folders = vec![(kernels.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).ok_or("a file's name is not UTF-8")?;
            let name = format!("{prefix}{name}");
            if path.is_dir() {
                folders.push((path, format!("{name}/")));
            } else if name.ends_with(".cuh") || name == format!("{module}.cu") {
                sources.push((name, fs::read_to_string(&path)?));
            }
        }
    }
    sources.sort();
    Ok(sources)
}
