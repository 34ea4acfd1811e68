//! What a rank takes of a card: as planned at every level, and refused at the start where a card has less.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use igpt_engine::comm::{self, Launch, Reduction};
use igpt_engine::data::DataSpec;
use igpt_engine::device::select::DeviceKind;
use igpt_engine::device::{CudaDevice, Precision};
use igpt_engine::model::{ModelConfig, Preset};
use igpt_engine::plan::{Load, Shares, Work};
use igpt_engine::tape::Recompute;
use igpt_engine::train::{Session, Settings, Silent, Together};
use test_support::{has_turn, in_turn};

use crate::{Ended, Libraries, Rank, Ranks, place, port};

/// Set in the processes that are ranks: level of ZeRO, reduction, what is computed again.
const AS_RANK: &str = "IGPT_TEST_AS_PLANNED_RANK";
/// Layers and width.
const SHAPE: [usize; 2] = [4, 64];
/// Images of a rank's micro-batch.
const IMAGES: usize = 4;

fn config([layers, width]: [usize; 2]) -> ModelConfig {
    ModelConfig { layers, width, heads: 2, ..ModelConfig::preset(Preset::Tiny, 4) }
}

/// Whole runs of two ranks with an average, validations and samples: what the driver was asked for is what is planned, to 3 %.
#[test]
fn what_a_rank_takes_is_what_is_planned() {
    if !has_turn(0, 2) {
        return;
    }
    let Some(libraries) = Libraries::new() else { return };
    let (_folder, run) = place();
    let cases = [
        (0, Reduction::Repeatable, Recompute::None),
        (1, Reduction::Repeatable, Recompute::None),
        (2, Reduction::Repeatable, Recompute::Block),
        (1, Reduction::Exact, Recompute::NormsMlp),
    ];
    for (zero, reduction, recompute) in in_turn(cases, 4) {
        let port = port();
        let start = |rank| {
            let mut command = libraries.rank(&std::env::current_exe().unwrap(), [rank, 2], port);
            command.args(["--exact", "memory::as_rank", "--nocapture"]);
            command.env(AS_RANK, format!("{zero} {reduction} {recompute}"));
            Rank::start(command.env("IGPT_TEST_OUT", run(&format!("{zero} {reduction}"))))
        };
        let ended = Ranks { ranks: (0..2).map(start).collect(), port }.end();
        let taken = |rank: &Ended| {
            let line = rank.output.lines().find_map(|line| line.split_once("bytes taken: "));
            line.unwrap_or_else(|| panic!("{rank:#?}")).1.trim().parse::<f64>().unwrap()
        };

        let config = config(SHAPE);
        let load = Load::new(&config, Work::Training, IMAGES, 16, Precision::Bf16);
        let shares = Shares { ranks: 2, zero, reduction, offload: false };
        let planned = Load { ema: true, recompute, shares, ..load }.on_gpu().unwrap().total();
        for (rank, taken) in ended.iter().map(taken).enumerate() {
            let off = planned / taken - 1.0;
            println!("level {zero}, {reduction}, rank {rank}: {planned} planned, {taken} taken: {:+.2} %", 100.0 * off);
            assert!(off.abs() <= 0.03, "level {zero}, {reduction}: {planned} planned, {taken} taken");
        }
    }
}

/// What a rank does; nothing in an ordinary run of the tests.
#[test]
fn as_rank() {
    let Ok(told) = std::env::var(AS_RANK) else { return };
    let [zero, reduction, recompute] = told.split(' ').collect::<Vec<_>>()[..] else { panic!("{told}") };
    let launch = Launch::from_environment().unwrap();
    let device = CudaDevice::new(0, Precision::Bf16).unwrap();
    let reduction = reduction.parse().unwrap();
    let comm = comm::open(&launch, &device, reduction, None).unwrap();
    let out = std::env::var_os("IGPT_TEST_OUT").unwrap();
    let settings = Settings {
        zero: Some(zero.parse().unwrap()),
        reduction,
        recompute: recompute.parse().unwrap(),
        ema: Some(0.9),
        layers: Some(SHAPE[0]),
        width: Some(SHAPE[1]),
        heads: Some(2),
        resolution: Some(4),
        accumulate: 2,
        batch: IMAGES,
        steps: 3,
        eval_every: 2,
        eval_images: 10,
        sample_every: 3,
        save_every: 2,
        device: DeviceKind::Cuda(0),
        precision: Some(Precision::Bf16),
        ..Settings::pretraining(DataSpec::Sample, Path::new(&out)).unwrap()
    };
    let session = Session::open_with(&device, Together::unwatched(comm.into()), settings, None, false).unwrap();
    let never = AtomicBool::new(false);
    match launch.rank {
        0 => drop(session.run(&mut Silent, &never).unwrap()),
        _ => drop(session.follow(&never).unwrap()),
    }
    println!("bytes taken: {}", device.memory_use().allocated);
}

/// Cards that are a fifth too small refuse the run of two ranks before anything is made, and say what would take less; the same run
/// fits cards that are a fifth larger.
#[test]
fn a_run_that_does_not_fit_a_rank_is_refused_at_the_start() {
    let Some(libraries) = Libraries::new() else { return };
    let (_folder, run) = place();
    for zero in 1..=2 {
        let config = config([1, 64]);
        let shares = Shares { ranks: 2, zero, reduction: Reduction::Repeatable, offload: false };
        let load = Load { shares, ..Load::new(&config, Work::Training, 1, 16, Precision::Bf16) };
        let planned = load.on_gpu().unwrap().total();
        for (share, fits) in [(0.8, false), (1.2, true)] {
            let name = format!("{zero} in {share}");
            let card = format!("stop=warning,seed=3,memory={}", (share * planned) as u64);
            let (level, variables) = (zero.to_string(), [("CUDASIM", card.as_str())]);
            let ended = libraries.train(2, &run(&name), &["--steps", "2", "--zero", &level], &variables).end();
            if fits {
                assert!(ended.iter().all(|rank| rank.code == Some(0)), "{name}: {ended:#?}");
                continue;
            }
            for rank in &ended {
                let by = format!("on each of 2 ranks at --zero {zero}");
                let parts = ["needs", by.as_str(), "the GPU has", "--recompute block", "a smaller --model"];
                assert!(
                    rank.code == Some(2) && parts.iter().all(|part| rank.error.contains(part)),
                    "{name}: {rank:#?}"
                );
                assert_eq!(rank.error.contains("try --zero 2"), zero == 1, "{name}: {rank:#?}");
            }
            assert!(!run(&name).exists(), "{name}: nothing should have been made");
        }
    }
}
