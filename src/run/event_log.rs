//! The run's curves and pictures for TensorBoard: an event file per session, beside the other files of the run.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::event_file::{What, kept_bytes, record};
use super::folder::RunFolderError;
use super::growing_file::GrowingFile;
use super::metrics::Record;
use crate::fs::atomic_file;

/// Fields of a record that are no curves.
const NO_CURVES: [&str; 4] = ["step", "elapsed", "images", "slowest_rank"];

/// The event file of a session. It is made with its first event.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    /// Updates made before the session.
    start: u64,
    file: Option<GrowingFile>,
}

impl EventLog {
    /// Begins a session in the run folder `root` that goes on after `step` updates: what earlier sessions wrote of later steps
    /// is removed.
    ///
    /// # Errors
    /// [`RunFolderError::Io`].
    pub fn start(root: &Path, step: u64) -> Result<Self, RunFolderError> {
        let mut latest = 0;
        for (path, name) in event_files(root)? {
            let failed = |source| RunFolderError::Io { action: "shorten", path: path.clone(), source };
            if name.start >= step {
                fs::remove_file(&path).map_err(failed)?;
                continue;
            }
            latest = latest.max(name.seconds);
            let file = File::open(&path).map_err(failed)?;
            let kept = kept_bytes(&mut BufReader::with_capacity(1 << 18, file), step).map_err(failed)?;
            atomic_file::cut(&path, kept).map_err(failed)?;
        }

        // TensorBoard reads files in the order of their names, whatever the clock of this machine says.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let name = Name { seconds: now.max(latest + 1), start: step };
        Ok(Self { path: root.join(name.text()), start: step, file: None })
    }

    /// Appends what `record` measured: each of its fields is a curve, named `train/...` or `validation/...`.
    ///
    /// # Errors
    /// [`RunFolderError::Io`].
    pub fn append(&mut self, record: &Record) -> Result<(), RunFolderError> {
        let scalars = scalars(record).map_err(|error| self.failed(error.into()))?;
        self.write(record.step(), &What::Scalars(&scalars))
    }

    /// Appends a grid of samples: a PNG file of `size`, width and height.
    ///
    /// # Errors
    /// [`RunFolderError::Io`].
    pub fn append_grid(&mut self, step: u64, png: &[u8], size: [u32; 2]) -> Result<(), RunFolderError> {
        self.write(step, &What::Picture { tag: "samples/completions", png, size })
    }

    fn write(&mut self, step: u64, what: &What<'_>) -> Result<(), RunFolderError> {
        if self.file.is_none() {
            let [version, start] =
                [(0, What::Version), (self.start + 1, What::SessionStart)].map(|(step, what)| record(step, &what));
            // The first session of a run has none to go on from.
            let head = if self.start == 0 { version } else { [version, start].concat() };
            let made = atomic_file::write_file(&self.path, |file| file.write_all(&head));
            made.map_err(|source| self.failed(source))?;
            self.file = Some(GrowingFile::open(&self.path)?);
        }
        self.file.as_mut().map_or(Ok(()), |file| file.append(Ok(record(step, what))))
    }

    /// Waits until all is on the disk.
    ///
    /// # Errors
    /// [`RunFolderError::Io`].
    pub fn sync(&self) -> Result<(), RunFolderError> {
        self.file.as_ref().map_or(Ok(()), GrowingFile::sync)
    }

    /// Whether the file, if it was begun, is still in the run folder.
    pub(super) fn is_in_place(&self) -> bool {
        self.file.as_ref().is_none_or(GrowingFile::is_in_place)
    }

    /// Writes the file again, with its events so far, where it has been removed.
    pub(super) fn put_back(&mut self) -> Result<(), RunFolderError> {
        self.file.as_mut().map_or(Ok(()), GrowingFile::put_back)
    }

    fn failed(&self, source: io::Error) -> RunFolderError {
        RunFolderError::Io { action: "write", path: self.path.clone(), source }
    }
}

/// The curves that a record continues, by the names that it gives its fields in `metrics.jsonl`.
fn scalars(record: &Record) -> serde_json::Result<Vec<(String, f64)>> {
    let kind = match record {
        Record::Train(_) => "train",
        Record::Validation(_) => "validation",
    };
    let Value::Object(mut fields) = serde_json::to_value(record)? else { return Ok(Vec::new()) };
    // The card's sensors are curves of their own.
    let sensors = match fields.remove("gpu") {
        Some(Value::Object(sensors)) => sensors,
        _ => Map::new(),
    };
    let curves = fields.into_iter().filter(|(name, _)| !NO_CURVES.contains(&name.as_str()));
    // Both kinds have a loss, and one name for it puts them side by side.
    let named = |(name, value): (String, Value)| {
        Some((format!("{kind}/{}", name.strip_prefix("val_").unwrap_or(&name)), height(&value)?))
    };
    let of_card = |(name, value): (String, Value)| Some((format!("gpu/{name}"), height(&value)?));
    Ok(curves.filter_map(named).chain(sensors.into_iter().filter_map(of_card)).collect())
}

/// Where a value stands on its curve; words stand on none. JSON has null for what is not a number, and a list stands for its
/// length: of reasons why a card is throttled, how many there are.
fn height(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::Null => Some(f64::NAN),
        Value::Array(list) => Some(list.len() as f64),
        Value::Bool(_) | Value::String(_) | Value::Object(_) => None,
    }
}

/// What the name of an event file says. TensorBoard knows files by the first words of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    /// When it was begun, seconds of Unix time; later than the files before it.
    seconds: u64,
    /// Updates made before its session.
    start: u64,
}

