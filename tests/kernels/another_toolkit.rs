//! The kernels as another toolkit builds them: the op table (a third of it a run) passes with them too, and on a driver of that toolkit's major release,
//! which could not load this build's own, training gives the bits of this build.
//!
//! Tests start in the order of their names: this one, which compiles for minutes, is among the first.
//!
//! `cargo xtask toolkit --cuda 12` installs the other one; `IGPT_OTHER_NVCC` names a compiler of another release.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use igpt_engine::data::Batch;
use igpt_engine::device::Precision;
use igpt_engine::device::cuda::kernel::{KERNELS, MODULES, TOOLKIT};
use igpt_engine::device::prelude::*;
use igpt_engine::model::{ModelConfig, Objective, Preset, Transformer, parameter_specs};
use igpt_engine::optim::{Adam, AdamConfig, Schedule, ScheduleKind};
use igpt_engine::tape::Parameters;
use igpt_engine::train::Trainer;
use rayon::prelude::*;
use test_support::devices::{self, KERNELS_FROM, RELEASE, Wanted, wanted};
use test_support::{in_turn, skipped};

use crate::process;

/// As `build/compile.rs` has them.
const OPTIONS: &[&str] = &["-fatbin", "--no-compress", "-std=c++17", "-O3", "-lineinfo", "-Xptxas=-v"];

/// The same: PTX, which the simulator runs, and machine code, whose spills are looked at: of the A100, or if `all` of the H100 too. What is
/// for compute capability 9.0 alone runs on no card that this test has.
fn architectures(module: &str, all: bool) -> &'static [&'static str] {
    match (module.ends_with("_sm90"), all) {
        (true, true) => &["-gencode=arch=compute_90a,code=[sm_90a,compute_90a]"],
        (true, false) => &[],
        (false, true) => &["-gencode=arch=compute_80,code=[sm_80,sm_90,compute_80]"],
        (false, false) => &["-gencode=arch=compute_80,code=[sm_80,compute_80]"],
    }
}

/// Machine code of the H100 is made of one module of so many a run.
const PARTS: usize = 4;

/// The card that all modules have machine code of: an old driver makes none of a newer toolkit's PTX.
const CARD: &str = "card=a100";

/// A compiler of another release than the one that built this program's kernels.
fn other_compiler(root: &Path) -> Option<PathBuf> {
    let named = std::env::var_os("IGPT_OTHER_NVCC").map(PathBuf::from);
    let installed =
        if TOOLKIT.0 == 12 { nvcc::in_toolkit(&root.join(".cuda")) } else { Some(root.join(".cuda-12/bin/nvcc")) };
    named.or(installed).filter(|path| path.is_file())
}

