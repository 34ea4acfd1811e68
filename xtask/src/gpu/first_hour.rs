//! The first hour on a card that nobody has tried: what is right, what is wrong, how fast, in one folder.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use super::runner::{Outcome, Runner, Step};
use super::{bench, page};
use crate::{cargo, root};

/// Flags of `first-hour`.
#[derive(Args)]
pub struct FirstHour {
    /// The folder to send back [default: first-hour in the workspace's root]
    #[arg(long)]
    out: Option<PathBuf>,
    /// The benchmark's quick run: fewer rows and repeats
    #[arg(long)]
    quick: bool,
    /// Everything at the smallest size and without optimisation, to try this command itself, on the simulator too
    #[arg(long)]
    toy: bool,
    /// The Python whose PyTorch is put beside ours, if it has one
    #[arg(long, default_value = "python3")]
    python: PathBuf,
}

/// compute-sanitizer's tools.
const TOOLS: [&str; 4] = ["memcheck", "racecheck", "synccheck", "initcheck"];

/// What compute-sanitizer runs the tools on, and what is trained at toy size: two layers on 4 × 4 pixels.
const SMALL: [&str; 10] = ["--layers", "2", "--width", "64", "--heads", "2", "--resolution", "4", "--batch", "2"];

/// What is trained twice on a card: the built-in images, S, as many as any card of 8 GiB holds.
const MODEL: [&str; 6] = ["--model", "s", "--resolution", "32", "--batch", "8"];

/// Nothing between the steps.
const QUIET: [&str; 6] = ["--eval-every", "0", "--sample-every", "0", "--save-every", "0"];

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

/// Runs all steps and writes the page.
///
/// # Errors
/// When the folder cannot be written, and when not every step passed.
pub fn run(arguments: &FirstHour) -> Result<()> {
    let folder = arguments.out.clone().unwrap_or_else(|| root().join("first-hour"));
    let mut runner = Runner::new(&folder)?;
    let engine = target().join(if arguments.toy { "debug" } else { "release" }).join("igpt-engine");
    let run = Hour { arguments, engine };

    runner.step("the machine", machine);
    runner.step("build", |step| run.build(step));
    runner.step("doctor", |step| step.run(Command::new(&run.engine).arg("doctor"), "doctor.txt", minutes(2)));
    runner.step("op table", |step| run.tests(step, "kernels", "ops::cuda_", "op-table.txt", minutes(20)));
    runner.step("golden values", |step| run.tests(step, "golden", "cuda", "golden.txt", minutes(15)));
    runner.step("whole runs", |step| run.tests(step, "cuda", "", "runs.txt", minutes(15)));
    runner.step("the same bits twice", |step| run.twice(step));
    for tool in TOOLS {
        runner.step(&format!("compute-sanitizer {tool}"), |step| run.sanitizer(step, tool));
    }
    runner.step("benchmark", |step| run.benchmark(step));

    // The page, for people and for machines.
    let commit = commit();
    let page = folder.join("first-hour.md");
    fs::write(&page, page::markdown(&commit, &runner.done))
        .with_context(|| format!("cannot write {}", page.display()))?;
    let json = serde_json::to_string_pretty(&page::json(&commit, &runner.done))?;
    fs::write(folder.join("first-hour.json"), json + "\n")?;
    eprintln!("==> {}: send back the folder that it is in", page.display());

    let others = runner.done.iter().filter(|done| done.outcome != Outcome::Passed).count();
    ensure!(others == 0, "{others} of {} steps failed or were not run; the page says which", runner.done.len());
    Ok(())
}

/// What the driver's own tool says.
fn machine(step: &mut Step<'_>) -> Result<Outcome> {
    let Some(program) = on_path("nvidia-smi") else {
        return Ok(Outcome::NotRun("nvidia-smi is not on the PATH".to_owned()));
    };
    step.run(Command::new(program).arg("-q"), "nvidia-smi.txt", minutes(1))
}

/// The commit, and whether anything was changed since.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(root()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed = git(&["status", "--porcelain"]).is_some_and(|changes| !changes.is_empty());
    let commit = git(&["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    if changed { format!("{commit} with changes") } else { commit }
}

/// A program of the PATH.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// What the steps share.
struct Hour<'a> {
    arguments: &'a FirstHour,
    /// The program as `cargo build` leaves it.
    engine: PathBuf,
}

