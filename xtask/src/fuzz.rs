//! `cargo xtask fuzz`: every parser fed mutated inputs, guided by coverage, on stable Rust.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::{root, stage};

/// Counters for libFuzzer, which nightly's `-Zsanitizer` would add too: the pass is LLVM's own.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                        -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Named, so that build scripts and macros are compiled without counters, which would not link.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Which targets are fuzzed, and for how long.
#[derive(Args)]
pub struct FuzzArgs {
    /// The targets [default: all; `list` names them]
    pub targets: Vec<String>,
    /// Inputs per target
    #[arg(long, default_value_t = 1_000_000)]
    pub runs: u64,
    /// A fuzz program that is built already
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
}

/// Fuzzes and prints a line per target.
///
/// # Errors
/// The program cannot be built (it needs a C++ compiler), or an input made it panic or take too much memory.
pub fn fuzz(args: &FuzzArgs) -> Result<()> {
    let program = match &args.program {
        Some(program) => program.clone(),
        None => build()?,
    };
    let listed = Command::new(&program).env("FUZZ_TARGET", "list").output();
    let listed = listed.with_context(|| format!("cannot start {}", program.display()))?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    if args.targets.iter().any(|target| target == "list") {
        print!("{listed}");
        return Ok(());
    }

    let targets: Vec<&str> =
        listed.lines().filter(|name| args.targets.is_empty() || args.targets.iter().any(|t| t == name)).collect();
    ensure!(!targets.is_empty(), "no target is called {}; there are:\n{listed}", args.targets.join(", "));
    println!(
        "{:14} {:>10} {:>8} {:>9} {:>7} {:>12}",
        "target", "inputs", "seconds", "inputs/s", "panics", "largest MiB"
    );
    let mut failed = Vec::new();
    for target in targets {
        if !fuzz_one(&program, target, args.runs)? {
            failed.push(target);
        }
    }
    ensure!(failed.is_empty(), "failed: {}; the inputs are in target/fuzz-inputs", failed.join(", "));
    Ok(())
}

/// Fuzzes one target; whether no input failed.
fn fuzz_one(program: &Path, target: &str, runs: u64) -> Result<bool> {
    let inputs = root().join("target/fuzz-inputs").join(target);
    let seeds = inputs.join("seeds");
    fs::create_dir_all(&seeds)?;
    let status = Command::new(program).env("FUZZ_TARGET", target).env("FUZZ_SEEDS", &seeds).status()?;
    ensure!(status.success(), "{target}: its seeds could not be made");

    let start = Instant::now();
    let mut command = Command::new(program);
    command.env("FUZZ_TARGET", target).arg(&seeds).args([
        "-print_final_stats=1",
        "-max_len=65536",
        "-rss_limit_mb=4096",
    ]);
    command.arg(format!("-runs={runs}")).arg(format!("-artifact_prefix={}/", inputs.display()));
    let output = command.output().with_context(|| format!("cannot start {}", program.display()))?;
    let seconds = start.elapsed().as_secs_f64();

    // What libFuzzer and the guard said.
    let said = String::from_utf8_lossy(&output.stderr);
    let number = |line: &str| line.rsplit([' ', ':']).next()?.trim().parse::<u64>().ok();
    let last = |key: &str| said.lines().filter(|line| line.contains(key)).filter_map(number).next_back();
    let made = last("stat::number_of_executed_units").unwrap_or(0);
    let largest = last("LARGEST ").unwrap_or(0) as f64 / f64::from(1 << 20);
    let sound = output.status.success();
    println!(
        "{target:14} {made:>10} {seconds:>8.0} {:>9.0} {:>7} {largest:>12.1}",
        made as f64 / seconds,
        u32::from(!sound)
    );
    if !sound {
        let words = ["panicked", "were held", "ERROR", "Test unit written"];
        said.lines().filter(|line| words.iter().any(|word| line.contains(word))).for_each(|line| eprintln!("  {line}"));
    }
    Ok(sound)
}

/// Builds the fuzz program with coverage counters, in a target folder of its own.
fn build() -> Result<PathBuf> {
    let folder = root().join("target/fuzz");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--target", TRIPLE, "--target-dir"]).arg(&folder).current_dir(root().join("fuzz"));
    // No parser is a kernel.
    command.env("RUSTFLAGS", COVERAGE).env("NVCC", "none").env_remove("CARGO_TARGET_DIR");
    stage("fuzz targets (needs a C++ compiler; the first time, a few minutes)", &mut command)?;
    let program = folder.join(TRIPLE).join("debug/fuzz");
    if !program.exists() {
        bail!("{} was not built", program.display());
    }
    Ok(program)
}
