//! What was measured, as a table, as JSON, and against an earlier run.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// A row may be worse than the baseline's by this, and by three times the noise of both.
const MARGIN: f64 = 0.03;

/// All rows.
#[derive(Default, Serialize, Deserialize)]
pub struct Table {
    pub rows: Vec<Line>,
}

/// A measured row.
#[derive(Serialize, Deserialize)]
pub struct Line {
    pub name: String,
    /// What is done once.
    pub what: String,
    pub peer_name: Option<String>,
    pub ours: Column,
    /// The peer as installed.
    pub peer: Option<Column>,
    /// The peer with its MKL freed.
    pub freed: Option<Column>,
    /// The machine's limit in the same rounds, per second: FLOPs of a large matrix product, or bytes read.
    pub rate: Option<f64>,
    /// Seconds that the work would take at that limit.
    pub bound_seconds: Option<f64>,
    /// Rounds that counted, and rounds dropped since others ran.
    pub quiet: usize,
    pub noisy: usize,
}

/// One process's samples.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub struct Column {
    /// Median.
    pub seconds: f64,
    /// Standard error of the median, as a part of it: from the middle half of the samples.
    pub noise: f64,
    /// Peak resident bytes.
    pub peak_bytes: Option<f64>,
}

impl Column {
    pub fn of(samples: &[f64], peak_bytes: Option<f64>) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at =
            |part: f64| sorted.get((part * (sorted.len() - 1) as f64).round() as usize).copied().unwrap_or(f64::NAN);
        if sorted.is_empty() {
            return Self::default();
        }
        // Of a normal distribution the middle half is 1.35 deviations wide, and its median's error 1.25 / √n of one.
        let deviation = (at(0.75) - at(0.25)) / 1.35;
        Self { seconds: at(0.5), noise: 1.25 * deviation / (sorted.len() as f64).sqrt() / at(0.5), peak_bytes }
    }
}

impl Line {
    /// The faster of the peer's columns.
    pub fn best_peer(&self) -> Option<Column> {
        [self.peer, self.freed].into_iter().flatten().min_by(|a, b| a.seconds.total_cmp(&b.seconds))
    }

    /// How many times as fast as the best peer.
    pub fn ratio(&self) -> Option<f64> {
        self.best_peer().map(|peer| peer.seconds / self.ours.seconds)
    }

    pub fn share_of_bound(&self) -> Option<f64> {
        self.bound_seconds.map(|bound| bound / self.ours.seconds)
    }

    /// What is compared between runs: the ratio, or without a peer the share of the bound; and its noise.
    fn figure(&self) -> Option<(f64, f64)> {
        let peers = self.best_peer().map_or(0.0, |peer| peer.noise);
        Some((self.ratio().or_else(|| self.share_of_bound())?, self.ours.noise.hypot(peers)))
    }
}

impl Table {
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{}: not the --json of an earlier run", path.display()))
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        fs::write(path, serde_json::to_string_pretty(self)?).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Rows that got worse than the noise of both runs explains, in words.
    pub fn worse_than(&self, baseline: &Table) -> Vec<String> {
        let mut worse = Vec::new();
        for row in &self.rows {
            let before = baseline.rows.iter().find(|before| before.name == row.name);
            let Some(((now, noise), (then, noise_then))) = row.figure().zip(before.and_then(Line::figure)) else {
                continue;
            };
            let band = MARGIN + 3.0 * noise.hypot(noise_then);
            if now < then * (1.0 - band) {
                worse.push(format!("{}: {now:.2} against {then:.2}, noise ±{:.0} %", row.name, 100.0 * band));
            }
        }
        worse
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| row | ours | peer | peer, MKL freed | ratio to the faster | bound | share of bound | peak memory, of the peer's | rounds |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        for row in &self.rows {
            let peer = |column: Option<Column>| column.map_or("–".to_owned(), |column| time(column.seconds));
            let memory = row.ours.peak_bytes.map_or("–".to_owned(), |bytes| {
                let of_peer =
                    row.best_peer().and_then(|peer| peer.peak_bytes).map(|peer| format!(", {:.2}×", bytes / peer));
                format!("{:.2} GiB{}", bytes / f64::from(1 << 30), of_peer.unwrap_or_default())
            });
            let rounds = match (row.quiet, row.noisy) {
                (0, noisy) => format!("{noisy}, all NOISY"),
                (quiet, 0) => quiet.to_string(),
                (quiet, noisy) => format!("{quiet}, {noisy} dropped"),
            };
            writeln!(
                f,
                "| {} | {} | {} | {} | {} | {} | {} | {memory} | {rounds} |",
                row.what,
                time(row.ours.seconds),
                row.peer
                    .zip(row.peer_name.as_ref())
                    .map_or("–".to_owned(), |(column, name)| { format!("{} ({name})", time(column.seconds)) }),
                peer(row.freed),
                row.ratio().map_or("–".to_owned(), |ratio| format!("{ratio:.2}×")),
                row.bound_seconds.zip(row.rate).map_or("–".to_owned(), |(seconds, rate)| {
                    format!("{} at {:.0} G/s", time(seconds), rate / 1e9)
                }),
                row.share_of_bound().map_or("–".to_owned(), |share| format!("{:.0} %", 100.0 * share)),
            )?;
        }
        Ok(())
    }
}

/// Seconds for people.
fn time(seconds: f64) -> String {
    match seconds {
        s if s >= 10.0 => format!("{s:.1} s"),
        s if s >= 0.01 => format!("{:.0} ms", s * 1e3),
        s => format!("{:.2} ms", s * 1e3),
    }
}
