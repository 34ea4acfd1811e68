//! Refusing at once what cannot fit: the system ends a process that asks for more memory than it has, often minutes into the
//! work and without a word about which flag was too large.
//!
//! What is needed comes from [`Memory`], the same figures that `igpt-engine plan` prints.

use super::machine;
use super::memory::{Memory, Work};
use crate::device::{Device, Precision};
use crate::model::ModelConfig;
use crate::report::html::grouped;

const GIBIBYTE: f64 = (1_u64 << 30) as f64;

/// Work that needs more memory than there is.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "{work} needs {:.1} GiB of memory and {owner} has {:.1} GiB; {remedy}",
    needed / GIBIBYTE, available / GIBIBYTE
)]
pub struct TooLarge {
    /// The work, as the start of a sentence.
    pub work: String,
    /// Bytes that it needs.
    pub needed: f64,
    /// Whose memory it is: the GPU's or the machine's.
    pub owner: &'static str,
    /// Bytes that there are.
    pub available: f64,
    /// What to change.
    pub remedy: String,
}

/// Refuses work that needs `bytes` of host memory where the machine has less; `remedy` says what to change.
///
/// # Errors
/// [`TooLarge`].
pub fn check_machine(work: &str, bytes: f64, remedy: &str) -> Result<(), TooLarge> {
    check("this machine", machine::total_memory().unwrap_or(f64::INFINITY), work, bytes, remedy)
}

/// Refuses work that needs more of `device`'s memory than there is, whether that is its own or the machine's.
///
/// # Errors
/// [`TooLarge`].
pub fn check_device<D: Device>(device: &D, work: &str, memory: &Memory, remedy: &str) -> Result<(), TooLarge> {
    match device.own_memory() {
        Some(own) => check("the GPU", own as f64, work, memory.total(), remedy),
        None => check_machine(work, memory.total(), remedy),
    }
}

/// Refuses to train a model in micro-batches of `batch` images of `tokens_per_image` tokens on a device that cannot hold it,
/// before anything is allocated.
///
/// # Errors
/// [`TooLarge`].
pub fn check_training<D: Device>(
    device: &D,
    config: &ModelConfig,
    batch: usize,
    tokens_per_image: usize,
    precision: Precision,
) -> Result<(), TooLarge> {
    let memory = Memory::of(config, Work::Training, batch as f64 * tokens_per_image as f64, precision);
    let parameters = grouped(config.parameter_count() as u64);
    let work = format!("training this model ({parameters} parameters, --batch {batch})");
    let remedy = if batch > 1 {
        "try a smaller --batch with more --accumulate, a smaller --model, or a lower --resolution"
    } else {
        "try a smaller --model or a lower --resolution"
    };
    check_device(device, &work, &memory, remedy)
}

fn check(owner: &'static str, available: f64, work: &str, needed: f64, remedy: &str) -> Result<(), TooLarge> {
    if needed > available {
        return Err(TooLarge { work: work.to_owned(), needed, owner, available, remedy: remedy.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;

    #[test]
    fn what_fits_is_let_through_and_what_does_not_is_named() {
        let need = |preset| {
            Memory::of(&ModelConfig::preset(preset, 32), Work::Training, 1024.0, Precision::F32).total() / GIBIBYTE
        };
        // The requirement: iGPT-S with one image stays under 4 GiB.
        assert!(need(Preset::S) < 4.0);
        check("this machine", 4.0 * GIBIBYTE, "training", need(Preset::S) * GIBIBYTE, "").unwrap();
        let refused =
            check("the GPU", 24.0 * GIBIBYTE, "training", need(Preset::Xl) * GIBIBYTE, "try --model s").unwrap_err();
        let message = refused.to_string();
        assert!(message.contains("the GPU has 24.0 GiB") && message.contains("--model s"), "{message}");
    }
}
