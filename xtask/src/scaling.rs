//! `cargo xtask scaling`: two ranks with a thread each against one process with two threads, on the same steps. What ranks lose is what they
//! send each other; what they win is work that a process does not divide among its threads.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::{cargo, mpi, root, stage};

/// What is measured, how often, and with which program.
#[derive(Args)]
pub struct ScalingArgs {
    /// Rounds, in each of which both are measured once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Steps of a run, of which the first two are not counted
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(3..=10_000))]
    pub steps: u32,
    /// The igpt-engine to measure, built with --features mpi [default: it is built, optimised]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// Flags of `train` for another model or step, behind `--` [default: 8 layers of width 256, 1,024 tokens per image, two micro-batches of 4
    /// images]
    #[arg(last = true)]
    pub train: Vec<String>,
}

/// The model and the step that are measured where nothing else is asked for.
const STEP: [&str; 12] =
    ["--layers", "8", "--width", "256", "--heads", "8", "--resolution", "32", "--batch", "4", "--global-batch", "8"];

/// Steps at the beginning of a run that find caches and memory cold.
const COLD: usize = 2;

/// Who trains.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Ranks,
    Threads,
}

/// What the steps of a run took, milliseconds: the median of all, and of what ranks waited for their exchange.
#[derive(Default)]
struct Times {
    step: f64,
    exchange: f64,
}

/// Measures both in turn and prints each round, and the ratio of the medians.
///
/// # Errors
/// No MPI, a run that fails, and one that leaves no times.
pub fn scaling(args: &ScalingArgs) -> Result<()> {
    if let Some(what) = mpi::missing() {
        bail!(what);
    }
    let program = match &args.program {
        Some(program) => program.clone(),
        None => {
            let mut build = cargo(["build", "--release", "--locked", "--package", "igpt-engine"]);
            stage("the engine, with MPI", build.args(mpi::FEATURE))?;
            let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
            target.join("release/igpt-engine")
        }
    };

    let folder = env::temp_dir().join(format!("igpt-scaling-{}", std::process::id()));
    let outcome = rounds(args, &program, &folder);
    // Whatever went wrong, the runs are of no use any more.
    let _ = fs::remove_dir_all(&folder);
    outcome
}

fn rounds(args: &ScalingArgs, program: &Path, folder: &Path) -> Result<()> {
    println!(
        "{:>5}  {:>18}  {:>18}  {:>12}  {:>6}",
        "round", "1 × 2 threads", "2 ranks × 1 thread", "exchange", "ratio"
    );
    let mut all = [Vec::new(), Vec::new(), Vec::new()];
    for round in 1..=args.rounds {
        // Each round begins with the other.
        let order = if round % 2 == 1 { [Who::Threads, Who::Ranks] } else { [Who::Ranks, Who::Threads] };
        let [mut threads, mut ranks] = [Times::default(), Times::default()];
        for who in order {
            let times = measure(args, program, &folder.join(round.to_string()), who)?;
            *if who == Who::Ranks { &mut ranks } else { &mut threads } = times;
        }
        line(&round.to_string(), [threads.step, ranks.step, ranks.exchange]);
        for (all, time) in all.iter_mut().zip([threads.step, ranks.step, ranks.exchange]) {
            all.push(time);
        }
    }
    line("all", all.map(median));
    Ok(())
}

fn line(round: &str, [threads, ranks, exchange]: [f64; 3]) {
    let ratio = threads / ranks;
    println!("{round:>5}  {threads:>15.1} ms  {ranks:>15.1} ms  {exchange:>9.1} ms  {ratio:>6.3}");
}

/// A run's times.
fn measure(args: &ScalingArgs, program: &Path, folder: &Path, who: Who) -> Result<Times> {
    let out = folder.join(if who == Who::Ranks { "ranks" } else { "threads" });
    fs::create_dir_all(&out)?;

    // Who: one process, or two under mpirun.
    let threads = if who == Who::Ranks { "1" } else { "2" };
    let mut command = match who {
        Who::Threads => Command::new(program),
        Who::Ranks => {
            // A rank to a core, as threads find theirs; through memory in `out`, for /dev/shm is small in containers.
            let mut command = Command::new("mpirun");
            command.args(["--allow-run-as-root", "--bind-to", "core", "--mca", "btl_vader_backing_directory"]);
            command.arg(&out).args(["-n", "2"]).arg(program);
            command
        }
    };

    // What: the steps, without what comes between them.
    command.args(["train", "--device", "cpu", "--eval-images", "8", "--sample-every", "0"]);
    if args.train.is_empty() {
        command.args(STEP);
    }
    command.args(&args.train).args(["--threads", threads, "--steps"]).arg(args.steps.to_string());
    command.arg("--out").arg(out.join("run")).stdout(Stdio::null()).stderr(Stdio::piped());

    let output = command.output().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    times(&fs::read_to_string(out.join("run/metrics.jsonl"))?)
}

/// The times of a run's steps, from its metrics.
fn times(metrics: &str) -> Result<Times> {
    let (mut steps, mut exchanges, mut before) = (Vec::new(), Vec::new(), 0.0);
    for line in metrics.lines() {
        let record: Value = serde_json::from_str(line)?;
        let number = |key: &str| record.get(key).and_then(Value::as_f64);
        // Validations have no rate. What has passed is that of steps alone.
        if let (Some(_), Some(elapsed)) = (number("tokens_per_second"), number("elapsed")) {
            steps.push(1000.0 * (elapsed - before));
            exchanges.push(number("exchange_ms").unwrap_or_default());
            before = elapsed;
        }
    }
    ensure!(steps.len() > COLD, "a run of {} steps says nothing; give more --steps", steps.len());
    Ok(Times { step: median(steps.split_off(COLD)), exchange: median(exchanges.split_off(COLD)) })
}

/// The middle one, or the mean of both that are.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (lower, upper) = (values.get((values.len().max(1) - 1) / 2), values.get(values.len() / 2));
    lower.zip(upper).map_or(f64::NAN, |(lower, upper)| (lower + upper) / 2.0)
}
