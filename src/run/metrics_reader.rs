//! `metrics.jsonl`, read line by line: however long a run, one line is in memory.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::folder::RunFolderError;
use super::metrics::Record;

/// Bytes of a line up to which it can be a record.
const MAX_LINE: u64 = 1 << 16;
/// Bytes read at a time.
const BUFFER: usize = 1 << 18;

/// All records in order. A torn last line is ignored, and a file that is not there has none; any other line that is not a
/// record is an error with its number, and the end.
#[derive(Debug)]
pub struct MetricsReader {
    path: PathBuf,
    /// `None` at the end.
    file: Option<BufReader<File>>,
    line: Vec<u8>,
    /// Lines and bytes read.
    lines: usize,
    bytes: u64,
}

impl MetricsReader {
    /// Opens a log.
    ///
    /// # Errors
    /// [`RunFolderError::Io`].
    pub fn open(path: &Path) -> Result<Self, RunFolderError> {
        let file = match fs::metadata(path) {
            Ok(there) if there.is_file() => File::open(path).map(Some),
            // A pipe or a device holds nothing.
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let file = file.map_err(|source| RunFolderError::Io { action: "read", path: path.to_owned(), source })?;
        let file = file.map(|file| BufReader::with_capacity(BUFFER, file));
        Ok(Self { path: path.to_owned(), file, line: Vec::new(), lines: 0, bytes: 0 })
    }

    /// The line that the last record was read from, without its end.
    pub(super) fn line(&self) -> &[u8] {
        &self.line
    }

    /// Where in the file that line ends.
    pub(super) fn line_end(&self) -> u64 {
        self.bytes
    }

    fn next_record(&mut self) -> Result<Option<Record>, RunFolderError> {
        if !self.read_line()? {
            return Ok(None);
        }
        if let Ok(record) = Record::parse(&self.line) {
            return Ok(Some(record));
        }
        // After a power cut the last newline may have reached the disk before what precedes it.
        let line = self.lines;
        if self.read_line()? { Err(RunFolderError::Metrics { path: self.path.clone(), line }) } else { Ok(None) }
    }

    /// Reads the next line. It counts once its newline is there: whatever follows the last one is torn, and gives `false`.
    fn read_line(&mut self) -> Result<bool, RunFolderError> {
        let Some(file) = &mut self.file else { return Ok(false) };
        self.line.clear();
        self.lines += 1;

        loop {
            let part = file.by_ref().take(MAX_LINE).read_until(b'\n', &mut self.line);
            let read = part.map_err(|source| RunFolderError::Io { action: "read", path: self.path.clone(), source })?;
            self.bytes += read as u64;
            if self.line.pop_if(|last| *last == b'\n').is_some() {
                return Ok(true);
            }
            if (read as u64) < MAX_LINE {
                return Ok(false);
            }
            // Too long: what follows must not be taken for the whole.
            self.line.clear();
            self.line.push(b'?');
        }
    }
}

impl Iterator for MetricsReader {
    type Item = Result<Record, RunFolderError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_record().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.file = None;
        }
        next
    }
}

/// Copies to `out` the lines of the log at `path` that `keeps` keeps, as they are.
pub(super) fn copy_lines(path: &Path, out: &mut dyn io::Write, keeps: impl Fn(&Record) -> bool) -> io::Result<()> {
    let mut reader = MetricsReader::open(path).map_err(io::Error::other)?;
    while let Some(record) = reader.next() {
        if keeps(&record.map_err(io::Error::other)?) {
            out.write_all(reader.line())?;
            out.write_all(b"\n")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::metrics::TrainRecord;

    const STEP: &str = "{\"step\":1,\"loss\":1,\"lr\":1,\"grad_norm\":1,\"tokens_per_second\":1,\"elapsed\":1}\n";

    /// The steps of the records in a file with `content`, or why they cannot be read.
    fn steps(content: &[u8]) -> Result<Vec<u64>, String> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("metrics.jsonl");
        fs::write(&path, content).unwrap();
        let records: Result<Vec<Record>, _> = MetricsReader::open(&path).unwrap().collect();
        records.map(|records| records.iter().map(Record::step).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_bad_line_in_the_middle_is_named_and_at_the_end_ignored() {
        assert_eq!(steps(b""), Ok(vec![]));
        assert_eq!(steps(format!("{STEP}{STEP}").as_bytes()), Ok(vec![1, 1]));
        for torn in ["{", "\0\0\n", "{\n{", "\n", "\n\0"] {
            assert_eq!(steps(format!("{STEP}{torn}").as_bytes()), Ok(vec![1]), "{torn:?}");
        }
        assert!(steps(format!("{STEP}{{\n{STEP}").as_bytes()).unwrap_err().contains("line 2"));
        assert!(steps(b"{\"step\":1}\n{\"step\":2}\n").unwrap_err().contains("line 1"));
    }

    #[test]
    fn a_line_of_any_length_is_read_in_little_memory() {
        let long = vec![b'0'; 5 * MAX_LINE as usize];
        let with = |parts: &[&[u8]]| steps(&parts.concat());
        assert_eq!(with(&[STEP.as_bytes(), &long]), Ok(vec![1]));
        assert_eq!(with(&[STEP.as_bytes(), &long, b"\n"]), Ok(vec![1]));
        // Even if its end looks like a record.
        assert!(with(&[&long, STEP.as_bytes(), STEP.as_bytes()]).unwrap_err().contains("line 1"));
        let blanks = vec![b' '; MAX_LINE as usize];
        assert!(with(&[&blanks, STEP.as_bytes(), STEP.as_bytes()]).unwrap_err().contains("line 1"));

        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("metrics.jsonl");
        fs::write(&path, [&long[..], b"\n"].concat().repeat(2)).unwrap();
        let mut reader = MetricsReader::open(&path).unwrap();
        assert!(reader.next().unwrap().is_err() && reader.next().is_none());
        assert!(reader.line.capacity() <= 4 * MAX_LINE as usize);
    }

    #[test]
    fn a_file_that_is_not_there_and_a_device_have_no_records() {
        assert!(MetricsReader::open(Path::new("no/such/file")).unwrap().next().is_none());
        #[cfg(unix)]
        assert!(MetricsReader::open(Path::new("/dev/zero")).unwrap().next().is_none());
    }

    #[test]
    fn lines_are_copied_as_they_are() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("metrics.jsonl");
        let spaced = STEP.replace(':', " : ");
        let second = Record::Train(TrainRecord { step: 2, ..TrainRecord::default() }).line().unwrap();
        fs::write(&path, [spaced.as_bytes(), &second, STEP.as_bytes(), b"torn"].concat()).unwrap();
        let mut copy = Vec::new();
        copy_lines(&path, &mut copy, |record| record.step() < 2).unwrap();
        assert_eq!(copy, [spaced.as_bytes(), STEP.as_bytes()].concat());
    }
}
