//! Mutants of our own kernels: each one must be found, by the op table's own comparison, by the simulator's checks, or by
//! its counts. A test that does not find them would not find ours. Where a mutant is equivalent, its row says why, and its results must
//! have the bits of the shipped kernel's.
//!
//! Each mutant is a replacement in the code of a kernel. It runs in a process of its own: [`planted_bugs_are_found`] starts
//! this program again for each, with the mutant's name in `IGPT_MUTANT`.
//!
//! Each of them is compiled, which takes minutes: a run plants one of [`SHARE`], another one than the last; `cargo xtask test --all`
//! plants all of them.

mod compile;
mod table;
mod tokens;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use cudasim::Simulator;
use igpt_engine::device::CudaDevice;
use igpt_engine::device::cuda::kernel::{KERNELS, plant};
use nvcc::Nvcc;
use rayon::prelude::*;
use test_support::{in_turn, skipped};

use crate::ops::support::Tested;
use crate::{far, process};
use table::{Found, Mutant, all};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The variable that names the mutant of this process, or of the mutants whose checks it runs on the shipped kernels.
const NAME: &str = "IGPT_MUTANT";

/// The variable that names the fatbin with the bug in it.
const IMAGE: &str = "IGPT_MUTANT_IMAGE";

/// The variable with the beginning of the names of the mutants that are planted, all of them, where it is set.
const CHOSEN: &str = "IGPT_TEST_MUTANTS";

/// A run plants one mutant of so many: of every module, since the tables stand one behind the other.
const SHARE: usize = 45;

/// Of all mutants in every run, other than the search below: who changes a kernel learns at once whose code is no longer there.
#[test]
fn every_bug_has_its_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lost = |mutant: &Mutant| Some(format!("{}: {}", mutant.name, compile::planted(root, mutant).err()?));
    let lost: Vec<String> = all().filter_map(lost).collect();
    assert!(lost.is_empty(), "{}", lost.join("\n"));
}

#[test]
fn planted_bugs_are_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(nvcc) = nvcc::find(root, |_, _| ()).unwrap().filter(|_| !KERNELS.is_empty()) else {
        skipped("bugs planted in kernels: no CUDA compiler; `cargo xtask toolkit` gets it (no GPU needed)");
        return;
    };
    let far = far::host_can();
    if !far {
        skipped("bugs planted in far offsets: the host promises no memory beyond its own");
    }

    let mut mutants: Vec<_> = match std::env::var(CHOSEN) {
        Ok(beginning) => all().filter(|mutant| mutant.name.starts_with(&beginning)).collect(),
        Err(_) => in_turn(all(), SHARE).collect(),
    };
    let first = mutants.first().unwrap_or_else(|| panic!("no mutant's name begins as {CHOSEN} says"));
    println!("{} of {} mutants, from {} on", mutants.len(), all().count(), first.name);
    mutants.retain(|mutant| far || !mutant.is_far());

    // Shipped kernels: every check once, however many mutants it is to find, those of a module in one process.
    let mut checks: BTreeMap<_, BTreeMap<_, &str>> = BTreeMap::new();
    for mutant in &mutants {
        let check = (mutant.check as usize, mutant.precision as u8);
        checks.entry((mutant.module, mutant.counts())).or_default().insert(check, mutant.name);
    }
    let sound = checks.into_values().map(|checks| Job::Sound(checks.into_values().collect()));
    let jobs: Vec<_> = sound.chain(mutants.into_iter().map(Job::Mutant)).collect();

    let failures: Vec<String> = jobs.into_par_iter().filter_map(|job| job.run(&nvcc, root).err()).collect();
    assert!(failures.is_empty(), "{} failed:\n\n{}", failures.len(), failures.join("\n\n"));
}