impl Name {
    const PREFIX: &str = "events.out.tfevents.";
    const INFIX: &str = ".igpt-engine.";

    fn text(self) -> String {
        format!("{}{:010}{}{:08}", Self::PREFIX, self.seconds, Self::INFIX, self.start)
    }

    fn parse(text: &str) -> Option<Self> {
        let (seconds, start) = text.strip_prefix(Self::PREFIX)?.split_once(Self::INFIX)?;
        Some(Self { seconds: seconds.parse().ok()?, start: start.parse().ok()? })
    }
}

/// The event files that the engine has written into `root`.
fn event_files(root: &Path) -> Result<Vec<(PathBuf, Name)>, RunFolderError> {
    let entries: io::Result<Vec<PathBuf>> =
        fs::read_dir(root).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let entries = entries.map_err(|source| RunFolderError::Io { action: "list", path: root.to_owned(), source })?;
    let named = |path: PathBuf| Some((Name::parse(path.file_name()?.to_str()?)?, path));
    Ok(entries.into_iter().filter_map(named).map(|(name, path)| (path, name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::nvml::{Reading, Throttle};
    use crate::run::metrics::{PeakSource, TrainRecord, ValidationRecord};

    fn step(step: u64) -> Record {
        Record::Train(TrainRecord { step, ..TrainRecord::default() })
    }

    /// The event files in a folder, in TensorBoard's order: the step that each begins after, and its bytes.
    fn files(root: &Path) -> Vec<(u64, Vec<u8>)> {
        let mut files = event_files(root).unwrap();
        files.sort();
        files.into_iter().map(|(path, name)| (name.start, fs::read(path).unwrap())).collect()
    }

    #[test]
    fn every_field_but_counters_is_a_curve() {
        let names = |record| scalars(&record).unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let train = ["train/grad_norm", "train/loss", "train/lr", "train/tokens_per_second"];
        let mut found = names(step(1));
        found.sort();
        assert_eq!(found, train);
        let tuned = ValidationRecord { class_loss: Some(1.0), accuracy: Some(0.5), ..ValidationRecord::default() };
        let mut found = names(Record::Validation(tuned));
        found.sort();
        let expected =
            ["validation/accuracy", "validation/class_loss", "validation/loss", "validation/unigram_entropy"];
        assert_eq!(found, expected);
        // The card's sensors; the source of the peak is no number.
        let reading =
            Reading { watts: Some(310.0), throttled_by: Some(Throttle(0x24)), joules: Some(7.0), ..Reading::default() };
        let watched = TrainRecord { step: 1, gpu: Some(reading), peak: PeakSource::Measured, ..TrainRecord::default() };
        let mut found = scalars(&Record::Train(watched)).unwrap();
        found.retain(|(name, _)| !train.contains(&name.as_str()));
        let expected = [("gpu/joules", 7.0), ("gpu/throttled_by", 2.0), ("gpu/watts", 310.0)];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value)));
        let nan = TrainRecord { loss: f64::NAN, ..TrainRecord::default() };
        assert!(
            scalars(&Record::Train(nan)).unwrap().iter().any(|(name, value)| name == "train/loss" && value.is_nan())
        );
    }

    #[test]
    fn a_session_takes_back_what_earlier_ones_wrote_beyond_its_start() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        let session = |from: u64, to: u64| {
            let mut log = EventLog::start(root, from).unwrap();
            (from + 1..=to).for_each(|at| log.append(&step(at)).unwrap());
            log.sync().unwrap();
        };
        let starts = || files(root).iter().map(|(start, _)| *start).collect::<Vec<_>>();
        let sizes = || files(root).iter().map(|(_, bytes)| bytes.len()).collect::<Vec<_>>();

        // A session that makes no step writes nothing.
        session(0, 0);
        assert_eq!(starts(), [0_u64; 0]);
        session(0, 2);
        let two = sizes()[0];
        session(2, 5);
        session(5, 6);
        assert_eq!(starts(), [0, 2, 5]);

        // From the middle of the second: the third is void.
        let before = sizes();
        session(3, 3);
        assert_eq!(starts(), [0, 2]);
        assert!(sizes()[0] == two && sizes()[1] < before[1]);

        // From the middle of the first, whose last event is torn.
        let (path, _) = event_files(root).unwrap().into_iter().find(|(_, name)| name.start == 0).unwrap();
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..two - 1]).unwrap();
        session(2, 4);
        assert_eq!(starts(), [0, 2]);
        assert!(whole.starts_with(&files(root)[0].1) && sizes()[0] < two - 1);

        // A new run in the folder.
        fs::write(root.join("events.out.tfevents.1700000000.host"), "of another program").unwrap();
        session(0, 1);
        assert_eq!(starts(), [0]);
        assert!(root.join("events.out.tfevents.1700000000.host").exists());
    }

    #[test]
    fn files_are_read_in_the_order_of_their_sessions_though_the_clock_goes_wrong() {
        let place = tempfile::tempdir().unwrap();
        let ahead = Name { seconds: 9_000_000_000, start: 0 };
        fs::write(place.path().join(ahead.text()), record(0, &What::Version)).unwrap();
        EventLog::start(place.path(), 3).unwrap().append(&step(4)).unwrap();
        assert_eq!(files(place.path()).iter().map(|(start, _)| *start).collect::<Vec<_>>(), [0, 3]);
        assert_eq!(Name::parse(&ahead.text()), Some(ahead));
    }
}
