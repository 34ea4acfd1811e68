//! Bugs planted in our own kernels: each must be found, by the op table's own comparison, by the simulator's checks, or by
//! its counts. A test that does not find them would not find ours.
//!
//! Each bug is a replacement in the code of a kernel. It runs in a process of its own, because a fault takes the context with
//! it: [`every_planted_bug_is_found`] starts this program again for each, with the bug's name in `IGPT_MUTANT`.

mod build;
#[path = "../../build/nvcc.rs"]
#[allow(dead_code)]
mod nvcc;
mod table;
mod tokens;

macro_rules! ops {
    ($($path:literal $name:ident)*) => {
        $(#[path = $path]
        #[allow(dead_code)]
        mod $name;)*
    };
}
ops! {
    "../ops/adam.rs" adam
    "../ops/attention.rs" attention
    "../ops/cross_entropy.rs" cross_entropy
    "../ops/embedding.rs" embedding
    "../ops/layernorm.rs" layernorm
    "../ops/linear.rs" linear
    "../ops/mlp.rs" mlp
    "../ops/reference.rs" reference
    "../ops/support.rs" support
}

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Mutex;

use igpt_engine::device::cuda::kernel::{KERNELS, plant};
use igpt_engine::device::{CudaDevice, Precision};

use table::{Found, MUTANTS, Mutant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The variable that names the bug of this process.
const NAME: &str = "IGPT_MUTANT";

/// Put before a bug's name: the same check of the kernel as it is shipped, which must find nothing.
const SOUND: &str = "sound ";

#[test]
fn every_planted_bug_is_found() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(nvcc) = nvcc::find(root).unwrap().filter(|_| !KERNELS.is_empty()) else {
        // Past the test runner, which keeps to itself what a test prints.
        let _ = std::io::stderr().write_all(
            b"\nSKIPPED: bugs planted in kernels: no CUDA compiler; `cargo xtask toolkit` gets it (no GPU needed)\n",
        );
        return;
    };
    let jobs = MUTANTS.iter().flat_map(|mutant| [(mutant, false), (mutant, true)]);
    let jobs = Mutex::new(jobs);
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(8);
    let failures = std::thread::scope(|scope| {
        let work = || {
            let mut failures = Vec::new();
            loop {
                let next = jobs.lock().unwrap().next();
                let Some((mutant, sound)) = next else { return failures };
                let built = if sound { Ok(None) } else { build::compile(&nvcc, root, mutant).map(Some) };
                let outcome = built.map_err(|error| error.to_string()).and_then(|image| {
                    let mut child = Command::new(std::env::current_exe().unwrap());
                    child.args(["--exact", "one_planted_bug", "--ignored", "--nocapture"]);
                    child.env(NAME, format!("{}{}", if sound { SOUND } else { "" }, mutant.name));
                    if let Some(image) = image {
                        child.env("IGPT_MUTANT_IMAGE", image);
                    }
                    let output = child.output().unwrap();
                    let said = [output.stdout, output.stderr].concat();
                    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said).into_owned()) }
                });
                if let Err(why) = outcome {
                    failures.push(format!("{}{}:\n{why}", if sound { SOUND } else { "" }, mutant.name));
                }
            }
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(failures.is_empty(), "{} failed:\n\n{}", failures.len(), failures.join("\n\n"));
}

#[test]
#[ignore = "every_planted_bug_is_found runs it, once for each bug"]
fn one_planted_bug() {
    let name = std::env::var(NAME).expect("named by every_planted_bug_is_found");
    let (name, sound) = name.strip_prefix(SOUND).map_or((name.as_str(), false), |name| (name, true));
    let mutant = MUTANTS.iter().find(|mutant| mutant.name == name).expect("a bug of the table");
    if !sound {
        plant(mutant.module, std::fs::read(std::env::var_os("IGPT_MUTANT_IMAGE").unwrap()).unwrap());
    }
    let simulator = cudasim::install().expect("cargo has built cudasim beside the tests");
    let counts = matches!(mutant.found, Found::Conflicts);
    simulator.set_options(None, if counts { "counters=on" } else { "landing=late" }).unwrap();
    let device = CudaDevice::poisoned(0, mutant.precision).unwrap();
    if mutant.precision == Precision::Bf16 {
        support::in_bf16();
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| (mutant.check)(&device)));
    let message = outcome.err().map(|payload| match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(payload) => payload.downcast_ref::<&str>().copied().unwrap_or("a panic without words").to_owned(),
    });
    let reports = simulator.take_reports(None);
    let conflicts = simulator.take_counters(None).lines().map(conflicts).sum::<u64>();
    // Its context may be lost.
    std::mem::forget(device);
    judge(mutant, sound, message.as_deref(), &reports, conflicts);
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
