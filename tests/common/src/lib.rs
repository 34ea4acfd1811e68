//! What the engine's test programs and benchmarks share: the CUDA device that tests run on, the golden values, the reference shapes of
//! every kernel, the simulator's counts at them, and what machine code costs.

pub mod counts;
pub mod devices;
pub mod golden_files;
pub mod reference_shapes;
pub mod sass;
mod turns;
mod unpacked;

use std::io::Write;

pub use turns::{TURN, has_turn, in_turn, tries_all, turn};
pub use unpacked::unpacked;

/// Says what is skipped and why. Straight to stderr: libtest captures `print!` of tests that pass.
pub fn skipped(why: &str) {
    let _ = std::io::stderr().write_all(format!("\nSKIPPED: {why}\n").as_bytes());
}