#[test]
fn kernels_of_another_toolkit_pass_the_op_table_and_train_on_its_drivers() {
    if KERNELS.is_empty() || wanted() != Wanted::Simulator {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(compiler) = other_compiler(root) else {
        skipped("the kernels as another toolkit builds them: `cargo xtask toolkit --cuda 12` installs it");
        return;
    };

    // Each module as it would be built, without a spill or a warning: those whose turn it is for both cards.
    let in_full: Vec<&str> = in_turn(MODULES, PARTS).map(|module| module.name).collect();
    let folder = tempfile::tempdir().unwrap();
    let logs = Mutex::new(String::new());
    MODULES.par_iter().for_each(|module| {
        let architectures = architectures(module.name, in_full.contains(&module.name));
        let fatbin = folder.path().join(module.name).with_extension("fatbin");
        if architectures.is_empty() {
            // To be refused if it should be loaded after all.
            std::fs::write(fatbin, []).unwrap();
            return;
        }
        let mut command = Command::new(&compiler);
        command.current_dir(root).args(OPTIONS).args(architectures).arg("-o").arg(fatbin);
        let output = command.arg(format!("kernels/{}.cu", module.name)).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}.cu does not compile with {}:\n{said}", module.name, compiler.display());
        logs.lock().unwrap().push_str(&said);
    });
    let logs = logs.into_inner().unwrap();
    let compiled = logs.matches("Compiling entry function").count();
    let expected = KERNELS.iter().flat_map(|kernel| {
        let all = in_full.contains(&MODULES[kernel.module].name);
        kernel.resources.iter().filter(move |resources| all || resources.arch == 80)
    });
    assert_eq!(compiled, expected.count(), "every kernel, for its architectures");
    let none = "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads";
    // A wgmma that waits for another is an "info" of a loss.
    let unwanted = |line: &&str| {
        line.contains("spill") && line.trim() != none
            || ["warning", "Performance Loss"].iter().any(|word| line.contains(word))
    };
    let unwanted: Vec<&str> = logs.lines().filter(unwanted).collect();
    assert!(unwanted.is_empty(), "{unwanted:#?}");

    let (major, minor) = nvcc::probe(&compiler).unwrap().number;
    std::fs::write(folder.path().join(RELEASE), format!("{major}.{minor}")).unwrap();
    // On the newest card, which saves a run of the table: of one precision a run.
    let kernels = folder.path();
    let tables: Vec<&str> = in_turn(process::TABLES, 2).collect();
    let passed =
        process::op_tables(&tables, |command| command.env(KERNELS_FROM, kernels).env("CUDASIM", "card=rtx5090"), 12);
    passed.unwrap_or_else(|printed| panic!("{}:\n{printed}", compiler.display()));

    // With this build's kernels, and with the other's on the oldest driver that runs them.
    let bits = folder.path().join("bits");
    let train = |set: &dyn Fn(&mut Command)| {
        let trained = process::run("another_toolkit::a_few_steps", |command| {
            set(command.env(BITS, &bits));
            command
        });
        trained.map(|()| std::fs::read(&bits).unwrap())
    };
    let own = train(&|command| {
        command.env("CUDASIM", CARD);
    });
    let own = own.unwrap_or_else(|printed| panic!("{printed}"));
    let driver = format!("{CARD},driver={major}.0");
    let other = train(&|command| {
        command.env(KERNELS_FROM, folder.path()).env("CUDASIM", &driver);
    });
    let other = other.unwrap_or_else(|printed| panic!("{}, {driver}:\n{printed}", compiler.display()));
    assert!(own.len() > 100_000 && own == other, "{}, {driver}: other bits", compiler.display());

    // This build's own kernels are refused there.
    if TOOLKIT.0 > major {
        let refused = train(&|command| {
            command.env("CUDASIM", &driver);
        });
        assert!(refused.unwrap_err().contains("update the driver"));
    }
}

/// Names the file that [`a_few_steps`] writes the bits of weights and moments to.
const BITS: &str = "IGPT_TEST_BITS";

/// Steps of which the first is eager, the second recorded and the rest replayed, in both precisions.
#[test]
#[ignore = "run by kernels_of_another_toolkit_pass_the_op_table_and_train_on_its_drivers"]
fn a_few_steps() {
    const LENGTH: usize = 16;
    let Some(path) = std::env::var_os(BITS) else { return };
    let tiny = ModelConfig::preset(Preset::Tiny, 4);
    let config = ModelConfig { layers: 2, width: 64, heads: 2, ..tiny };
    let mut bits = Vec::new();
    for precision in [Precision::F32, Precision::Bf16] {
        let device = devices::cuda(precision).expect("the simulator");
        let parameters = Parameters::from_fn(&device, parameter_specs(&config), |index, spec| {
            let drawn = spec.initial_values(7, index).into_iter().enumerate();
            // A head of zeros would leave all other gradients at zero in the first step.
            let values = drawn.map(|(i, value)| value + 0.02 * ((i * 31 % 17) as f32 - 8.0) / 8.0);
            Ok::<_, igpt_engine::device::Error>(values.collect())
        });
        let parameters = parameters.unwrap();
        let adam = Adam::new(&device, &parameters, AdamConfig { clip: Some(0.5), ..AdamConfig::default() }).unwrap();
        let schedule = Schedule { kind: ScheduleKind::Cosine, peak: 1e-3, warmup: 2, steps: 10, cooldown: 0 };
        let model = Transformer::new(config.clone()).unwrap();
        let mut trainer = Trainer::new(&device, model, parameters, adam, schedule, Objective::Ar).unwrap();

        for step in 0..4 {
            let tokens = (0..2 * LENGTH).map(|i| ((i * i + 101 * step) % 512) as u16).collect();
            let batch = Batch { tokens, labels: vec![0, 1], first_sample: 10 * step as u64 };
            trainer.step(&[batch], LENGTH).unwrap();
        }
        let adam = trainer.adam();
        let tensors = trainer.parameters().values().iter().chain(adam.first_moments()).chain(adam.second_moments());
        tensors.for_each(|tensor| {
            bits.extend(device.download(tensor).unwrap().into_iter().flat_map(f32::to_le_bytes));
        });
    }
    std::fs::write(path, bits).unwrap();
}