/// What a process is started for.
enum Job {
    /// The checks of these mutants, on the shipped kernels.
    Sound(Vec<&'static str>),
    Mutant(&'static Mutant),
}

impl Job {
    fn run(self, nvcc: &Nvcc, root: &Path) -> std::result::Result<(), String> {
        let (name, names, image) = match self {
            Self::Sound(names) => ("mutants::sound_kernels", names.join("\n"), None),
            Self::Mutant(mutant) => {
                let image = compile::compile(nvcc, root, mutant);
                let image = image.map_err(|error| format!("{}:\n{error}", mutant.name))?;
                ("mutants::one_planted_bug", mutant.name.to_owned(), Some(image))
            }
        };
        let outcome = process::run(name, |command| {
            if let Some(image) = image {
                command.env(IMAGE, image);
            }
            command.env(NAME, &names)
        });
        outcome.map_err(|why| format!("{name} {names}:\n{why}"))
    }
}

/// The mutants that this process was started for, and the simulator.
fn named() -> (Vec<&'static Mutant>, Simulator) {
    let names = std::env::var(NAME).expect("named by planted_bugs_are_found");
    let find = |name: &str| all().find(|mutant| mutant.name == name).expect("a mutant of the table");
    let simulator = test_support::devices::strict();
    let mutants: Vec<_> = names.lines().map(find).collect();
    let counts = mutants[0].counts();
    // Copies that complete late, and lanes in no order but that of their barriers.
    let options = if counts { "counters=on" } else { "completion=late,lane_races=on" };
    simulator.set_options(None, options).unwrap();
    simulator.set_options(None, far::MEMORY).unwrap();
    (mutants, simulator)
}

#[test]
#[ignore = "planted_bugs_are_found runs it for each mutant"]
fn one_planted_bug() {
    let (mutants, simulator) = named();
    let mutant = mutants[0];
    let shipped = matches!(mutant.found, Found::Equivalent(_)).then(|| check(mutant, &simulator));
    plant(mutant.module, std::fs::read(std::env::var_os(IMAGE).expect("a mutant has an image")).unwrap());
    let seen = check(mutant, &simulator);
    judge(mutant, &seen, shipped.as_ref());
}

#[test]
#[ignore = "planted_bugs_are_found runs it for each module"]
fn sound_kernels() {
    let (mutants, simulator) = named();
    for mutant in mutants {
        let seen = check(mutant, &simulator);
        assert!(seen.nothing(), "the shipped kernels of {}: {seen:#?}", mutant.name);
    }
}

/// What a check of a mutant saw.
#[derive(Debug)]
struct Seen {
    /// Of the comparison that failed.
    message: Option<String>,
    reports: String,
    conflicts: u64,
    /// Of all results.
    digest: u64,
}

impl Seen {
    fn nothing(&self) -> bool {
        self.message.is_none() && self.reports.is_empty() && self.conflicts == 0
    }
}

fn check(mutant: &Mutant, simulator: &Simulator) -> Seen {
    let device = Tested::new(CudaDevice::poisoned(0, mutant.precision).unwrap(), mutant.precision);
    let outcome = catch_unwind(AssertUnwindSafe(|| (mutant.check)(&device)));
    let message = outcome.err().map(|payload| match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(payload) => payload.downcast_ref::<&str>().copied().unwrap_or("a panic without words").to_owned(),
    });

    let reports = simulator.take_reports(None);
    let conflicts = simulator.take_counters(None).lines().map(conflicts).sum::<u64>();
    let digest = device.digest();
    // Its context may be lost.
    std::mem::forget(device);
    Seen { message, reports, conflicts, digest }
}

/// Whether what was to be found was.
fn judge(mutant: &Mutant, seen: &Seen, shipped: Option<&Seen>) {
    let Seen { message, reports, conflicts, .. } = seen;
    let found = match mutant.found {
        Found::Values(text) => reports.is_empty() && message.as_ref().is_some_and(|message| message.contains(text)),
        Found::Report(texts) => texts.iter().any(|text| reports.contains(text)) && message.is_some(),
        Found::Elsewhere => {
            let reported = ["out of bounds", "that nothing was written to"].iter().any(|text| reports.contains(text));
            message.as_ref().is_some_and(|message| reported || reports.is_empty() && message.contains("off by"))
        }
        Found::Conflicts => reports.is_empty() && message.is_none() && *conflicts > 0,
        Found::Equivalent(_) => seen.nothing() && shipped.is_some_and(|shipped| shipped.digest == seen.digest),
    };
    assert!(found, "expected {:?}, got {seen:#?} (shipped: {shipped:#?})", mutant.found);
}

/// Bank conflicts of a launch, whose counts are a line of JSON.
fn conflicts(line: &str) -> u64 {
    let counts: serde_json::Value = serde_json::from_str(line).unwrap();
    let counts = counts.get("counts").unwrap_or(&counts);
    ["load", "store", "atomic"].iter().map(|way| counts["shared"][way]["conflicts"].as_u64().unwrap()).sum()
}
