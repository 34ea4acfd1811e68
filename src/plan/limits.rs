//! Refusing at once what cannot fit: the system ends a process that asks for more memory than it has, often minutes into the
//! work and without a word about which flag was too large.
//!
//! What is needed comes from [`Memory`], the same figures that `igpt-engine plan` prints.

use super::USABLE;
use super::exhausted;
use super::machine::{self, HostMemory};
use super::memory::{Memory, Work};
use super::memory_limits::Scope;
use super::offload::Offloaded;
use super::shares::Shares;
use super::taken::Load;
use crate::device::{Device, Precision};
use crate::model::{ModelConfig, Preset};
use crate::named::Named;
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
    /// Whose memory it is: the GPU's, the machine's, or that of a container or a shell that gives less.
    pub owner: String,
    /// Bytes that there are.
    pub available: f64,
    /// What to change.
    pub remedy: String,
}

/// Refuses work that needs `bytes` of host memory where the machine, the container or the shell gives less; `remedy` says what
/// to change.
///
/// # Errors
/// [`TooLarge`].
pub fn check_machine(work: &str, bytes: f64, remedy: &str) -> Result<(), TooLarge> {
    let memory = machine::host_memory();
    expect(work, &memory, remedy);
    check(memory.owner(), memory.reachable(), work, bytes, remedy)
}

/// Prepares what is said if an allocation of `work` fails although its size was let through, or was not foreseen.
pub fn expect_work(work: &str, remedy: &str) {
    expect(work, &machine::host_memory(), remedy);
}

fn expect(work: &str, memory: &HostMemory, remedy: &str) {
    let limit = format!("{} has {:.1} GiB", memory.owner(), memory.total() / GIBIBYTE);
    exhausted::prepare(work, &limit, remedy);
}

/// Refuses work that needs more of `device`'s memory than there is, whether that is its own or the machine's.
///
/// # Errors
/// [`TooLarge`].
pub fn check_device<D: Device>(device: &D, work: &str, memory: &Memory, remedy: &str) -> Result<(), TooLarge> {
    match device.own_memory() {
        Some(own) => {
            expect_work(work, remedy);
            check("the GPU".to_owned(), own as f64, work, memory.total(), remedy)?;
            check_host(work, memory.host)
        }
        None => check_machine(work, memory.total(), remedy),
    }
}

/// Refuses to keep `bytes` of `work`'s optimiser in host memory that there is not.
///
/// # Errors
/// [`TooLarge`].
pub fn check_host(work: &str, bytes: f64) -> Result<(), TooLarge> {
    let memory = machine::host_memory();
    let remedy = "leave --offload-optimizer out, or share the optimiser out among more GPUs (--zero 1)";
    check(memory.owner(), memory.reachable(), &format!("the optimiser on the host of {work}"), bytes, remedy)
}

/// What a load takes of the memory that `device` computes in: counted for a GPU, by formula for the CPU.
pub fn memory_on<D: Device>(device: &D, load: Load<'_>) -> Memory {
    match device.own_memory() {
        Some(_) => load.on_gpu().unwrap_or_else(|_| load.by_formula()),
        None if load.work == Work::Sampling => {
            Memory::drawing_on_cpu(load.config, load.images as f64 * load.length as f64, device.cache_precision())
        }
        None => Load { shares: Shares { offload: false, ..load.shares }, ..load }.by_formula(),
    }
}

/// The most images at a time, of `most` halved again and again, that `device` has the memory to draw, so many `sequences` for
/// each; one if it has not even that.
pub fn drawing_batch<D: Device>(
    device: &D,
    config: &ModelConfig,
    precision: Precision,
    sequences: usize,
    most: usize,
) -> usize {
    let own = device.own_memory().map(|bytes| bytes as f64);
    let available = own.unwrap_or_else(|| machine::host_memory().reachable()) * USABLE;
    let bytes = |batch: usize| {
        let (work, images, length) = (Work::Sampling, batch.saturating_mul(sequences), config.positions);
        memory_on(device, Load::new(config, work, images, length, precision)).total()
    };
    let halved = std::iter::successors(Some(most.max(1)), |batch| Some(batch / 2).filter(|batch| *batch > 0));
    halved.into_iter().find(|batch| bytes(*batch) <= available).unwrap_or(1)
}

