//! How fast the engine's kernels are on a GPU: beside what that GPU reaches in the same run, and beside NVIDIA's libraries.
//!
//! `cargo xtask gpu bench` builds and runs it. Every row is an op at the shape of an Image GPT, on numbers from N(0, 1), in buffers
//! that the cache cannot hold, launched many times in a graph that is timed as a whole, in turn with its competitors; and its result
//! is compared with f64 first. On the simulator (`--size toy`) it shows that all of this works.

mod card;
mod ceilings;
mod check;
mod compare;
mod effort;
mod graph;
mod normals;
mod peers;
mod report;
mod rows;
mod stats;
mod stream;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use igpt_engine::device::cuda::enumerate_devices;
use igpt_engine::device::{CudaDevice, Precision};

use crate::card::Monitor;
use crate::effort::{Effort, Size};
use crate::normals::Normals;
use crate::peers::Peers;
use crate::report::{Report, SCHEMA};
use crate::rows::Bench;
use crate::stream::Stream;

/// Measures the engine's kernels on a GPU, beside its ceilings and NVIDIA's libraries. The table goes to stdout, in Markdown.
#[derive(Parser)]
#[command(name = "cargo xtask gpu bench", bin_name = "cargo xtask gpu bench")]
struct Arguments {
    /// Fewer models and repeats: the same as `--size quick`
    #[arg(long)]
    quick: bool,
    /// Which shapes: all, fewer, or those for the simulator
    #[arg(long, value_enum, default_value = "full")]
    size: Size,
    /// Write what was found as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print the changes since that JSON, and fail if a row is worse by more than 3 % and three standard deviations
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Only rows whose op has this in its name
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Which card, as the driver counts them
    #[arg(long, default_value_t = 0)]
    device: usize,
    /// The Python whose PyTorch is put beside ours, if it has one
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Measure although other processes compute on the card
    #[arg(long)]
    shared: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether all rows are right, and none is worse than before.
fn run(arguments: &Arguments) -> Result<bool> {
    // A baseline that cannot be read is told of before anything is measured.
    let baseline = arguments.compare.as_deref().map(read).transpose()?;
    let report = measure(arguments, baseline.as_ref())?;
    print!("{}", table::markdown(&report));
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&report)?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }

    let mut passed = true;
    for row in report.rows.iter().filter(|row| row.checked.is_some_and(|checked| !checked.holds())) {
        eprintln!("wrong: {}", row.key());
        passed = false;
    }
    if let Some(baseline) = baseline {
        let changes = compare::compare(&baseline, &report);
        println!("\n## Changes\n\n{}\n{} rows are worse than before.", changes.page, changes.worse);
        passed &= changes.worse == 0;
    }
    Ok(passed)
}

fn read(path: &Path) -> Result<Report> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no report of this benchmark", path.display()))
}

fn measure(arguments: &Arguments, baseline: Option<&Report>) -> Result<Report> {
    let ordinal = arguments.device;
    let devices = enumerate_devices()?;
    let info = devices.devices.get(ordinal).with_context(|| {
        format!("there is no CUDA device {ordinal}: the driver has {}, see nvidia-smi", devices.devices.len())
    })?;
    let size = if arguments.quick { Size::Quick } else { arguments.size };
    if let Some(baseline) = baseline {
        compare::comparable(baseline, &info.name, &size.name())?;
    }
    let device = CudaDevice::new(ordinal, Precision::Bf16)?;
    let stream = Stream::open(ordinal)?;
    let monitor = Monitor::open(&stream.context);
    if !arguments.shared {
        monitor.refuse_company()?;
    }

    // The ceilings first: every row is a part of them.
    let effort = Effort::new(size, f64::from(info.l2));
    let multiprocessors = u32::try_from(info.multiprocessors)?;
    let clocks_before = monitor.clocks();
    let l2 = usize::try_from(info.l2)?;
    let ceilings = ceilings::measure(&stream, &effort, info.capability, multiprocessors, l2)?;

    let peers = Peers::open(&stream);
    let (normals, rows, only) = (Normals::new(), Vec::new(), arguments.only.clone());
    let mut bench = Bench { device: &device, effort: &effort, ceilings: &ceilings, peers: &peers, normals, rows, only };
    bench.all();
    let (mut rows, mut not_run) = (bench.rows, Vec::new());
    let clocks_after = monitor.clocks();
    // PyTorch wants the card's memory.
    drop(device);
    not_run.extend(peers::torch::merge(&arguments.python, &effort, &mut rows));
    not_run.extend(monitor.missing().map(|why| format!("clocks, throttling and other processes: {why}")));
    not_run.extend(peers.without_cublaslt().map(|why| format!("cuBLASLt: {why}")));
    Ok(Report {
        schema: SCHEMA,
        size: size.name(),
        card: monitor.card(info, devices.driver),
        clocks_before,
        clocks_after,
        ceilings,
        rows,
        not_run,
    })
}
