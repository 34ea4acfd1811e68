//! PyTorch, if Python has it: a program of its own (`torch_peers.py`), whose times are put beside ours when all of ours are taken.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::effort::Effort;
use crate::report::{Peer, Row};
use crate::stats::Spread;

/// The program, which needs nothing but PyTorch.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/torch_peers.py");

/// What it is given.
#[derive(Serialize)]
struct Request<'a> {
    repeats: usize,
    graph_ms: f64,
    rotated: f64,
    rows: Vec<Wanted<'a>>,
}

#[derive(Serialize)]
struct Wanted<'a> {
    op: &'a str,
    model: &'a str,
    shape: &'a str,
}

/// A line that it prints.
#[derive(Deserialize)]
struct Line {
    key: Option<String>,
    name: String,
    us: Option<Vec<f64>>,
    not_run: Option<String>,
}

/// Adds PyTorch's times to the rows that it has; returns what it did not run at all, and why.
pub fn merge(python: &Path, effort: &Effort, rows: &mut [Row]) -> Vec<String> {
    match ask(python, effort, rows) {
        Ok(lines) => merge_lines(lines, rows),
        Err(error) => vec![format!("PyTorch: {error:#}")],
    }
}

fn ask(python: &Path, effort: &Effort, rows: &[Row]) -> Result<Vec<Line>> {
    let wanted = |row: &'_ Row| row.op.starts_with("attention ") || row.op == "training step";
    let rows = rows.iter().filter(|row| wanted(row));
    let rows = rows.map(|Row { op, model, shape, .. }| Wanted { op, model, shape }).collect();
    let Effort { repeats, graph_ms, rotated, .. } = *effort;
    let request = serde_json::to_vec(&Request { repeats, graph_ms, rotated, rows })?;

    let mut child = Command::new(python)
        .arg(PROGRAM)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} cannot be started; name another with --python", python.display()))?;
    // A program that ended early says why itself.
    let _ = child.stdin.take().map(|mut input| input.write_all(&request));
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "torch_peers.py failed ({})", output.status);
    let lines = String::from_utf8_lossy(&output.stdout).lines().map(serde_json::from_str).collect::<Result<_, _>>();
    lines.context("torch_peers.py said something else than JSON")
}

fn merge_lines(lines: Vec<Line>, rows: &mut [Row]) -> Vec<String> {
    let mut not_run = Vec::new();
    for Line { key, name, us, not_run: why } in lines {
        let Some(key) = key else {
            // The same is said once for each shape.
            not_run.extend(why.map(|why| format!("{name}: {why}")).filter(|line| !not_run.contains(line)));
            continue;
        };
        let time_us = us.filter(|us| !us.is_empty()).map(|us| Spread::of(&us));
        for row in rows.iter_mut().filter(|row| row.key() == key) {
            row.peers.push(Peer { name: name.clone(), time_us, not_run: why.clone() });
        }
    }
    not_run
}
