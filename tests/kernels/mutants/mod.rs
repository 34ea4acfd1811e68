//! Mutants of our own kernels: each one must be found, by the op table's own comparison, by the simulator's checks, or by
//! its counts. A test that does not find them would not find ours.
//!
//! Each mutant is a replacement in the code of a kernel. It runs in a process of its own: [`every_planted_bug_is_found`] starts
//! this program again for each, with the mutant's name in `IGPT_MUTANT`.

mod compile;
mod table;
mod tokens;

use std::panic::{AssertUnwindSafe, catch_unwind};

use igpt_engine::device::CudaDevice;
use igpt_engine::device::cuda::kernel::{KERNELS, plant};
use nvcc::Nvcc;
use rayon::prelude::*;
use test_support::skipped;

use crate::ops::support::Tested;
use crate::process;
use table::{Found, MUTANTS, Mutant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The variable that names the mutant of this process.
const NAME: &str = "IGPT_MUTANT";

/// The variable that names the fatbin with the bug in it. Without it the kernel is as it is shipped, and nothing must be found.
const IMAGE: &str = "IGPT_MUTANT_IMAGE";

#[test]
fn every_planted_bug_is_found() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(nvcc) = nvcc::find(root, |_, _| ()).unwrap().filter(|_| !KERNELS.is_empty()) else {
        skipped("bugs planted in kernels: no CUDA compiler; `cargo xtask toolkit` gets it (no GPU needed)");
        return;
    };

    let jobs: Vec<_> = MUTANTS.iter().flat_map(|mutant| [(mutant, false), (mutant, true)]).collect();
    let failures: Vec<String> = jobs
        .into_par_iter()
        .filter_map(|(mutant, sound)| {
            let why = if sound { run(mutant, None) } else { compile_and_run(&nvcc, root, mutant) }.err()?;
            Some(format!("{}{}:\n{why}", if sound { "sound " } else { "" }, mutant.name))
        })
        .collect();
    assert!(failures.is_empty(), "{} failed:\n\n{}", failures.len(), failures.join("\n\n"));
}

fn compile_and_run(nvcc: &Nvcc, root: &std::path::Path, mutant: &Mutant) -> std::result::Result<(), String> {
    let image = compile::compile(nvcc, root, mutant).map_err(|error| error.to_string())?;
    run(mutant, Some(&image))
}

/// Runs [`one_planted_bug`] in a process of its own, on the shipped kernel if there is no image.
fn run(mutant: &Mutant, image: Option<&std::path::Path>) -> std::result::Result<(), String> {
    process::run("mutants::one_planted_bug", |command| {
        if let Some(image) = image {
            command.env(IMAGE, image);
        }
        command.env(NAME, mutant.name)
    })
}

#[test]
#[ignore = "every_planted_bug_is_found runs it, twice for each mutant"]
fn one_planted_bug() {
    let name = std::env::var(NAME).expect("named by every_planted_bug_is_found");
    let mutant = MUTANTS.iter().find(|mutant| mutant.name == name).expect("a mutant of the table");
    let image = std::env::var_os(IMAGE);
    if let Some(image) = &image {
        plant(mutant.module, std::fs::read(image).unwrap());
    }

    let simulator = test_support::devices::strict();
    let counts = matches!(mutant.found, Found::Conflicts);
    simulator.set_options(None, if counts { "counters=on" } else { "completion=late" }).unwrap();
    let device = Tested::new(CudaDevice::poisoned(0, mutant.precision).unwrap(), mutant.precision);
    let outcome = catch_unwind(AssertUnwindSafe(|| (mutant.check)(&device)));
    let message = outcome.err().map(|payload| match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(payload) => payload.downcast_ref::<&str>().copied().unwrap_or("a panic without words").to_owned(),
    });

    let reports = simulator.take_reports(None);
    let conflicts = simulator.take_counters(None).lines().map(conflicts).sum::<u64>();
    // Its context may be lost.
    std::mem::forget(device);
    judge(mutant, image.is_none(), message.as_deref(), &reports, conflicts);
}

/// Whether what was to be found was, and nothing in a sound kernel.
fn judge(mutant: &Mutant, sound: bool, message: Option<&str>, reports: &str, conflicts: u64) {
    let all = format!("{message:?}, {conflicts} bank conflicts, reports:\n{reports}");
    if sound {
        assert!(message.is_none() && reports.is_empty() && conflicts == 0, "the shipped kernel: {all}");
        return;
    }
    let found = match mutant.found {
        Found::Values(text) => reports.is_empty() && message.is_some_and(|message| message.contains(text)),
        Found::Report(texts) => texts.iter().any(|text| reports.contains(text)) && message.is_some(),
        Found::Conflicts => reports.is_empty() && message.is_none() && conflicts > 0,
    };
    assert!(found, "expected {:?}, got {all}", mutant.found);
}

/// Bank conflicts of a launch, whose counts are a line of JSON.
fn conflicts(line: &str) -> u64 {
    let counts: serde_json::Value = serde_json::from_str(line).unwrap();
    let counts = counts.get("counts").unwrap_or(&counts);
    ["load", "store", "atomic"].iter().map(|way| counts["shared"][way]["conflicts"].as_u64().unwrap()).sum()
}
