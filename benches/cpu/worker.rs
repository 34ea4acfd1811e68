//! Our column: a process that prepares a row, says `ready`, and answers every line that it reads with the seconds of one sample.

use std::io::{BufRead, Write, stdin, stdout};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};

use super::rows;

/// Seconds that a sample takes at least: what is shorter is repeated.
const SAMPLE: f64 = 0.3;

/// Serves the samples of `row` until its input ends.
pub fn serve(row: &str) -> Result<ExitCode> {
    let row = rows::find(row).context("no such row")?;
    let mut work = (row.prepare)()?;

    // Once to allocate, and to see how long it takes.
    work();
    let start = Instant::now();
    work();
    let repeats = (SAMPLE / start.elapsed().as_secs_f64()).ceil().clamp(1.0, 1e6) as usize;

    say("ready")?;
    for line in stdin().lock().lines() {
        line?;
        let start = Instant::now();
        (0..repeats).for_each(|_| work());
        say(&format!("{:e}", start.elapsed().as_secs_f64() / repeats as f64))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn say(line: &str) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
