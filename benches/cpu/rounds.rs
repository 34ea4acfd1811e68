//! The rounds of one row: every column's process is asked in turn, and only quiet rounds count.

use std::env::current_exe;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::load::{Load, QUIET, peak_memory};
use super::rows::{Bound, Row};
use super::table::{Column, Line};

/// Rounds that may be lost to other load before the row is made of noisy ones.
const LOST: usize = 4;

/// Where the peers are.
pub struct Peers {
    pub python: Option<PathBuf>,
    pub any_cpu: Option<PathBuf>,
}

/// What a process measures.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    Ours,
    /// The peer, as it is installed.
    Peer,
    /// The peer with its MKL told that the processor is one of Intel's.
    Freed,
    /// A large matrix product: ours, and the freed peer's.
    OurGemm,
    PeerGemm,
    /// A read of much memory.
    Memory,
}

/// A process that takes samples.
struct Worker {
    who: Who,
    process: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    seconds: Vec<f64>,
}

impl Worker {
    fn start(who: Who, mut command: Command) -> Result<Self> {
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start a worker")?;
        let ask = process.stdin.take().context("a worker without input")?;
        let answers = BufReader::new(process.stdout.take().context("a worker without output")?);
        let mut worker = Self { who, process, ask, answers, seconds: Vec::new() };
        let ready = worker.answer()?;
        if ready != "ready" {
            bail!("a worker said {ready:?} before it was ready");
        }
        Ok(worker)
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.is_empty() {
            let status = self.process.wait()?;
            bail!("the process of a column ended ({status}); its own words stand above");
        }
        Ok(line.trim_end().to_owned())
    }

    /// One sample, and whether the machine was quiet.
    fn sample(&mut self) -> Result<(f64, bool)> {
        let load = Load::begin(self.process.id());
        writeln!(self.ask, "go")?;
        let seconds = self.answer()?.parse().context("a worker's answer is no time")?;
        Ok((seconds, load.foreign().is_none_or(|foreign| foreign < QUIET)))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to stop.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Measures a row in `wanted` quiet rounds.
pub fn measure(row: &Row, peers: &Peers, wanted: usize) -> Result<Line> {
    let mut workers = start(row, peers)?;

    // Each round starts with another column.
    let (mut quiet, mut noisy) = (0, Vec::new());
    for round in 0..wanted * LOST {
        if quiet == wanted {
            break;
        }
        let count = workers.len();
        let mut samples = vec![0.0; count];
        let mut all_quiet = true;
        for index in (0..count).map(|index| (index + round) % count) {
            let (seconds, alone) = workers[index].sample()?;
            samples[index] = seconds;
            all_quiet &= alone;
        }
        if all_quiet {
            quiet += 1;
            workers.iter_mut().zip(&samples).for_each(|(worker, seconds)| worker.seconds.push(*seconds));
        } else {
            noisy.push(samples);
        }
    }

    // Better noisy figures, marked as such, than none.
    if quiet == 0 {
        for samples in &noisy {
            workers.iter_mut().zip(samples).for_each(|(worker, seconds)| worker.seconds.push(*seconds));
        }
    }
    Ok(line(row, &workers, quiet, noisy.len()))
}

/// Starts the processes of all columns of a row, one after the other.
fn start(row: &Row, peers: &Peers) -> Result<Vec<Worker>> {
    let mut workers = vec![Worker::start(Who::Ours, ours(row.name)?)?];
    match row.bound {
        Bound::Flops(_) => workers.push(Worker::start(Who::OurGemm, ours("gemm")?)?),
        Bound::Bytes(_) => workers.push(Worker::start(Who::Memory, ours("memory")?)?),
        Bound::None => {}
    }

    if let Some(python) = &peers.python {
        let peer = |name: &str, preload: Option<&Path>| {
            let mut command = Command::new(python);
            command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/cpu/peers.py")).arg(name);
            if let Some(library) = preload {
                command.env("LD_PRELOAD", library);
            }
            command
        };
        if row.peer.is_some() {
            workers.push(Worker::start(Who::Peer, peer(row.name, None))?);
        }
        let freed = peers.any_cpu.as_deref();
        if row.uses_mkl && freed.is_some() {
            workers.push(Worker::start(Who::Freed, peer(row.name, freed))?);
        }
        if matches!(row.bound, Bound::Flops(_)) {
            workers.push(Worker::start(Who::PeerGemm, peer("gemm", freed))?);
        }
    }
    Ok(workers)
}

/// This program as the process of a column.
fn ours(row: &str) -> Result<Command> {
    let mut command = Command::new(current_exe()?);
    command.args(["--worker", row]);
    Ok(command)
}

/// The row's line of the table.
fn line(row: &Row, workers: &[Worker], quiet: usize, noisy: usize) -> Line {
    let of = |who: Who| workers.iter().find(|worker| worker.who == who);
    let column = |who: Who| of(who).map(|worker| Column::of(&worker.seconds, peak_memory(worker.process.id())));
    // The machine's rate is the better one's.
    let least = |whos: &[Who]| {
        let medians = whos.iter().filter_map(|who| column(*who)).map(|column| column.seconds);
        medians.min_by(f64::total_cmp)
    };
    let (rate, bound_seconds) = match row.bound {
        Bound::Flops(flops) => {
            let rate = least(&[Who::OurGemm, Who::PeerGemm]).map(|seconds| super::rows::limits::GEMM_FLOPS / seconds);
            (rate, rate.map(|rate| flops / rate))
        }
        Bound::Bytes(bytes) => {
            let rate = least(&[Who::Memory]).map(|seconds| super::rows::limits::MEMORY_BYTES / seconds);
            (rate, rate.map(|rate| bytes / rate))
        }
        Bound::None => (None, None),
    };
    Line {
        name: row.name.to_owned(),
        what: row.what.to_owned(),
        peer_name: row.peer.map(str::to_owned),
        ours: column(Who::Ours).unwrap_or_default(),
        peer: column(Who::Peer),
        freed: column(Who::Freed),
        rate,
        bound_seconds,
        quiet,
        noisy,
    }
}
