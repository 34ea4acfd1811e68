//! What the engine's test programs and benchmarks share: the CUDA device that tests run on, the golden values, the reference shapes of
//! every kernel, the simulator's counts at them, and what machine code costs.

pub mod counts;
pub mod devices;
pub mod golden_files;
pub mod reference_shapes;
pub mod sass;
mod unpacked;

use std::io::Write;
use std::time::SystemTime;

pub use unpacked::unpacked;

/// Says what is skipped and why. Straight to stderr: libtest captures `print!` of tests that pass.
pub fn skipped(why: &str) {
    let _ = std::io::stderr().write_all(format!("\nSKIPPED: {why}\n").as_bytes());
}

/// Of what is tried in turns, one of `parts` a run: those whose number leaves the remainder that this run has. The second decides, so that
/// the next run most likely has another. All of them where `IGPT_TEST_ALL=1` (`cargo xtask test --all`).
pub fn in_turn<T>(all: impl IntoIterator<Item = T>, parts: usize) -> impl Iterator<Item = T> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() as usize;
    let (first, step) = if tries_all() { (0, 1) } else { (now % parts, parts) };
    all.into_iter().skip(first).step_by(step)
}

/// Whether all is to be tried that another run would leave to others.
pub fn tries_all() -> bool {
    std::env::var_os("IGPT_TEST_ALL").is_some_and(|all| all == "1")
}
