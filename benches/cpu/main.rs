//! The engine on this machine's CPU beside its peers and the machine's limits: `cargo xtask bench`, which installs the peers first.
//!
//! One table, a line for each row of [`rows`]: our time, the peer's, their ratio, the time that the machine's own limits would allow, and
//! the share of that bound which ours reaches. Each column is a process of its own ([`worker`]; the peers' are `peers.py`) that
//! waits until it is asked for a sample. So all columns of a row alternate in rounds, none runs beside another, and rounds in which
//! anything else used the processor ([`load`]) are dropped: absolute figures of a shared machine move by 15 % and more from
//! hour to hour, ratios do not.

mod load;
mod rounds;
mod rows;
mod table;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use rounds::Peers;
use table::Table;

/// Measure the engine on this CPU beside its peers and the machine's limits
#[derive(Parser)]
#[command(name = "cargo xtask bench")]
struct Args {
    /// Rows to measure, by parts of their names; all if there are none
    rows: Vec<String>,
    /// Rounds that must be quiet, of each row
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Python that has the peers (`cargo xtask peers --cpu`); without it their columns stay empty
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// Library to preload, so that MKL takes the same path on every processor
    #[arg(long, value_name = "FILE")]
    any_cpu: Option<PathBuf>,
    /// Write the table as JSON to this file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Compare with the JSON of an earlier run, and fail if a row's ratio to its peer, or where there is none its share of the bound, got
    /// worse by more than the noise of both
    #[arg(long, value_name = "BASELINE")]
    check: Option<PathBuf>,
    /// Be the process of our column
    #[arg(long, hide = true, value_name = "ROW")]
    worker: Option<String>,
    /// What cargo passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.worker {
        Some(row) => worker::serve(row),
        None => run(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures, prints, compares.
fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let baseline = args.check.as_deref().map(Table::load).transpose()?;
    let peers = Peers { python: args.python.clone(), any_cpu: args.any_cpu.clone() };
    let mut table = Table::default();
    for row in rows::all() {
        if args.rows.is_empty() || args.rows.iter().any(|part| row.name.contains(part.as_str())) {
            eprintln!("==> {}", row.name);
            table.rows.push(rounds::measure(&row, &peers, args.rounds as usize)?);
        }
    }
    anyhow::ensure!(!table.rows.is_empty(), "no row is named so; there are {}", rows::names());

    print!("{table}");
    if let Some(path) = &args.json {
        table.save(path)?;
    }
    let worse = baseline.map_or_else(Vec::new, |baseline| table.worse_than(&baseline));
    for line in &worse {
        println!("WORSE: {line}");
    }
    Ok(if worse.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
