//! How much memory there is, and refusing at once what cannot fit: the system ends a process that asks for more than it
//! has, often minutes into the work and without a word about which flag was too large.

use std::path::Path;

use anyhow::{Result, bail};

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

/// Refuses work that needs at least `bytes` where the machine has less; `remedy` says what to change.
pub fn refuse_beyond_machine(what: &str, bytes: f64, remedy: &str) -> Result<()> {
    refuse_beyond(what, bytes / GIBIBYTE, total_gib().unwrap_or(f64::INFINITY), remedy)
}

fn refuse_beyond(what: &str, needed: f64, total: f64, remedy: &str) -> Result<()> {
    if needed > total {
        bail!("{what} needs at least {needed:.1} GiB of memory and this machine has {total:.1} GiB; {remedy}");
    }
    Ok(())
}

/// Bytes that training takes at the very least on the CPU: weights, gradients and two moments, and what a micro-batch of
/// `tokens` tokens leaves for the backward pass (no less than 8 rows of the width a block, and the logits).
pub fn of_training(config: &ModelConfig, tokens: f64) -> f64 {
    let activations = (8 * config.layers * config.width + config.vocabulary) as f64;
    4.0 * (4.0 * config.parameter_count() as f64 + tokens * activations)
}

/// Bytes that scoring `tokens` tokens at a time takes at the very least: weights, a block's hidden layer, or the logits.
pub fn of_scoring(config: &ModelConfig, tokens: f64) -> f64 {
    4.0 * (config.parameter_count() as f64 + tokens * (4 * config.width).max(config.vocabulary) as f64)
}

/// Bytes that drawing images of `tokens` tokens in all takes at the very least: weights, and every block's keys and
/// values.
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
        let need = |preset| of_training(&ModelConfig::preset(preset, 32), 1024.0) / GIBIBYTE;
        // The requirement: iGPT-S with one image stays under 4 GiB.
        assert!(need(Preset::S) < 4.0);
        refuse_beyond("training", need(Preset::S), 4.0, "").unwrap();
        let message = refuse_beyond("training", need(Preset::Xl), 24.0, "try --model s").unwrap_err().to_string();
        assert!(message.contains("24.0 GiB") && message.contains("--model s"), "{message}");
    }
}
