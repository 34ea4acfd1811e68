//! `metrics.jsonl`, written: a line per record, made to survive kills.
//!
//! Lines are appended whole. A kill can tear the last one, and can leave lines past the last checkpoint: reading ignores a torn
//! end, and resuming cuts both off. Neither holds more than a line in memory, however long the run.

use std::path::Path;

use super::folder::RunFolderError;
use super::growing_file::GrowingFile;
use super::metrics::Record;
use super::metrics_reader::{MetricsReader, copy_lines};
use crate::fs::atomic_file;

/// `metrics.jsonl`, open for appending.
#[derive(Debug)]
pub struct MetricsLog {
    file: GrowingFile,
    /// Training steps that the file held when it was opened.
    steps: u64,
    /// Energy that they took, joules.
    joules: f64,
}

/// What of a log is kept.
#[derive(Debug, Default, PartialEq)]
struct Kept {
    /// Records of training steps.
    steps: u64,
    /// The last sum of energy among them, joules.
    joules: f64,
    /// Bytes up to the end of the last record that is kept.
    bytes: u64,
    /// Whether there is something in between that is not.
    has_gaps: bool,
}

impl MetricsLog {
    /// Starts an empty log; one that was there is emptied.
    pub fn create(path: &Path) -> Result<Self, RunFolderError> {
        Self::resume(path, None)
    }

    /// Goes on with the log of a run that is resumed after `step` updates; what it holds of later steps is dropped, and
    /// what it keeps stays byte for byte. `None` drops everything.
    pub fn resume(path: &Path, step: Option<u64>) -> Result<Self, RunFolderError> {
        // Every line is looked at, so that one that cannot be read is found before the run goes on and not at its end.
        let is_kept = |record: &Record| step.is_some_and(|step| record.step() <= step);
        let kept = match step {
            Some(_) => kept(path, is_kept)?,
            None => Kept::default(),
        };

        let done = if kept.has_gaps {
            atomic_file::write_file(path, |out| copy_lines(path, out, is_kept))
        } else {
            atomic_file::cut(path, kept.bytes)
        };
        done.map_err(|source| RunFolderError::Io { action: "write", path: path.to_owned(), source })?;
        Ok(Self { file: GrowingFile::open(path)?, steps: kept.steps, joules: kept.joules })
    }

    /// Steps that the file held when it was opened: all that were made, unless somebody has shortened it.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Joules that the card had used when the file was opened, as far as it was measured.
    pub fn joules(&self) -> f64 {
        self.joules
    }

    /// Whether the file is still in the run folder.
    pub(super) fn is_in_place(&self) -> bool {
        self.file.is_in_place()
    }

    /// Writes the file again, with its lines so far, where it has been removed.
    pub(super) fn put_back(&mut self) -> Result<(), RunFolderError> {
        self.file.put_back()
    }

    /// Appends one line, in one write.
    pub fn append(&mut self, record: &Record) -> Result<(), RunFolderError> {
        self.file.append(record.line().map_err(Into::into))
    }

    /// Waits until all lines are on the disk: a checkpoint that outlives a power cut vouches for the lines before it.
    pub fn sync(&self) -> Result<(), RunFolderError> {
        self.file.sync()
    }
}

