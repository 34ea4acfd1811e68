//! Levels of ZeRO: the same run in less memory, and checkpoints that all ranks write.

use std::path::Path;
use std::process::Command;

use igpt_engine::comm::{self, Launch, Reduction};
use igpt_engine::data::DataSpec;
use igpt_engine::device::select::DeviceKind;
use igpt_engine::device::{CudaDevice, Precision};
use igpt_engine::train::{Session, Settings, Together};
use test_support::{has_turn, in_turn};

use crate::{Libraries, Rank, Ranks, engine, numbers, place, port, state, tensor_files};

/// The levels on two to four ranks, one a run of the tests, with an average, against one rank: the same bits of weights, averages and
/// moments, losses and norms. A run that changes its ranks and levels on the way is the same too.
#[test]
fn exact_levels_are_the_same_run() {
    if !has_turn(1, 2) {
        return;
    }
    let Some(libraries) = Libraries::new() else { return };
    let (_folder, run) = place();
    let flags =
        |steps: &'static str| ["--reduction", "exact", "--ema", "0.9", "--global-batch", "12", "--steps", steps];
    libraries.train(1, &run("alone"), &flags("3"), &[]).succeed();
    let expected = (state(&run("alone"), 3), numbers(&run("alone")));
    assert_eq!(expected.1.len(), 3);

    for (ranks, level) in in_turn([(2, "0"), (3, "2"), (4, "1")], 3) {
        let name = format!("{ranks} at {level}");
        libraries.train(ranks, &run(&name), &[&flags("3")[..], &["--zero", level]].concat(), &[]).succeed();
        assert_eq!(numbers(&run(&name)), expected.1, "{name}");
        assert!(state(&run(&name), 3) == expected.0, "{name}: other weights, averages or moments");
    }

    for (ranks, level, steps) in [(2, "2", "1"), (3, "1", "2"), (1, "0", "3")] {
        let flags = [&flags(steps)[..], &["--resume", "--zero", level]].concat();
        libraries.train(ranks, &run("elastic"), &flags, &[]).succeed();
        let files =
            tensor_files(&run("elastic").join(format!("checkpoints/step-{:08}", steps.parse::<u64>().unwrap())));
        // Weights, average and moments, in a file of each rank.
        assert_eq!(files.len(), 3 * ranks, "{files:?}");
    }
    assert_eq!(numbers(&run("elastic")), expected.1);
    assert!(state(&run("elastic"), 3) == expected.0, "2, 3 and 1 ranks at other levels train other weights");
}

/// A fine-tuning, which saves its best weights on the way, and a BERT.
#[test]
fn other_objectives_too() {
    if !has_turn(0, 2) {
        return;
    }
    let Some(libraries) = Libraries::new() else { return };
    let (_folder, run) = place();
    let exact = ["--reduction", "exact", "--steps", "2", "--objective", "bert"];
    libraries.train(1, &run("alone"), &exact, &[]).succeed();
    libraries.train(2, &run("two"), &[&exact[..], &["--zero", "2"]].concat(), &[]).succeed();
    assert!(state(&run("two"), 2) == state(&run("alone"), 2), "two ranks train another BERT");

    let tune = |ranks: usize, name: &str, more: &[&str]| {
        let port = port();
        let start = |rank| {
            let mut command = libraries.rank(engine(), [rank, ranks], port);
            command.args(["finetune", "--checkpoint"]).arg(run("alone")).args(["--device", "cuda", "--batch", "1"]);
            command.args(["--global-batch", "2", "--steps", "2", "--eval-every", "1", "--eval-images", "3"]);
            command.args(["--save-every", "0", "--reduction", "exact", "--no-tensorboard"]).args(more);
            Rank::start(command.arg("--out").arg(run(name)))
        };
        Ranks { ranks: (0..ranks).map(start).collect(), port }.succeed()
    };
    tune(1, "tuned", &[]);
    tune(2, "tuned by two", &["--zero", "1"]);
    assert_eq!(numbers(&run("tuned by two")), numbers(&run("tuned")));
    assert!(state(&run("tuned by two"), 2) == state(&run("tuned"), 2), "two ranks tune another model");
    assert_eq!(tensor_files(&run("tuned by two").join("best")).len(), 2);
}

