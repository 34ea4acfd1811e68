//! The optimiser in the host's memory: the same bits, in the device memory and the host memory that were planned.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use cudasim::Simulator;
use igpt_engine::data::DataSpec;
use igpt_engine::device::prelude::*;
use igpt_engine::device::select::DeviceKind;
use igpt_engine::device::{AdamStep, CpuDevice, CudaDevice, Precision};
use igpt_engine::model::Objective;
use igpt_engine::plan::{Load, Shares, USABLE, Work};
use igpt_engine::run::checkpoints;
use igpt_engine::train::{Events, Pace, Saved, Session, Settings, StepOutcome};
use test_support::{devices, has_turn, in_turn};

/// A card of the simulator that no other test has.
fn card(ordinal: u32, options: &str) -> Option<Simulator> {
    let simulator = devices::simulator()?;
    simulator.set_options(None, "devices=24").unwrap();
    simulator.set_options(Some(ordinal), options).unwrap();
    Some(simulator)
}

/// A small run.
fn settings(out: &Path, precision: Precision) -> Settings {
    Settings {
        layers: Some(2),
        width: Some(64),
        heads: Some(2),
        resolution: Some(4),
        batch: 4,
        steps: 4,
        lr: 0.01,
        warmup: 0,
        ema: Some(0.9),
        eval_every: 2,
        eval_images: 4,
        sample_every: 0,
        save_every: 2,
        keep: 9,
        device: DeviceKind::Cuda(0),
        precision: Some(precision),
        ..Settings::pretraining(DataSpec::Sample, out).unwrap()
    }
}

/// What a run says.
#[derive(Default)]
struct Notes(Vec<String>);

