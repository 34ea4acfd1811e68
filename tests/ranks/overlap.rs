//! Exchanges beside what is computed: the same bits as one after the other, whatever the order in which a device does what nothing
//! orders, and another run where a wait is missing.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use igpt_engine::comm::{self, Launch, Reduction};
use igpt_engine::data::DataSpec;
use igpt_engine::device::cuda::{Wait, plant_missing};
use igpt_engine::device::select::DeviceKind;
use igpt_engine::device::{CudaDevice, Precision};
use igpt_engine::train::{Session, Settings, Silent, Together};
use test_support::{has_turn, in_turn};

use crate::{Libraries, Rank, Ranks, numbers, place, port, state};

/// Three blocks, so that one is exchanged while another is computed.
const DEEP: [&str; 6] = ["--layers", "3", "--steps", "3", "--eval-every", "2"];

/// One of three runs of the tests looks at the library's sums, the others at exact ones.
#[test]
fn overlap_changes_no_bit() {
    if !has_turn(0, 2) {
        return;
    }
    let Some(libraries) = Libraries::new() else { return };
    in_turn([exact_sums, exact_sums, sums_of_the_library], 3).for_each(|check| check(&libraries));
}

fn exact_sums(libraries: &Libraries) {
    let (_folder, run) = place();
    let exact = [&DEEP[..], &["--reduction", "exact", "--ema", "0.9", "--eval-images", "2"]].concat();
    libraries.train(1, &run("alone"), &exact, &[]).succeed();
    let expected = (state(&run("alone"), 3), numbers(&run("alone")));
    let cases = [
        (2, "0", "--no-overlap=false"),
        (2, "1", "--no-overlap"),
        (2, "1", "--no-overlap=false"),
        (3, "2", "--no-overlap=false"),
        (3, "2", "--no-graph"),
    ];
    for (seed, (ranks, level, more)) in in_turn(cases.into_iter().enumerate(), 5) {
        let name = format!("{ranks} at {level} {more}");
        let options = format!("stop=warning,seed={seed},streams={}", ["random", "late", "eager"][seed % 3]);
        let flags = [&exact[..], &["--zero", level, more]].concat();
        libraries.train(ranks, &run(&name), &flags, &[("CUDASIM", &options)]).succeed();
        assert_eq!(numbers(&run(&name)), expected.1, "{name}");
        assert!(state(&run(&name), 3) == expected.0, "{name}: other weights, averages or moments");
    }
}

/// With several micro-batches of each rank in one round.
fn sums_of_the_library(libraries: &Libraries) {
    let (_folder, run) = place();
    for level in in_turn(["0", "2"], 2) {
        let [apart, beside] = ["in turn", "beside"].map(|name| run(&format!("{name} {level}")));
        let flags = |more: &'static str| [&DEEP[..], &["--zero", level, more]].concat();
        libraries.train(2, &apart, &flags("--no-overlap=true"), &[]).succeed();
        libraries.train(2, &beside, &flags("--no-overlap=false"), &[]).succeed();
        assert!(state(&apart, 3) == state(&beside, 3), "level {level}");
    }
}

/// Set in the processes that are ranks: the level of ZeRO, the wait that they leave out, and the seed.
const AS_RANK: &str = "IGPT_TEST_AS_OVERLAPPING_RANK";

/// Weights and moments that two ranks leave, if they come to an end: of which each leaves out one kind of wait.
fn left(libraries: &Libraries, out: &Path, level: u8, missing: &str, seed: u64) -> Option<Vec<Vec<u32>>> {
    let port = port();
    let start = |rank| {
        let mut command = libraries.rank(&std::env::current_exe().unwrap(), [rank, 2], port);
        command.args(["--exact", "overlap::as_rank", "--nocapture"]).env(AS_RANK, format!("{level} {missing}"));
        command.env("CUDASIM", format!("seed={seed},uninitialised=off")).env("NCCLSIM_TIMEOUT_MS", "30000");
        Rank::start(command.env("IGPT_TEST_OUT", out))
    };
    let ended = Ranks { ranks: (0..2).map(start).collect(), port }.end();
    ended.iter().all(|rank| rank.code == Some(0)).then(|| state(out, 2).into_values().collect())
}

/// Each wait is needed at the levels, of which a run looks at one: without it another model is trained, or none.
#[test]
fn a_missing_wait_trains_another_model() {
    let Some(libraries) = Libraries::new() else { return };
    let (_folder, run) = place();
    for level in in_turn([0, 1, 2], 3) {
        let expected = left(&libraries, &run(&format!("sound {level}")), level, "None", 1);
        assert!(expected.is_some(), "level {level}");
        assert!(left(&libraries, &run(&format!("again {level}")), level, "None", 2) == expected, "level {level}");
        for wait in ["Fork", "Meet", "Join"] {
            // Without ZeRO weights never travel, and gradients have tensors of their own: nothing is met on the way.
            if (level, wait) == (0, "Meet") {
                continue;
            }
            let mut seeds = 1..5;
            let found = seeds
                .any(|seed| left(&libraries, &run(&format!("{wait} {level} {seed}")), level, wait, seed) != expected);
            assert!(found, "level {level} trains the same model without {wait}");
        }
    }
}

/// What a rank does; nothing in an ordinary run of the tests.
#[test]
fn as_rank() {
    let Ok(asked) = std::env::var(AS_RANK) else { return };
    let (level, missing) = asked.split_once(' ').unwrap();
    let missing = [Wait::Fork, Wait::Meet, Wait::Join].into_iter().find(|wait| format!("{wait:?}") == missing);
    plant_missing(missing);
    let launch = Launch::from_environment().unwrap();
    let device = CudaDevice::new(0, Precision::Bf16).unwrap();
    let comm = comm::open(&launch, &device, Reduction::Repeatable, None).unwrap();
    let out = PathBuf::from(std::env::var_os("IGPT_TEST_OUT").unwrap());
    let settings = Settings {
        zero: Some(level.parse().unwrap()),
        layers: Some(3),
        width: Some(64),
        heads: Some(2),
        resolution: Some(4),
        accumulate: 2,
        batch: 1,
        steps: 2,
        lr: 0.01,
        warmup: 0,
        eval_every: 0,
        sample_every: 0,
        save_every: 0,
        device: DeviceKind::Cuda(0),
        precision: Some(Precision::Bf16),
        ..Settings::pretraining(DataSpec::Sample, &out).unwrap()
    };
    let session = Session::open_with(&device, Together::unwatched(comm.into()), settings, None, false).unwrap();
    let stop = AtomicBool::new(false);
    match launch.rank {
        0 => drop(session.run(&mut Silent, &stop).unwrap()),
        _ => drop(session.follow(&stop).unwrap()),
    }
}
