//! `metrics.jsonl`: a line of JSON per step and per validation, for plots and scripts.
//!
//! A killed process can leave a torn last line, and lines of steps that no checkpoint holds; resuming drops both, so that the
//! file reads as if the run had never stopped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[allow(missing_docs)] // the fields are documented where they are measured: StepOutcome, Pace, Evaluation
pub enum Record {
    /// A step was taken.
    Step { step: u64, loss: f64, lr: f64, grad_norm: f64, tokens_per_second: f64, elapsed: f64 },
    /// The validation images were scored.
    Validation { step: u64, val_loss: f64, unigram_entropy: f64, images: usize, elapsed: f64 },
}

impl Record {
    /// The step after which the record was made.
    pub fn step(&self) -> u64 {
        match self {
            Record::Step { step, .. } | Record::Validation { step, .. } => *step,
        }
    }
}

/// Reads all whole lines; a torn or foreign one ends the reading.
///
/// # Errors
/// Those of the file system; a missing file has no lines.
pub fn read(path: &Path) -> io::Result<Vec<Record>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    // What follows the last line break was cut off while it was written.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let lines = bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    Ok(lines.map_while(|line| serde_json::from_slice(line).ok()).collect())
}

/// The file, open for the lines to come.
#[derive(Debug)]
pub struct MetricsLog {
    file: File,
}

impl MetricsLog {
    /// Opens the file to go on after `step`: later lines, and a torn one, are dropped first.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(path: &Path, step: u64) -> io::Result<Self> {
        let mut kept = Vec::new();
        for record in read(path)?.iter().filter(|record| record.step() <= step) {
            serde_json::to_writer(&mut kept, record)?;
            kept.push(b'\n');
        }
        let aside = path.with_extension("jsonl.tmp");
        fs::write(&aside, kept)?;
        fs::rename(&aside, path)?;
        Ok(Self { file: OpenOptions::new().append(true).open(path)? })
    }

    /// Adds a line, in one write.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.file.write_all(&line)
    }

    /// Waits until all lines are on the disk.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64) -> Record {
        Record::Step { step, loss: 0.1 + 0.2, lr: 1e-3, grad_norm: 3.0, tokens_per_second: 1e4, elapsed: 0.5 }
    }

    #[test]
    fn resuming_drops_later_and_torn_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut log = MetricsLog::open(&path, 0).unwrap();
        let validation = Record::Validation { step: 2, val_loss: 4.5, unigram_entropy: 6.0, images: 7, elapsed: 1.0 };
        for record in [step(1), step(2), validation.clone(), step(3)] {
            log.append(&record).unwrap();
        }
        log.file.write_all(b"{\"step\":4,\"lo").unwrap();
        assert_eq!(read(&path).unwrap().len(), 4);
        let mut log = MetricsLog::open(&path, 2).unwrap();
        log.append(&step(3)).unwrap();
        assert_eq!(read(&path).unwrap(), [step(1), step(2), validation, step(3)]);
    }

    #[test]
    fn a_missing_file_has_no_lines() {
        assert_eq!(read(Path::new("no/such/metrics.jsonl")).unwrap(), []);
    }
}
