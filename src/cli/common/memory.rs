//! How much memory there is, and refusing at once what cannot fit: the system ends a process that asks for more than it
//! has, often minutes into the work and without a word about which flag was too large.

use std::path::Path;

use anyhow::{Result, bail};

use crate::device::{Device, Precision};
use crate::model::ModelConfig;

const GIBIBYTE: f64 = (1_u64 << 30) as f64;

/// The machine's memory in GiB; `None` where the system does not say (it does on Linux).
pub fn total_gib() -> Option<f64> {
    field("/proc/meminfo", "MemTotal").and_then(|text| gibibytes(&text))
}

/// Memory in GiB that programs could still be given.
pub fn available_gib() -> Option<f64> {
    field("/proc/meminfo", "MemAvailable").and_then(|text| gibibytes(&text))
}

/// Refuses work that needs at least `bytes` of host memory where the machine has less; `remedy` says what to change.
pub fn refuse_beyond_machine(what: &str, bytes: f64, remedy: &str) -> Result<()> {
    refuse_beyond("this machine", total_gib().unwrap_or(f64::INFINITY), what, bytes / GIBIBYTE, remedy)
}

/// The same of work in `device`'s memory, whether that is its own or the machine's.
pub fn refuse_beyond_device<D: Device>(device: &D, what: &str, bytes: f64, remedy: &str) -> Result<()> {
    match device.own_memory() {
        Some(own) => refuse_beyond("the GPU", own as f64 / GIBIBYTE, what, bytes / GIBIBYTE, remedy),
        None => refuse_beyond_machine(what, bytes, remedy),
    }
}

fn refuse_beyond(owner: &str, total: f64, what: &str, needed: f64, remedy: &str) -> Result<()> {
    if needed > total {
        bail!("{what} needs at least {needed:.1} GiB of memory and {owner} has {total:.1} GiB; {remedy}");
    }
    Ok(())
}

/// Bytes of a number that an op returns.
fn bytes_of(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 4.0,
        Precision::Bf16 => 2.0,
    }
}

/// Bytes that training takes at the very least: weights, gradients and two moments in f32, and what a micro-batch of `tokens`
/// tokens leaves for the backward pass (no less than 8 rows of the width a block, and the logits).
pub fn of_training(config: &ModelConfig, tokens: f64, precision: Precision) -> f64 {
    let activations = (8 * config.layers * config.width + config.vocabulary) as f64;
    4.0 * 4.0 * config.parameter_count() as f64 + bytes_of(precision) * tokens * activations
}

/// Bytes that scoring `tokens` tokens at a time takes at the very least: weights, a block's hidden layer, or the logits.
pub fn of_scoring(config: &ModelConfig, tokens: f64, precision: Precision) -> f64 {
    let activations = (4 * config.width).max(config.vocabulary) as f64;
    4.0 * config.parameter_count() as f64 + bytes_of(precision) * tokens * activations
}

/// Bytes that drawing images of `tokens` tokens in all takes at the very least: weights, and every block's keys and
/// values, in f32.
pub fn of_drawing(config: &ModelConfig, tokens: f64) -> f64 {
    4.0 * (config.parameter_count() as f64 + tokens * (2 * config.layers * config.width) as f64)
}

/// The value of `key: value` in one of Linux's text files; nothing elsewhere.
pub fn field(path: impl AsRef<Path>, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    })
}

/// `24634804 kB` in GiB.
fn gibibytes(text: &str) -> Option<f64> {
    let kibibytes: f64 = text.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes / 1024.0 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;

    #[test]
    fn kernel_memory_figures() {
        assert_eq!(gibibytes("2097152 kB"), Some(2.0));
        assert_eq!(gibibytes("lots"), None);
    }

    #[test]
    fn what_fits_is_let_through_and_what_does_not_is_named() {
        let need = |preset| of_training(&ModelConfig::preset(preset, 32), 1024.0, Precision::F32) / GIBIBYTE;
        // The requirement: iGPT-S with one image stays under 4 GiB.
        assert!(need(Preset::S) < 4.0);
        refuse_beyond("this machine", 4.0, "training", need(Preset::S), "").unwrap();
        let refused = refuse_beyond("the GPU", 24.0, "training", need(Preset::Xl), "try --model s");
        let message = refused.unwrap_err().to_string();
        assert!(message.contains("the GPU has 24.0 GiB") && message.contains("--model s"), "{message}");
    }
}
