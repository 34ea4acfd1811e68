//! Writes a checkpoint on a thread of its own, while training goes on: rank 0 its files and then the folder's name, every other rank its
//! files into that folder.
//!
//! Ranks tell each other nothing meanwhile: each leaves a note beside its files, with their hashes or that it has failed, and rank 0's thread
//! waits for all notes, takes them away, and gives the folder its name. No collective is pending.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::TrainError;
use super::snapshot::Snapshot;
use crate::checkpoint::{self, About, CheckpointError, Files, Progress};
use crate::device::{Device, Error};
use crate::model::ModelConfig;

/// What is done, for people.
pub(super) const WHAT: &str = "the saving of a checkpoint";
/// How often rank 0 looks for notes.
const LOOK: Duration = Duration::from_millis(10);

/// What rank 0 writes.
pub(super) struct Goal {
    /// The folder's name in the end.
    pub dir: PathBuf,
    pub config: ModelConfig,
    /// RGB in `[-1, 1]`, a row per colour.
    pub palette: Vec<[f32; 3]>,
    /// How far training has come, where moments are saved too.
    pub progress: Option<Progress>,
}

/// What a thread leaves.
pub(super) struct Written<D: Device> {
    /// How long it took; on other ranks than 0 their own files alone.
    pub outcome: Result<Duration, TrainError>,
    /// Memory for the next snapshot.
    pub buffers: Vec<D::Staging>,
}

/// A thread that writes a checkpoint.
pub(super) struct Writer<D: Device> {
    thread: JoinHandle<Written<D>>,
    /// Ends once this rank's own files are written.
    own: Receiver<()>,
    /// Set where others are waited for no longer.
    abandoned: Arc<AtomicBool>,
}

/// Rank 0's thread, which has made a folder and waits for what to put into it.
pub(super) struct Opened<D: Device> {
    writer: Writer<D>,
    give: Sender<Snapshot<D>>,
    /// The folder under its temporary name.
    pub folder: PathBuf,
}

impl<D: Device> Opened<D> {
    /// Makes the folder of a checkpoint of `files`, which `ranks` ranks write.
    ///
    /// # Errors
    /// A folder that cannot be made, a thread that cannot be started.
    pub fn start(goal: Goal, files: Arc<Files>, ranks: usize) -> Result<Self, TrainError> {
        let (tell, told) = channel();
        let (give, given) = channel::<Snapshot<D>>();
        let (own_done, own) = channel();
        let abandoned = Arc::new(AtomicBool::new(false));
        let (dir, is_abandoned) = (goal.dir.clone(), Arc::clone(&abandoned));

        let work = move || {
            let Goal { dir, config, palette, progress } = &goal;
            let about = About { config, palette: Some(palette), progress: *progress };
            let (mut buffers, mut start) = (Vec::new(), Instant::now());
            let saved = checkpoint::save_files(dir, &about, &files, |folder| {
                let _ = tell.send(folder.to_owned());
                let Ok(snapshot) = given.recv() else {
                    return Err(Error::unavailable("a checkpoint was begun and not taken", "").into());
                };
                start = Instant::now();
                let written = snapshot.write(&files, folder);
                buffers = snapshot.into_buffers();
                drop(own_done);
                // The folder stays until all have done with it, whatever came of this rank's files.
                let others = notes_of_others(folder, ranks, &is_abandoned);
                let mut hashes = written?;
                hashes.extend(others?);
                Ok::<_, TrainError>(hashes)
            });
            Written { outcome: saved.map(|()| start.elapsed()), buffers }
        };
        let thread = spawn(&dir, work)?;
        let writer = Writer { thread, own, abandoned };
        match told.recv() {
            Ok(folder) => Ok(Self { writer, give, folder }),
            // It ended before there was a folder.
            Err(_) => Err(writer.end().outcome.err().unwrap_or_else(lost)),
        }
    }

    /// Gives the thread what it waits for.
    pub fn write(self, snapshot: Snapshot<D>) -> Writer<D> {
        let _ = self.give.send(snapshot);
        self.writer
    }

    /// Gives it nothing, so it takes the folder away again.
    pub fn forget(self) {
        let Self { writer, give, .. } = self;
        drop(give);
        drop(writer.end());
    }
}

impl<D: Device> Writer<D> {
    /// Writes the files of rank `rank` into `folder`, which rank 0 has made.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn follow(snapshot: Snapshot<D>, files: Arc<Files>, folder: PathBuf, rank: usize) -> Result<Self, TrainError> {
        let (own_done, own) = channel();
        let place = folder.clone();
        let work = move || {
            let start = Instant::now();
            let written = snapshot.write(&files, &folder);
            let left = leave_note(&folder, rank, written.as_deref().ok());
            drop(own_done);
            let outcome = written.map(drop).and(left).map(|()| start.elapsed());
            Written { outcome: outcome.map_err(TrainError::from), buffers: snapshot.into_buffers() }
        };
        Ok(Self { thread: spawn(&place, work)?, own, abandoned: Arc::default() })
    }

    /// Whether the thread has ended.
    pub fn is_done(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until this rank's own files are written, or cannot be.
    pub fn wait_for_own(&self) {
        let _ = self.own.recv();
    }

    /// Waits until all of it is done.
    pub fn wait(&self) {
        self.wait_at_most(Duration::MAX);
    }

    /// Waits at most `limit` for that.
    pub fn wait_at_most(&self, limit: Duration) {
        let start = Instant::now();
        while !self.is_done() && start.elapsed() < limit {
            std::thread::sleep(LOOK);
        }
    }

    /// Waits for no other rank from here on.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// What the thread leaves, once it has ended.
    pub fn end(self) -> Written<D> {
        self.thread.join().unwrap_or_else(|_| Written { outcome: Err(lost()), buffers: Vec::new() })
    }
}