impl Events for Notes {
    fn started(&mut self, _step: u64, _steps: u64) {}
    fn stepped(&mut self, _outcome: &StepOutcome, _pace: &Pace) {}
    fn evaluated(&mut self, _step: u64, _evaluation: &igpt_engine::eval::Evaluation) {}
    fn saved(&mut self, _saved: &Saved<'_>) {}
    fn sampled(&mut self, _step: u64, _picture: &Path) {}
    fn note(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

fn run<D: igpt_engine::device::Device>(device: &D, settings: &Settings, resume: bool) -> Vec<String> {
    let earlier = resume.then(|| Settings::read(&settings.out).unwrap());
    let session = Session::open(device, settings.clone(), earlier.as_ref(), false).unwrap();
    let mut notes = Notes::default();
    session.run(&mut notes, &AtomicBool::new(false)).unwrap();
    notes.0
}

/// Weights, average and moments after `step`.
fn state(settings: &Settings, step: u64) -> Vec<Vec<u8>> {
    let folder = checkpoints::checkpoint_path(&settings.out, step);
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "safetensors")).collect();
    files.sort();
    assert_eq!(files.len(), 3, "{files:?}");
    files.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// In both precisions, recorded and not, and in runs that move it on the way.
#[test]
fn where_the_optimiser_lies_changes_no_bit() {
    if !has_turn(0, 2) {
        return;
    }
    let Some(_) = card(12, "seed=4") else { return };
    let place = tempfile::tempdir().unwrap();
    for precision in in_turn([Precision::F32, Precision::Bf16], 2) {
        let device = CudaDevice::new(12, precision).unwrap();
        let out = |name: &str| place.path().join(format!("{name} in {precision}"));
        let kept = settings(&out("kept"), precision);
        run(&device, &kept, false);
        let expected = [2, 4].map(|step| state(&kept, step));

        for (name, no_graph) in [("moved", false), ("eager", true)] {
            let moved = Settings { out: out(name), no_graph, offload_optimizer: true, ..kept.clone() };
            run(&device, &moved, false);
            assert!([2, 4].map(|step| state(&moved, step)) == expected, "{name} in {precision}");
        }
        // Another number of steps was planned, so the rate of the first two is another: compare runs of the same plan.
        let same = Settings { out: out("same"), steps: 2, schedule: kept.schedule, ..kept.clone() };
        run(&device, &same, false);
        run(&device, &Settings { steps: 4, ..same.clone() }, true);
        let expected = state(&same, 4);
        for first in [true, false] {
            let begun = Settings {
                out: out(&format!("begun {first}")),
                steps: 2,
                schedule: kept.schedule,
                offload_optimizer: first,
                ..kept.clone()
            };
            run(&device, &begun, false);
            run(&device, &Settings { steps: 4, offload_optimizer: !first, ..begun.clone() }, true);
            assert!(state(&begun, 4) == expected, "moved on the way in {precision}");
        }
        drop(device);
    }
}

/// A load with its optimiser on the host, or on the device.
fn placed(load: Load<'_>, offload: bool) -> Load<'_> {
    Load { shares: Shares { offload, ..Shares::ALONE }, ..load }
}

/// Device memory and host memory of a run against what `plan` counts, to 3 %; the first is what it was less what the second is.
#[test]
fn a_run_takes_what_is_planned_on_both_sides() {
    let place = tempfile::tempdir().unwrap();
    let cases = [
        (13, Precision::Bf16, [2, 64, 16], true),
        (14, Precision::F32, [3, 128, 8], false),
        (15, Precision::Bf16, [1, 192, 6], false),
    ];
    for (ordinal, precision, [layers, width, batch], ar) in in_turn(cases, 3) {
        let Some(_) = card(ordinal, "races=off") else { return };
        let device = CudaDevice::new(ordinal as usize, precision).unwrap();
        let objective = if ar { Objective::Ar } else { Objective::Bert };
        let settings = Settings {
            layers: Some(layers),
            width: Some(width),
            batch,
            objective,
            mask_rate: (!ar).then_some(0.5),
            ema: ar.then_some(0.9),
            sample_every: if ar { 2 } else { 0 },
            offload_optimizer: true,
            ..settings(&place.path().join(format!("{ordinal}")), precision)
        };
        let session = Session::open(&device, settings.clone(), None, false).unwrap();
        let before = device.memory_use().host;
        session.run(&mut Notes::default(), &AtomicBool::new(false)).unwrap();
        let config = igpt_engine::checkpoint::load_config(&checkpoints::checkpoint_path(&settings.out, 4)).unwrap();
        let load = Load::new(&config, Work::Training, batch, config.positions, precision);
        let load = Load { ema: settings.ema.is_some(), eval_images: Some(batch), ..load };
        let [planned, kept] = [true, false].map(|offload| placed(load, offload).on_gpu().unwrap());
        let taken = device.memory_use();
        let near = |what: &str, planned: f64, taken: f64| {
            println!("{what}: {planned} planned, {taken} taken: {:+.2} %", 100.0 * (planned / taken - 1.0));
            assert!((planned / taken - 1.0).abs() <= 0.03, "{what}: {planned} planned, {taken} taken");
        };
        near("device", planned.total(), taken.allocated as f64);
        near("host", planned.host, before as f64);
        assert_eq!((taken.host, kept.host), (0, 0.0), "the run has ended");
        near("moved", planned.host, kept.total() - planned.total());
        assert!(planned.moments == 0.0 && planned.host > 0.25 * kept.total(), "{planned:?} {kept:?}");
    }
}

/// `--fit` moves the optimiser where that is faster than what fits on the card, says so, and keeps it so.
#[test]
fn fit_moves_the_optimiser_where_nothing_else_fits() {
    let place = tempfile::tempdir().unwrap();
    let shape = settings(&place.path().join("shape"), Precision::Bf16);
    let config = igpt_engine::model::ModelConfig {
        layers: 2,
        width: 64,
        heads: 2,
        ..igpt_engine::model::ModelConfig::preset(igpt_engine::model::Preset::Tiny, 4)
    };
    let load = Load::new(&config, Work::Training, 1, config.positions, Precision::Bf16);
    let load = Load { ema: true, recompute: igpt_engine::tape::Recompute::Block, ..load };
    let [kept, moved] = [false, true].map(|offload| placed(load, offload).on_gpu().unwrap().total());
    let room = (kept + moved) / 2.0;
    let Some(_) = card(16, &format!("races=off,memory={}", (room / USABLE) as u64)) else { return };
    let device = CudaDevice::new(16, Precision::Bf16).unwrap();
    let settings = Settings { out: place.path().join("run"), fit: true, sample_every: 0, ..shape };
    let notes = run(&device, &settings, false);
    assert!(notes[0].contains("--offload-optimizer (") && notes[0].contains("in the host's memory"), "{notes:?}");
    assert!(Settings::read(&settings.out).unwrap().offload_optimizer);
}

/// Where the host gives no more, the error says what to do; a CPU has nowhere to move anything to.
#[test]
fn a_host_without_room_and_a_cpu_say_so() {
    let place = tempfile::tempdir().unwrap();
    if card(17, "pinned=100000").is_some() {
        let device = CudaDevice::new(17, Precision::Bf16).unwrap();
        let settings = Settings { offload_optimizer: true, ..settings(&place.path().join("refused"), Precision::Bf16) };
        let error = Session::open(&device, settings, None, false).err().expect("no memory to lock").to_string();
        for part in [
            "of the host's memory cannot be page-locked",
            "cuMemHostAlloc",
            "leave --offload-optimizer out",
            "ulimit -l",
        ] {
            assert!(error.contains(part), "{part} is not in: {error}");
        }
    }
    let device = CpuDevice::new(Some(1)).unwrap();
    let of_cpu = |name: &str, offload_optimizer| Settings {
        offload_optimizer,
        device: DeviceKind::Cpu,
        ..settings(&place.path().join(name), Precision::F32)
    };
    let (plain, moved) = (of_cpu("plain", false), of_cpu("moved", true));
    assert!(!run(&device, &plain, false).iter().any(|note| note.contains("--offload-optimizer")));
    let notes = run(&device, &moved, false);
    assert!(notes.iter().any(|note| note.contains("--offload-optimizer changes nothing on the CPU")), "{notes:?}");
    assert!(state(&moved, 4) == state(&plain, 4));
}

/// The ops that reach the host's memory, one by one, against the same tensors on the device.
#[test]
fn ops_read_and_write_the_hosts_memory() {
    let Some(_) = card(18, "seed=2") else { return };
    const COUNT: usize = 40_003;
    let values =
        |salt: usize| -> Vec<f32> { (0..COUNT).map(|at| ((at * 7 + salt) % 101) as f32 / 50.0 - 1.0).collect() };
    for precision in [Precision::F32, Precision::Bf16] {
        let device = CudaDevice::poisoned(18, precision).unwrap();
        let run = |on_host: bool| {
            let make = |salt| match on_host {
                true => device.upload_to_host(&[COUNT], &values(salt)).unwrap(),
                false => device.upload(&[COUNT], &values(salt)).unwrap(),
            };
            let zeros = || if on_host { device.zeros_on_host(&[COUNT]) } else { device.zeros(&[COUNT]) };
            let (mut parameter, mut first, mut second) = ([make(1)], [zeros().unwrap()], [zeros().unwrap()]);
            let gradient = [device.upload(&[COUNT], &values(5)).unwrap()];
            let step = AdamStep { learning_rate: 0.1, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, step: 1 };
            for step in [step, AdamStep { step: 2, ..step }] {
                device.adam(&mut parameter, &gradient, &mut first, &mut second, step, None).unwrap();
            }

            // Copied, rounded, added up, averaged, downloaded.
            let mut copied = device.zeros(&[COUNT]).unwrap();
            device.copy(&parameter[0], 3, &mut copied, 5, COUNT - 7).unwrap();
            let mut narrow = device.zeros_narrow(&[COUNT]).unwrap();
            device.round(&parameter[0], &mut narrow).unwrap();
            let mut average = device.upload(&[COUNT], &values(9)).unwrap();
            device.ema(&mut average, &parameter[0], 0.25, &device.zeros(&[3]).unwrap()).unwrap();
            let norm = device.global_norm(&parameter).unwrap();
            assert_eq!(device.memory_use().host > 0, on_host);
            let tensors = [&parameter[0], &first[0], &second[0], &copied, &narrow, &average, &norm];
            tensors.map(|tensor| device.download(tensor).unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>())
        };
        assert!(run(true) == run(false), "{precision}");
        assert_eq!(device.memory_use().host, 0);
    }
}
