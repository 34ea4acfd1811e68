//! `metrics.jsonl`: a line per training step and per validation, made to survive kills.
//!
//! Lines are appended whole. A kill can tear the last one, and can leave lines past the last checkpoint: reading
//! ignores a torn end, and resuming drops both.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use super::folder::RunFolderError;
use crate::fs::atomic_file;

/// One training step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainRecord {
    /// Updates made, this one included.
    pub step: u64,
    /// Loss of the step's batch before the update: nats per token, or in fine-tuning the weighted sum of the next two.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// Fine-tuning: the generative loss, nats per token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generative_loss: Option<f64>,
    /// Fine-tuning: the cross-entropy of the class head, nats per image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_loss: Option<f64>,
    /// Learning rate of the update.
    #[serde(deserialize_with = "number")]
    pub lr: f64,
    /// Global gradient norm before clipping.
    #[serde(deserialize_with = "number")]
    pub grad_norm: f64,
    /// Tokens trained on per second.
    #[serde(deserialize_with = "number")]
    pub tokens_per_second: f64,
    /// Seconds of training, over all sessions.
    #[serde(deserialize_with = "number")]
    pub elapsed: f64,
}

/// One validation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationRecord {
    /// Updates made before it.
    pub step: u64,
    /// Nats per token on the validation images.
    #[serde(deserialize_with = "number")]
    pub val_loss: f64,
    /// Entropy of the validation tokens' histogram, nats.
    #[serde(deserialize_with = "number")]
    pub unigram_entropy: f64,
    /// Fine-tuning: the cross-entropy of the class head, nats per image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_loss: Option<f64>,
    /// Fine-tuning: fraction of the validation images that are classified correctly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Images scored.
    pub images: usize,
    /// Seconds of training, over all sessions.
    #[serde(deserialize_with = "number")]
    pub elapsed: f64,
}

impl TrainRecord {
    /// The generative loss, nats per token: all of the loss in pre-training.
    pub fn generative(&self) -> f64 {
        // Without a generative part the sum is all class loss.
        self.generative_loss.unwrap_or(if self.class_loss.is_some() { f64::NAN } else { self.loss })
    }
}

/// A line of `metrics.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Record {
    /// `{"step", "loss", "lr", "grad_norm", "tokens_per_second", "elapsed"}`, in fine-tuning `"generative_loss"` and
    /// `"class_loss"` too
    Train(TrainRecord),
    /// `{"step", "val_loss", "unigram_entropy", "images", "elapsed"}`, in fine-tuning `"class_loss"` and `"accuracy"`
    /// too
    Validation(ValidationRecord),
}

impl Record {
    /// The step it belongs to.
    pub fn step(&self) -> u64 {
        match self {
            Record::Train(record) => record.step,
            Record::Validation(record) => record.step,
        }
    }
}

/// JSON has no NaN and no infinity; they are written as null.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// Reads all records in order. A torn last line is ignored, a file that is not there has none; any other line that
/// is not a record is an error with its number.
pub fn read(path: &Path) -> Result<Vec<Record>, RunFolderError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(RunFolderError::Io { action: "read", path: path.to_owned(), source }),
    };

    // A line counts once its newline is there; whatever follows the last newline is torn.
    let mut lines: Vec<_> = text.split(|byte| *byte == b'\n').collect();
    lines.pop();

    let last = lines.len();
    let mut records = Vec::with_capacity(last);
    for (line, number) in lines.into_iter().zip(1..) {
        match serde_json::from_slice(line) {
            Ok(record) => records.push(record),
            // After a power cut the newline may have reached the disk before what precedes it.
            Err(_) if number == last => {}
            Err(_) => return Err(RunFolderError::Metrics { path: path.to_owned(), line: number }),
        }
    }
    Ok(records)
}

/// `metrics.jsonl`, open for appending.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
}

impl MetricsLog {
    /// Starts an empty log; one that was there is emptied.
    pub fn create(path: &Path) -> Result<Self, RunFolderError> {
        Self::resume(path, None)
    }

    /// Goes on with the log of a run that is resumed after `step` updates; what it holds of later steps is dropped.
    /// `None` drops everything.
    pub fn resume(path: &Path, step: Option<u64>) -> Result<Self, RunFolderError> {
        let kept = match step {
            Some(step) => read(path)?.into_iter().filter(|record| record.step() <= step).collect(),
            None => Vec::new(),
        };

        atomic_file::write_file(path, |out| kept.iter().try_for_each(|record| out.write_all(&line_of(record)?)))
            .map_err(|source| RunFolderError::Io { action: "write", path: path.to_owned(), source })?;
        let file = OpenOptions::new().append(true).open(path);
        let file = file.map_err(|source| RunFolderError::Io { action: "open", path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends one line, in one write.
    pub fn append(&mut self, record: &Record) -> Result<(), RunFolderError> {
        let written = line_of(record).and_then(|line| self.file.write_all(&line));
        written.map_err(|source| RunFolderError::Io { action: "write", path: self.path.clone(), source })
    }

    /// Waits until all lines are on the disk: a checkpoint that outlives a power cut vouches for the lines before it.
    pub fn sync(&self) -> Result<(), RunFolderError> {
        let synced = self.file.sync_data();
        synced.map_err(|source| RunFolderError::Io { action: "sync", path: self.path.clone(), source })
    }
}

fn line_of(record: &Record) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn train(step: u64) -> Record {
        let loss = 1.0 / 3.0 + step as f64;
        let class_loss = (step == 2).then_some(0.1);
        let rest = TrainRecord { class_loss, ..TrainRecord::default() };
        Record::Train(TrainRecord {
            step,
            loss,
            lr: 1e-3,
            grad_norm: 0.1,
            tokens_per_second: 5.0,
            elapsed: 0.7,
            ..rest
        })
    }

    fn validation(step: u64) -> Record {
        let rest = ValidationRecord { accuracy: (step == 2).then_some(0.25), ..ValidationRecord::default() };
        let record = ValidationRecord { step, val_loss: 2.5, unigram_entropy: 5.0, images: 8, elapsed: 1.0, ..rest };
        Record::Validation(record)
    }

    #[test]
    fn records_survive_unchanged_and_tails_are_dropped() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("metrics.jsonl");
        assert_eq!(read(&path).unwrap(), []);
        let mut log = MetricsLog::create(&path).unwrap();
        let all = [validation(0), train(1), train(2), validation(2), train(3)];
        all.iter().for_each(|record| log.append(record).unwrap());
        assert_eq!(read(&path).unwrap(), all);
        let whole = std::fs::read(&path).unwrap();
        // Torn anywhere within the last line, the lines before it are all there.
        let last_line = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        for cut in last_line..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(read(&path).unwrap(), all[..4], "cut at {cut}");
        }
        let mut log = MetricsLog::resume(&path, Some(1)).unwrap();
        log.append(&train(2)).unwrap();
        assert_eq!(read(&path).unwrap(), [validation(0), train(1), train(2)]);
    }

    #[test]
    fn a_bad_line_in_the_middle_is_named() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("metrics.jsonl");
        std::fs::write(&path, "{\"step\":1}\n{\"step\":2}\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("line 1"));
    }

    #[test]
    fn not_a_number_is_kept_as_such() {
        let line = r#"{"step":1,"loss":null,"lr":1e-3,"grad_norm":null,"tokens_per_second":1,"elapsed":1}"#;
        let record: Record = serde_json::from_str(line).unwrap();
        assert!(matches!(record, Record::Train(train) if train.loss.is_nan() && train.lr == 1e-3));
    }
}