/// Of a thread that has panicked.
fn lost() -> TrainError {
    Error::unavailable("the thread that writes checkpoints has ended by itself", "report this as a bug").into()
}

fn spawn<T: Send + 'static>(
    dir: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, TrainError> {
    let started = Builder::new().name("checkpoint".to_owned()).spawn(work);
    started.map_err(|source| TrainError::Write { path: dir.to_owned(), source })
}

/// Where a rank says what it has written.
fn note_of(folder: &Path, rank: usize) -> PathBuf {
    folder.join(format!("rank-{rank}.written"))
}

/// What a note says of a rank that has failed.
const FAILED: &str = "failed";

/// Leaves word of the files that were `written`, or that they could not be: appears whole.
pub(super) fn leave_note(
    folder: &Path,
    rank: usize,
    written: Option<&[(usize, String)]>,
) -> Result<(), CheckpointError> {
    let line = |(place, hash): &(usize, String)| format!("{place} {hash}\n");
    let text = written.map_or(FAILED.to_owned(), |written| written.iter().map(line).collect());
    let (note, part) = (note_of(folder, rank), folder.join(format!("rank-{rank}.part")));
    fs::write(&part, text).map_err(CheckpointError::io("write", &part))?;
    fs::rename(&part, &note).map_err(CheckpointError::io("rename to", &note))
}

/// The hashes of the files of ranks other than 0 by their places, once all have left their notes, which are taken away.
fn notes_of_others(folder: &Path, ranks: usize, abandoned: &AtomicBool) -> Result<Vec<(usize, String)>, TrainError> {
    let mut waiting: Vec<usize> = (1..ranks).collect();
    let (mut hashes, mut failed) = (Vec::new(), None);
    loop {
        let mut left = Vec::new();
        for rank in waiting {
            let note = note_of(folder, rank);
            let Ok(text) = fs::read_to_string(&note) else {
                left.push(rank);
                continue;
            };
            fs::remove_file(&note).map_err(CheckpointError::io("remove", &note))?;
            if text == FAILED {
                failed.get_or_insert(rank);
            }
            let entry = |line: &str| {
                line.split_once(' ').and_then(|(place, hash)| Some((place.parse().ok()?, hash.to_owned())))
            };
            hashes.extend(text.lines().filter_map(entry));
        }
        waiting = left;

        let Some(first) = waiting.first() else { break };
        if abandoned.load(Ordering::Relaxed) {
            return Err(Error::Peer(format!("rank {first} had not written its part of a checkpoint yet")).into());
        }
        if !folder.is_dir() {
            let source = io::Error::from(io::ErrorKind::NotFound);
            return Err(CheckpointError::io("list", folder)(source).into());
        }
        std::thread::sleep(LOOK);
    }
    match failed {
        None => Ok(hashes),
        Some(rank) => Err(Error::Peer(format!("rank {rank} failed at {WHAT}, as it says itself")).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_of_all_ranks_are_waited_for_and_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let hash = |place: usize| (place, format!("{place:064x}"));
        let never = AtomicBool::new(false);
        let found = std::thread::scope(|scope| {
            let late = || {
                std::thread::sleep(Duration::from_millis(50));
                leave_note(folder.path(), 2, Some(&[hash(5)])).unwrap();
            };
            leave_note(folder.path(), 1, Some(&[hash(1), hash(4)])).unwrap();
            scope.spawn(late);
            notes_of_others(folder.path(), 3, &never).unwrap()
        });
        assert_eq!(found, [hash(1), hash(4), hash(5)]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "a note was left in the checkpoint");

        // One that failed is named once all have come, and one that never comes when nobody waits any more.
        leave_note(folder.path(), 1, None).unwrap();
        leave_note(folder.path(), 2, Some(&[])).unwrap();
        let error = notes_of_others(folder.path(), 3, &never).unwrap_err().to_string();
        assert!(error.contains("rank 1 failed at the saving of a checkpoint"), "{error}");
        leave_note(folder.path(), 1, Some(&[])).unwrap();
        let error = notes_of_others(folder.path(), 3, &AtomicBool::new(true)).unwrap_err().to_string();
        assert!(error.contains("rank 2 had not written"), "{error}");
        let gone = folder.path().join("gone");
        assert!(matches!(notes_of_others(&gone, 2, &never), Err(TrainError::Checkpoint(CheckpointError::Io { .. }))));
    }
}