/// Reads a log through.
fn kept(path: &Path, is_kept: impl Fn(&Record) -> bool) -> Result<Kept, RunFolderError> {
    let mut reader = MetricsReader::open(path)?;
    let (mut kept, mut before) = (Kept::default(), 0);
    while let Some(record) = reader.next() {
        let record = record?;
        if is_kept(&record) {
            kept.has_gaps |= before > kept.bytes;
            kept.bytes = reader.line_end();
            if let Record::Train(step) = record {
                kept.steps += 1;
                kept.joules = step.gpu.and_then(|gpu| gpu.joules).unwrap_or(kept.joules);
            }
        }
        before = reader.line_end();
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::run::metrics::{TrainRecord, ValidationRecord};

    fn read(path: &Path) -> Vec<Record> {
        MetricsReader::open(path).unwrap().collect::<Result<_, _>>().unwrap()
    }

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
        assert_eq!(read(&path), []);
        let mut log = MetricsLog::create(&path).unwrap();
        let all = [validation(0), train(1), train(2), validation(2), train(3)];
        all.iter().for_each(|record| log.append(record).unwrap());
        assert_eq!(read(&path), all);
        let whole = fs::read(&path).unwrap();
        // Torn anywhere within the last line, the lines before it are all there.
        let last_line = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        for cut in last_line..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(read(&path), all[..4], "cut at {cut}");
        }
        let mut log = MetricsLog::resume(&path, Some(1)).unwrap();
        log.append(&train(2)).unwrap();
        assert_eq!(read(&path), [validation(0), train(1), train(2)]);
    }

    /// What resuming leaves of `text`, by the whole text at once: its lines of up to `step`; how many of them are training
    /// steps. `None` where a line in the middle is no record.
    fn resumed_at_once(text: &str, step: u64) -> Option<(String, u64)> {
        let mut lines: Vec<&str> = text.split('\n').collect();
        lines.pop();
        let mut records: Vec<(&str, Option<Record>)> =
            lines.into_iter().map(|line| (line, serde_json::from_str(line).ok())).collect();
        records.pop_if(|(_, record)| record.is_none());
        let records: Option<Vec<_>> = records.into_iter().map(|(line, record)| Some((line, record?))).collect();

        let kept: Vec<_> = records?.into_iter().filter(|(_, record)| record.step() <= step).collect();
        let steps = kept.iter().filter(|(_, record)| matches!(record, Record::Train(_))).count() as u64;
        Some((kept.into_iter().map(|(line, _)| format!("{line}\n")).collect(), steps))
    }

    /// A line: of a step, with blanks as somebody may have put them, or none at all.
    fn line() -> impl Strategy<Value = (u64, bool, u8)> {
        (0_u64..4, any::<bool>(), prop_oneof![8 => Just(0_u8), 2 => Just(1_u8), 1 => Just(2_u8)])
    }

    proptest! {
        #[test]
        fn resuming_keeps_what_reading_the_whole_file_would_keep(
            lines in proptest::collection::vec(line(), 0..12),
            shuffled in any::<bool>(),
            step in 0_u64..14,
            cut in any::<prop::sample::Index>(),
            linked in any::<bool>(),
        ) {
            // Steps rise, or not; then everything is cut at some byte.
            let mut at = 0;
            let mut text = String::new();
            for (rise, is_validation, form) in lines {
                at = if shuffled { rise * 3 } else { at + rise };
                let record = if is_validation { validation(at) } else { train(at) };
                let line = serde_json::to_string(&record).unwrap();
                text.push_str(&match form { 0 => line, 1 => line.replace(',', " , "), _ => line.replace('"', "") });
                text.push('\n');
            }
            text.truncate(cut.index(text.len() + 1));

            let place = tempfile::tempdir().unwrap();
            let (path, other) = (place.path().join("metrics.jsonl"), place.path().join("other"));
            fs::write(&path, &text).unwrap();
            if linked {
                fs::hard_link(&path, &other).unwrap();
            }
            match (MetricsLog::resume(&path, Some(step)), resumed_at_once(&text, step)) {
                (Ok(mut log), Some((kept, steps))) => {
                    prop_assert_eq!(log.steps(), steps);
                    prop_assert_eq!(&fs::read_to_string(&path).unwrap(), &kept);
                    // It goes on behind that, and is whole after it was removed.
                    log.append(&train(step + 1)).unwrap();
                    fs::remove_file(&path).unwrap();
                    log.put_back().unwrap();
                    log.append(&train(step + 2)).unwrap();
                    let more = [train(step + 1), train(step + 2)].map(|record| record.line().unwrap()).concat();
                    prop_assert_eq!(fs::read(&path).unwrap(), [kept.into_bytes(), more].concat());
                }
                (Err(RunFolderError::Metrics { .. }), None) => prop_assert_eq!(&fs::read_to_string(&path).unwrap(), &text),
                (log, expected) => prop_assert!(false, "{log:?} instead of {expected:?}"),
            }
            if linked {
                prop_assert_eq!(fs::read_to_string(&other).unwrap(), text);
            }
        }
    }
}