impl Hour<'_> {
    /// Adds `--release`, but not at toy size.
    fn profile(&self, mut command: Command) -> Command {
        if !self.arguments.toy {
            command.arg("--release");
        }
        command
    }

    /// All programs, before anything is timed.
    fn build(&self, step: &mut Step<'_>) -> Result<Outcome> {
        let tests = ["test", "--locked", "--no-run", "--test", "kernels", "--test", "golden", "--test", "cuda"];
        for (command, log) in [
            (cargo(["build", "--locked", "--bin", "igpt-engine"]), "build.txt"),
            (cargo(tests), "build-tests.txt"),
            (cargo(["build", "--locked", "--package", "gpu-bench"]), "build-bench.txt"),
        ] {
            let outcome = step.run(&mut self.profile(command), log, minutes(20))?;
            if outcome != Outcome::Passed {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Passed)
    }

    /// A test program on the card.
    fn tests(&self, step: &mut Step<'_>, test: &str, filter: &str, log: &str, limit: Duration) -> Result<Outcome> {
        let mut command = self.profile(cargo(["test", "--locked", "--test", test]));
        command.args(["--", filter]);
        if !self.arguments.toy {
            command.env("IGPT_TEST_DEVICE", "cuda");
        }
        let outcome = step.run(&mut command, log, limit)?;

        // Tests that skip themselves pass.
        let said = fs::read_to_string(step.mention(log)).unwrap_or_default();
        let skipped = said.lines().find(|line| line.contains("SKIPPED: "));
        Ok(match (outcome, skipped) {
            (Outcome::Passed, Some(line)) => Outcome::NotRun(line.trim().to_owned()),
            (outcome, _) => outcome,
        })
    }

    fn train(&self, steps: &str, out: &Path) -> Command {
        let mut command = Command::new(&self.engine);
        command.arg("train").args(if self.arguments.toy { &SMALL[..] } else { &MODEL[..] }).args(QUIET);
        command.args(["--device", "cuda", "--steps", steps, "--out"]).arg(out);
        command
    }

    /// Two runs of the same seed, whose weights and moments must be the same bits.
    fn twice(&self, step: &mut Step<'_>) -> Result<Outcome> {
        let steps = if self.arguments.toy { "3" } else { "200" };
        let runs = empty_folder()?;
        let mut bits = Vec::new();
        for name in ["first", "second"] {
            let out = runs.join(name);
            let outcome = step.run(&mut self.train(steps, &out), &format!("train-{name}.txt"), minutes(15))?;
            if outcome != Outcome::Passed {
                return Ok(outcome);
            }
            fs::copy(out.join("metrics.jsonl"), step.mention(&format!("metrics-{name}.jsonl")))?;
            let checkpoint = out.join(format!("checkpoints/step-{:0>8}", steps));
            for file in ["model.safetensors", "optimizer.safetensors"] {
                let path = checkpoint.join(file);
                bits.push((file, fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?));
            }
        }
        fs::remove_dir_all(&runs)?;

        let (first, second) = bits.split_at(bits.len() / 2);
        let other: Vec<&str> = first.iter().zip(second).filter(|(a, b)| a != b).map(|(a, _)| a.0).collect();
        if !other.is_empty() {
            bail!("the bits of {} differ after {steps} steps", other.join(" and "));
        }
        Ok(Outcome::Passed)
    }

    /// A few steps of training under one of compute-sanitizer's tools.
    fn sanitizer(&self, step: &mut Step<'_>, tool: &str) -> Result<Outcome> {
        let in_toolkit = || Some(PathBuf::from(env::var_os("CUDA_HOME")?).join("bin/compute-sanitizer"));
        let usual = || Some(PathBuf::from("/usr/local/cuda/bin/compute-sanitizer"));
        let found = on_path("compute-sanitizer").or_else(in_toolkit).filter(|program| program.is_file());
        let Some(program) = found.or_else(usual).filter(|program| program.is_file()) else {
            let why = "compute-sanitizer is neither on the PATH nor in $CUDA_HOME/bin nor in /usr/local/cuda/bin";
            return Ok(Outcome::NotRun(why.to_owned()));
        };

        let runs = empty_folder()?;
        let mut command = Command::new(program);
        // Stop at nothing, and fail if anything was found.
        command.args(["--tool", tool, "--error-exitcode", "9", "--print-limit", "20"]);
        command.arg(&self.engine).arg("train").args(SMALL).args(QUIET);
        command.args(["--device", "cuda", "--steps", "3", "--out"]).arg(runs.join("run"));
        let outcome = step.run(&mut command, &format!("sanitizer-{tool}.txt"), minutes(15));
        fs::remove_dir_all(&runs)?;
        outcome
    }

    fn benchmark(&self, step: &mut Step<'_>) -> Result<Outcome> {
        let json = step.mention("bench.json");
        let size = match self.arguments {
            FirstHour { toy: true, .. } => "toy",
            FirstHour { quick: true, .. } => "quick",
            _ => "full",
        };
        let python = self.arguments.python.display().to_string();
        let json = json.display().to_string();
        let arguments = ["--size", size, "--json", &json, "--python", &python].map(str::to_owned);
        let mut command = bench::command(!self.arguments.toy, &arguments)?;
        step.run(&mut command, "bench.md", minutes(60))
    }
}

/// Where cargo builds.
fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// An empty folder for runs, which are too large for the one to send back.
fn empty_folder() -> Result<PathBuf> {
    let path = target().join("first-hour");
    if path.exists() {
        fs::remove_dir_all(&path)?;
    }
    fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}
