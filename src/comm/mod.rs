//! Ranks: processes that train one model together, one of them per device, and what they exchange.
//!
//! ```text
//! launch                    which rank this is, and how the others are found: MPI, torchrun, Slurm
//! Comm                      the collectives: Single, Nccl (opened at run time), Mpi (feature `mpi`)
//! fabric                    whether ranks reach each other, and how fast
//! watchdog                  ends this rank where another fails or never comes
//! ```
//!
//! The protocols are NCCL's and MPI's; nothing here speaks to a network. NCCL moves the tensors of GPUs in the order of their
//! stream, so a collective is captured in a CUDA graph like a kernel. MPI moves those of the CPU.

pub mod fabric;
mod launch;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(unix)]
mod nccl;
mod open;
mod single;
mod watchdog;

pub use launch::{Launch, LaunchError, Launcher};
#[cfg(unix)]
pub use nccl::{Library as NcclLibrary, Nccl};
pub use open::open;
pub use single::Single;
pub use watchdog::{LIMITS, Limits, Watchdog, Watched};

use serde::{Deserialize, Serialize};

use crate::device::{Device, Result};
use crate::named::named;

named! {
    /// How the gradients of several ranks are added up.
    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum Reduction {
        /// The library's fastest all-reduce: two runs may differ in their last bits
        Fast = "fast",
        /// All-reduce along a fixed path: the same bits on as many ranks of the same machines
        #[default]
        Repeatable = "repeatable",
        /// Ranks exchange gradients and add them in f32 in the order of the micro-batches: the same bits on any number of
        /// ranks, one included, whatever the library
        Exact = "exact",
    }
}

/// What the ranks of a group do together. Every rank calls the same collectives in the same order, with tensors of the same sizes.
///
/// All tensors are f32. A collective takes its place in the device's order of work, as an op does: the main one, or within
/// [`Beside::beside`](crate::device::Beside::beside) that beside it. A rank's collectives are in one order all the same, so two that
/// follow each other in different orders of work have a wait between them.
pub trait Comm<D: Device> {
    /// This process, from 0.
    fn rank(&self) -> usize;
    /// Processes of the group.
    fn size(&self) -> usize;
    /// What carries the numbers, for people: `NCCL 2.30.7`.
    fn describe(&self) -> String;

    /// Every rank's tensor becomes the sum of all.
    fn all_reduce(&self, device: &D, tensor: &mut D::Tensor) -> Result<()>;
    /// Part `rank` of the sum of all ranks' `send` `[size · n]` into `receive` `[n]`.
    fn reduce_scatter(&self, device: &D, send: &mut D::Tensor, receive: &mut D::Tensor) -> Result<()>;
    /// All ranks' `send` `[n]`, in their order, into `receive` `[size · n]`.
    fn all_gather(&self, device: &D, send: &mut D::Tensor, receive: &mut D::Tensor) -> Result<()>;
    /// Part `r` of `send` `[size · n]` goes to rank `r`; part `r` of `receive` `[size · n]` is what rank `r` sent here. Nothing is
    /// computed, so nothing is rounded.
    fn all_to_all(&self, device: &D, send: &mut D::Tensor, receive: &mut D::Tensor) -> Result<()>;
    /// Every rank's tensor becomes that of rank `root`.
    fn broadcast(&self, device: &D, tensor: &mut D::Tensor, root: usize) -> Result<()>;
    /// Returns once every rank has come here.
    fn barrier(&self, device: &D) -> Result<()>;
    /// A group of the ranks that give the same `colour`, ordered by `key` and then by their rank here.
    fn split(&self, device: &D, colour: usize, key: usize) -> Result<Box<dyn Comm<D>>>;
    /// What went wrong with collectives that were asked for earlier.
    fn check(&self) -> Result<()>;
}

/// Refuses tensors whose sizes are not `[size · n]` and `[n]`.
fn check_parts(op: &'static str, whole: usize, part: usize, size: usize) -> Result<()> {
    if whole == part * size {
        return Ok(());
    }
    let (expected, got) = (format!("{size} parts of {part} elements"), whole.to_string());
    Err(crate::device::ShapeError { op, argument: "whole", expected, got }.into())
}

/// Elements of a tensor.
fn volume<D: Device>(device: &D, tensor: &D::Tensor) -> usize {
    device.shape(tensor).iter().product()
}
