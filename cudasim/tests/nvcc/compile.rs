//! Finds nvcc and compiles what stands in `tests/cuda`.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// nvcc: `$NVCC`, `$CUDA_HOME`, `PATH`, then `.cuda` in the workspace's root, where `cargo xtask toolkit` installs it.
pub fn nvcc() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    nvcc::find(root, |_, _| ()).unwrap_or_else(|error| panic!("{error}")).map(|nvcc| nvcc.path)
}

/// PTX of `tests/cuda/NAME.cu` for `arch` (`compute_80`); `None`, loudly, where there is no compiler.
///
/// # Panics
/// As [`compiled`].
#[allow(dead_code, reason = "of two test crates one compiles fat binaries only")]
pub fn ptx(name: &str, arch: &str) -> Option<String> {
    let options = ["-ptx", "-lineinfo", &format!("-arch={arch}")];
    compiled(name, &options).map(|text| String::from_utf8(text).unwrap_or_else(|error| panic!("{name}.cu: {error}")))
}

/// What nvcc makes of `tests/cuda/NAME.cu` with these options; `None`, loudly, where there is no compiler.
///
/// # Panics
/// The source does not compile; or there is no compiler although `CUDASIM_REQUIRE_NVCC` says that there must be.
pub fn compiled(name: &str, options: &[&str]) -> Option<Vec<u8>> {
    let Some(nvcc) = nvcc() else {
        assert!(std::env::var_os("CUDASIM_REQUIRE_NVCC").is_none(), "nvcc is not to be found");
        // Straight to the terminal: what tests print is swallowed where they pass.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: {name}.cu is not compiled nor run: no nvcc; `cargo xtask toolkit` installs it"
        );
        return None;
    };

    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda").join(format!("{name}.cu"));
    let text = fs::read_to_string(&source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
    let mut hasher = DefaultHasher::new();
    (&text, options, &nvcc).hash(&mut hasher);
    let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{:016x}", hasher.finish()));

    if !output.exists() {
        // Tests run side by side, in several processes: each compiles to a file of its own, and the last to finish wins.
        let thread = format!("{:?}", std::thread::current().id()).replace(['(', ')'], "");
        let own = output.with_extension(format!("{}-{thread}", std::process::id()));
        let run = Command::new(nvcc)
            .args(["-O3", "-std=c++17"])
            .args(options)
            .arg("-o")
            .arg(&own)
            .arg(&source)
            .output()
            .unwrap_or_else(|error| panic!("nvcc: {error}"));
        assert!(run.status.success(), "{}: {}", source.display(), String::from_utf8_lossy(&run.stderr));
        fs::rename(&own, &output).unwrap_or_else(|error| panic!("{}: {error}", output.display()));
    }

    Some(fs::read(&output).unwrap_or_else(|error| panic!("{}: {error}", output.display())))
}