/// What two ranks have written is read as weights, exported for transformers, and refused by name where a file is damaged or gone.
#[test]
fn files_of_several_ranks_are_one_checkpoint() {
    let Some(libraries) = Libraries::new() else { return };
    let (_folder, run) = place();
    libraries.train(2, &run("two"), &["--steps", "1"], &[]).succeed();
    let folder = run("two").join("checkpoints/step-00000001");
    for file in ["model.safetensors.index.json", "optimizer.safetensors.index.json", "model-00001-of-00002.safetensors"]
    {
        assert!(folder.join(file).is_file(), "{file}");
    }
    let alone = |args: &[&str]| {
        let mut command = Command::new(engine());
        command.args(args).env("NO_COLOR", "1").env_remove("LD_LIBRARY_PATH");
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (from, to) = (folder.to_str().unwrap(), run("exported"));
    assert_eq!(alone(&["export", "--checkpoint", from, "--out", to.to_str().unwrap()]).0, Some(0));
    assert!(to.join("model.safetensors").is_file());

    // A changed byte, then a missing file: of weights and of moments.
    for file in ["model-00002-of-00002.safetensors", "optimizer-00001-of-00002.safetensors"] {
        let path = folder.join(file);
        let sound = std::fs::read(&path).unwrap();
        let mut damaged = sound.clone();
        *damaged.last_mut().unwrap() ^= 1;
        let out = run("two");
        let resume =
            ["train", "--resume", "--out", out.to_str().unwrap(), "--device", "cpu", "--steps", "2", "--threads", "1"];
        for bytes in [Some(damaged), None] {
            match &bytes {
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            let (code, error) = alone(&resume);
            assert!(code == Some(2) && error.contains(file), "{file}: {code:?} {error}");
        }
        std::fs::write(&path, sound).unwrap();
    }
}

/// Set in the processes that are ranks, to the level of ZeRO, and whether their optimiser is on the host.
const AS_RANK: &str = "IGPT_TEST_AS_SHARDED_RANK";

/// Bytes of a rank before its first step at each level, against what the levels are for. In bf16: weights 2 P and 4 P of masters, gradients
/// 4 P, moments 8 P, of which W ranks share out what they may.
#[test]
fn levels_take_less_memory() {
    let Some(libraries) = Libraries::new() else { return };
    let (_folder, run) = place();
    let bytes_at = |(level, offload): (u8, bool)| {
        let port = port();
        let start = |rank| {
            let mut command = libraries.rank(&std::env::current_exe().unwrap(), [rank, 2], port);
            command.args(["--exact", "zero::as_rank", "--nocapture"]).env(AS_RANK, format!("{level} {offload}"));
            Rank::start(command.env("IGPT_TEST_OUT", run(&format!("at {level} {offload}"))))
        };
        let ended = Ranks { ranks: (0..2).map(start).collect(), port }.end();
        let of = |rank: &crate::Ended| {
            let line = rank.output.lines().find_map(|line| line.split_once("bytes in use: "));
            let (device, host) = line.unwrap_or_else(|| panic!("{rank:#?}")).1.split_once(" and ").unwrap();
            [device, host].map(|bytes| bytes.trim().parse::<f64>().unwrap())
        };
        ended.iter().map(of).fold([0.0_f64; 2], |most, bytes| [most[0].max(bytes[0]), most[1].max(bytes[1])])
    };
    let [whole, first, second] = [0, 1, 2].map(|level| bytes_at((level, false)));
    assert_eq!([whole[1], first[1], second[1]], [0.0; 3]);
    let [whole, first, second] = [whole, first, second].map(|[device, _]| device);

    // Of 12 layers of width 128: their matrices, the head, and embeddings with norms; on their way, each kind of them once in f32 and,
    // of matrices, one and a half times in bf16.
    let (blocks, head, rest, block) =
        (12.0 * 196_608.0, 65_536.0, 513.0 * 128.0 + 16.0 * 128.0 + 25.0 * 128.0, 196_608.0);
    let all = blocks + head + rest;
    let near = |what: &str, bytes: f64, expected: f64| {
        let off = bytes / expected - 1.0;
        println!("{what}: {bytes} bytes, expected {expected}: {:.2} %", 100.0 * off);
        assert!(off.abs() < 0.03, "{what}: {bytes} bytes, expected {expected}");
    };
    let weights = 2.0 * (blocks + head) + 4.0 * rest;
    let buckets = (4.0 + 3.0) * (block + head) + 4.0 * rest;
    near("level 0", whole, 16.0 * all + 4.0 * (block + head + rest));
    near("level 1", first, weights + 4.0 * all + 16.0 * all / 2.0 + buckets);
    near("level 2", second, weights + 16.0 * all / 2.0 + buckets + 6.0 * (block + head + rest));

    // With the optimiser on the host: what is there, and what is left, with a part of each kind on its way.
    let staged = 4.0 * (block + head + rest) / 2.0;
    for (level, kept, moved) in
        [(0, whole, 8.0 * all + 4.0 * (blocks + head)), (1, first, 6.0 * all), (2, second, 6.0 * all)]
    {
        let [device, host] = bytes_at((level, true));
        near(&format!("level {level} on the host"), host, moved);
        near(&format!("level {level} beside that"), device, kept - moved + if level > 0 { staged } else { 0.0 });
    }
}

/// What a rank does; nothing in an ordinary run of the tests.
#[test]
fn as_rank() {
    let Ok(asked) = std::env::var(AS_RANK) else { return };
    let (level, offload) = asked.split_once(' ').unwrap();
    let launch = Launch::from_environment().unwrap();
    let device = CudaDevice::new(0, Precision::Bf16).unwrap();
    let comm = comm::open(&launch, &device, Reduction::Repeatable, None).unwrap();
    let out = std::env::var_os("IGPT_TEST_OUT").unwrap();
    let settings = Settings {
        zero: Some(level.parse().unwrap()),
        offload_optimizer: offload == "true",
        layers: Some(12),
        width: Some(128),
        heads: Some(2),
        resolution: Some(4),
        accumulate: 2,
        batch: 1,
        device: DeviceKind::Cuda(0),
        precision: Some(Precision::Bf16),
        ..Settings::pretraining(DataSpec::Sample, Path::new(&out)).unwrap()
    };
    let session = Session::open_with(&device, Together::unwatched(comm.into()), settings, None, false).unwrap();
    let memory = device.memory_use();
    println!("bytes in use: {} and {}", memory.in_use, memory.host);
    drop(session);
}