/// Refuses to train with the memory of `load` on a device that cannot hold it, before anything is allocated; `beside` ranks, this one
/// among them, share the machine's memory.
///
/// # Errors
/// [`TooLarge`].
pub fn check_training<D: Device>(device: &D, load: Load<'_>, beside: usize) -> Result<(), TooLarge> {
    let Load { config, images: batch, ema, precision, shares, .. } = load;
    let memory = memory_on(device, load);
    let parameters = grouped(config.parameter_count() as u64);
    let by = if shares.ranks > 1 {
        format!(", on each of {} ranks at --zero {}", shares.ranks, shares.zero)
    } else {
        String::new()
    };
    let work = format!("training {} ({parameters} parameters, --batch {batch}{by})", model_name(config));

    // What takes less.
    let mut remedies = Vec::new();
    if shares.ranks > 1 && shares.zero < 2 {
        remedies.push("--zero 2");
    }
    remedies.extend(match batch {
        1 => ["--recompute block", "a smaller --model"],
        _ => ["a smaller --batch with more --accumulate, --recompute norms-mlp or block", "a smaller --model"],
    });
    let mut remedy = format!("try {}, or a lower --resolution", remedies.join(", "));
    if device.own_memory().is_some() && !shares.offload {
        let moved = Offloaded::of(config, precision, shares, ema).bytes / GIBIBYTE;
        remedy.push_str(&format!("; --offload-optimizer moves {moved:.1} GiB to the host's memory"));
    }
    if ema {
        remedy.push_str(&format!("; without --ema it is {:.1} GiB less", memory.average / GIBIBYTE));
    }

    match device.own_memory() {
        Some(_) => check_device(device, &work, &memory, &remedy),
        None if beside > 1 => {
            let work = format!("{work}, {beside} of them on this machine,");
            check_machine(&work, beside as f64 * memory.total(), &remedy)
        }
        None => check_machine(&work, memory.total(), &remedy),
    }
}

/// Whether the host has memory to copy a checkpoint of `load` to, while training goes on on `device` beside `beside` ranks.
pub fn holds_snapshot<D: Device>(device: &D, load: Load<'_>, beside: usize) -> bool {
    let Load { config, ema, shares, .. } = load;
    let memory = memory_on(device, load);
    let training = if device.own_memory().is_some() { memory.host } else { memory.total() };
    let needed = training + shares.snapshot(config, ema);
    // A shell's limit is one of addresses, of which libraries reserve more than they use.
    let memory = machine::host_memory();
    let is_of_addresses = memory.limit.as_ref().is_some_and(|limit| limit.scope == Scope::Process);
    let reserved = if is_of_addresses { machine::GEMM_ROOM } else { 0.0 };
    beside as f64 * needed <= USABLE * memory.reachable() - reserved
}

/// What people call a model of this shape.
pub fn model_name(config: &ModelConfig) -> String {
    let ModelConfig { layers, width, heads, .. } = *config;
    match Preset::VALUES.iter().find(|preset| preset.value.shape() == (layers, width, heads)) {
        Some(preset) if preset.value == Preset::Tiny => "the tiny model".to_owned(),
        Some(preset) => format!("iGPT-{}", preset.name.to_uppercase()),
        None => format!("a model of {layers} layers × {width}"),
    }
}

fn check(owner: String, available: f64, work: &str, needed: f64, remedy: &str) -> Result<(), TooLarge> {
    if needed > available {
        return Err(TooLarge { work: work.to_owned(), needed, owner, available, remedy: remedy.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::CpuDevice;
    use crate::model::Preset;

    #[test]
    fn what_fits_is_let_through_and_what_does_not_is_named() {
        let need = |preset| {
            Memory::of(&ModelConfig::preset(preset, 32), Work::Training, 1024.0, Precision::F32).total() / GIBIBYTE
        };
        // The requirement: iGPT-S with one image stays under 4 GiB.
        assert!(need(Preset::S) < 4.0);
        check("this machine".into(), 4.0 * GIBIBYTE, "training", need(Preset::S) * GIBIBYTE, "").unwrap();
        let refused =
            check("the GPU".into(), 24.0 * GIBIBYTE, "training", need(Preset::Xl) * GIBIBYTE, "try --model s")
                .unwrap_err();
        let message = refused.to_string();
        assert!(message.contains("the GPU has 24.0 GiB") && message.contains("--model s"), "{message}");
    }
    #[test]
    fn a_batch_to_draw_is_halved_until_it_fits() {
        let device = CpuDevice::new(Some(1)).unwrap();
        let batch = |preset, most| drawing_batch(&device, &ModelConfig::preset(preset, 32), Precision::F32, 1, most);
        assert_eq!(batch(Preset::Tiny, 1), 1);
        assert_eq!(batch(Preset::Tiny, 64), 64);
        // Petabytes fit nowhere.
        let found = batch(Preset::Tiny, 1 << 30);
        assert!(found.is_power_of_two() && (64..1 << 30).contains(&found), "{found}");
    }
}
