//! Where the time of a training step goes, predicted without a card.
//!
//! The step's own code writes down every launch on a device that only counts ([`crate::plan::Load::traced`]); the simulator counts what
//! each different one does, on a sample of its blocks; [`model`] makes times of that, of the kernel's machine code and of the card's
//! ceilings. Nothing is measured: every time is a prediction.
//!
//! ```text
//! machine_code/   instructions of 128 bits, control flow, how often each block runs
//! anchors         instructions that PTX and machine code share
//! card            cards and their ceilings, each with its source
//! counting        what a launch does, by the simulator
//! warps           what the warps of a block do by its machine code, and how long they take
//! model           the time of a launch: this and what is above it know nothing of our own kernels
//! references      the memory that a launch of a trace refers to
//! counter         what the launches of a trace do
//! cache           what L2 still holds of what they touched
//! rows            a step: its launches, and their shares
//! cpu             the other profile: a step on this machine's CPU, measured op by op; it shares nothing with the above
//! ```

mod anchors;
mod cache;
pub mod card;
pub mod counter;
pub mod counting;
mod cpu;
pub mod machine_code;
pub mod model;
mod references;
mod rows;
mod warps;

pub use card::{CARDS, Card, UnknownCard};
pub use cpu::{CpuProfile, CpuRow, cpu_drawing_profile, cpu_profile};
pub use rows::{Profile, ProfileError, Row, profile};
