//! PTX of another compiler, opened from another language: Triton's kernels against NumPy, through ctypes.

use std::io::Write;
use std::path::Path;
use std::process::Command;

#[test]
fn kernels_of_triton_agree_with_numpy() {
    let Some(python) = std::env::var_os("CUDASIM_TRITON_PYTHON") else {
        // Straight to the terminal: what tests print is swallowed where they pass.
        let _ =
            writeln!(std::io::stderr(), "SKIPPED: Triton's kernels; `cargo xtask test` installs Triton and runs them");
        return;
    };

    let library = std::env::current_exe().expect("a path").with_file_name("libcudasim.so");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/triton/check.py");
    let output = Command::new(python)
        .args(["-W", "ignore"])
        .arg(script)
        .arg(&library)
        .env("TRITON_CACHE_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("triton"))
        .output()
        .expect("Python starts");

    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.lines().filter(|line| line.starts_with("ok: ")).count() >= 20, "too few cases ran:\n{text}");
}
