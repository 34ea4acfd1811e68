//! What the simulator counts of each kernel at its reference shape, beside the least that the kernel could do.

use std::collections::BTreeMap;

use igpt_engine::device::{CudaDevice, Precision};
use serde_json::Value as Json;

use crate::reference_shapes::{Least, cases};

/// Bytes of a sector.
const SECTOR: usize = 32;

/// Counts of one launch, and the least that the kernel's contract asks for. Memory is in sectors of 32 bytes.
#[derive(Clone, Debug)]
pub struct Counts {
    /// The launch's shape in words.
    pub shape: String,
    /// Sectors of global memory that loads and atomics touch, before any cache.
    pub read: u64,
    /// The operands that are read, each once.
    pub least_read: u64,
    /// Sectors of global memory that stores and atomics touch.
    pub written: u64,
    /// The results, each once.
    pub least_written: u64,
    /// How many times the banks of shared memory served a warp.
    pub wavefronts: u64,
    /// How many of them because lanes wanted different words of one bank.
    pub conflicts: u64,
    /// Operations on tensor cores.
    pub flops: u64,
    /// Operations of the GEMMs themselves.
    pub least_flops: u64,
}

/// The counts of each kernel whose name is wanted, by name. Sets the simulator's options for the whole process.
///
/// # Panics
/// When the simulator cannot be loaded, or a case does not launch each of its kernels exactly once.
pub fn measure(wanted: impl Fn(&str) -> bool) -> BTreeMap<String, Counts> {
    let simulator = cudasim::install().expect("cargo has built cudasim beside the tests");
    simulator.set_options(None, "counters=on,races=off,uninitialised=off,registers=off").unwrap();

    let mut all = BTreeMap::new();
    for (precision, card) in [
        (Precision::F32, None),
        (Precision::Bf16, None),
        (Precision::Bf16, Some("b200")),
        (Precision::Bf16, Some("a100")),
        (Precision::Bf16, Some("rtx4090")),
    ] {
        let of_card = cases(precision, 1).into_iter().filter(|case| case.card == card);
        let measured: Vec<_> = of_card.filter(|case| case.kernels.iter().any(|(kernel, _)| wanted(kernel))).collect();
        if measured.is_empty() {
            continue;
        }

        simulator.set_options(None, &format!("card={}", card.unwrap_or("h100"))).unwrap();
        let device = CudaDevice::new(0, precision).unwrap();
        for case in measured {
            // How often blocks look whether others are done is another number with each schedule of the host's threads.
            let waits = case.kernels.iter().any(|(kernel, _)| kernel == "linear_layernorm_sm90");
            simulator.set_options(None, &format!("threads={}", u32::from(waits))).unwrap();
            simulator.take_counters(None);
            (case.run)(&device);
            device.synchronize().unwrap();

            let counters = simulator.take_counters(None);
            let launches: Vec<Json> = counters.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            for (kernel, least) in case.kernels {
                let found: Vec<_> = launches.iter().filter(|launch| launch["kernel"] == kernel.as_str()).collect();
                let [launch] = found[..] else {
                    panic!("{kernel} at {} was launched {} times, not once", case.shape, found.len())
                };
                let grid = [0, 1, 2].map(|index| launch["grid"][index].as_u64().unwrap() as usize);
                all.entry(kernel).or_insert_with(|| of_launch(&case.shape, &launch["counts"], least(grid)));
            }
        }
    }
    all
}

fn of_launch(shape: &str, counts: &Json, least: Least) -> Counts {
    let sum = |space: &str, ways: &[&str], what: &str| -> u64 {
        ways.iter().map(|way| counts[space][way][what].as_u64().unwrap()).sum()
    };
    let all = ["load", "store", "atomic"];
    // What asynchronous copies and `wgmma` move is counted apart.
    let copied = |space: &str, ways: &[&str], what: &str| -> u64 {
        ways.iter().map(|way| counts["bulk"][space][way][what].as_u64().unwrap()).sum()
    };
    let multiplied: u64 = ["a", "b"].iter().map(|of| counts["wgmma"][of]["wavefronts"].as_u64().unwrap()).sum();
    let sectors = |bytes: usize| bytes.div_ceil(SECTOR) as u64;
    Counts {
        shape: shape.to_owned(),
        read: sum("global", &["load", "atomic"], "sectors") + copied("global", &["load", "atomic"], "sectors"),
        least_read: sectors(least.read),
        written: sum("global", &["store", "atomic"], "sectors") + copied("global", &["store", "atomic"], "sectors"),
        least_written: sectors(least.written),
        wavefronts: sum("shared", &all, "wavefronts") + copied("shared", &all, "lines") + multiplied,
        conflicts: sum("shared", &all, "conflicts"),
        flops: counts["tensor"]["flops"].as_u64().unwrap(),
        least_flops: least.flops as u64,
    }
}
