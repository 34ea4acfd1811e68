//! Checkpoints of the loop: several ranks write one together, each its own files, and rank 0 gives it its name once all are there.
//!
//! Either each rank copies what it writes to the host, and a thread writes it while training goes on ([`super::writer`]); or, where the
//! host has no memory for that or it is not wanted, training stands still, and tensors come to the host one at a time. The files are the
//! same, to the bit.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::collect::Collector;
use super::snapshot::Snapshot;
use super::together::Together;
use super::training_loop::{Records, TrainingLoop};
use super::writer::{Goal, Opened, WHAT, Writer, leave_note};
use super::{Events, TrainError};
use crate::checkpoint::{self, About, Files, MAX_SHARD_SIZE, Progress};
use crate::device::{Device, Error};
use crate::eval::score;

/// Bytes of a file's hash.
const HASH: usize = 32;

impl<D: Device> TrainingLoop<'_, D> {
    /// Writes a checkpoint, after which the oldest is removed, or begins to: all ranks together.
    pub(super) fn save(&mut self, events: &mut dyn Events) -> Result<(), TrainError> {
        let start = Instant::now();
        self.progress.spikes = self.trainer.known_for_spikes()?;
        self.led("the look at the weights before a checkpoint", |it| it.prepare_saving(events))?;
        let path = self.records.as_ref().map(|records| records.folder.checkpoint(self.progress.step));
        self.write(path, Some(self.progress), start, events)
    }

    /// The same by rank 0 alone, which has all there is.
    pub(super) fn save_alone(&mut self, events: &mut dyn Events) -> Result<(), TrainError> {
        let start = Instant::now();
        self.progress.spikes = self.trainer.known_for_spikes()?;
        self.prepare_saving(events)?;
        let Some(records) = &self.records else { return Ok(()) };
        let path = records.folder.checkpoint(self.progress.step);
        let began = Instant::now();
        self.write_alone(&path, Some(self.progress))?;
        self.saving.begun(Some(path), Some(self.progress.step));
        self.saving.times = [start.elapsed(), began.elapsed()];
        self.saved(events)
    }

    /// What rank 0 looks at first.
    fn prepare_saving(&mut self, events: &mut dyn Events) -> Result<(), TrainError> {
        self.check_finite_weights()?;
        self.keep_folder(events)?;
        // Sync the metrics before the checkpoint: after a crash no checkpoint may be newer than its log.
        match &mut self.records {
            Some(Records { log, .. }) => Ok(log.sync()?),
            None => Ok(()),
        }
    }

    /// Checks that the weights are finite and give a finite loss on an image of the last step. An update can ruin
    /// weights whose loss was still good, and saving them would push a good checkpoint out.
    fn check_finite_weights(&self) -> Result<(), TrainError> {
        let (device, model, parameters) = (self.trainer.device(), self.trainer.model(), self.trainer.parameters());
        let step = self.progress.step;
        // The norm of all is finite only if all are. Weights that are smaller numbers on the device have none, and those of which the
        // norm is too large for a float are looked at one by one.
        let norm = || device.download(&device.global_norm(parameters.values())?);
        let has_norm = self.trainer.sharded().is_none();
        let is_sound = has_norm && self.trainer.between_steps(norm)?.iter().all(|norm| norm.is_finite());
        for tensor in parameters.values().iter().filter(|_| !is_sound) {
            let bad = device.download(tensor)?.into_iter().find(|weight| !weight.is_finite());
            self.check_finite("weight after the update", f64::from(bad.unwrap_or(0.0)), step)?;
        }

        // Not one step was made in this session: the weights are those that it began with.
        if self.check_image.is_empty() {
            return Ok(());
        }
        let scores = self.trainer.between_steps(|| score(device, model, parameters, &self.check_image, self.length))?;
        let loss: f64 = scores.into_iter().map(f64::from).sum();
        self.check_finite("loss after the update", loss, step)
    }

    /// The files of a checkpoint by `writers`.
    fn files(&self, progress: Option<Progress>, writers: usize) -> Files {
        let (specs, averaged) = (self.trainer.parameters().specs(), self.trainer.average().is_some());
        Files::new(specs, [averaged, progress.is_some()], writers, MAX_SHARD_SIZE)
    }

    /// Writes the folder `dir`, which rank 0 names, together with the other ranks; with moments if there is a `progress`. Training has
    /// stood still since `start`.
    pub(super) fn write(
        &mut self,
        dir: Option<PathBuf>,
        progress: Option<Progress>,
        start: Instant,
        events: &mut dyn Events,
    ) -> Result<(), TrainError> {
        // One at a time.
        self.settle_saving(events)?;
        self.saving.begun(dir.clone(), progress.map(|progress| progress.step));
        if self.saving.in_background {
            self.begin_writing(dir, progress)?;
            self.saving.times[0] = start.elapsed();
            return Ok(());
        }
        let began = Instant::now();
        self.write_now(dir.as_deref(), progress)?;
        self.saving.times = [start.elapsed(), began.elapsed()];
        self.saved(events)
    }

    /// Copies this rank's part to the host, and leaves it to a thread.
    fn begin_writing(&mut self, dir: Option<PathBuf>, progress: Option<Progress>) -> Result<(), TrainError> {
        let together = self.together.clone();
        let (device, place) = (self.trainer.device(), [together.rank(), together.size()]);
        let (files, config) = (Arc::new(self.files(progress, together.size())), self.trainer.model().config().clone());

        // Rank 0 makes the folder, and tells the others where, or of none where it cannot.
        let palette = self.palette.colours().to_vec();
        let opened =
            dir.map(|dir| Opened::start(Goal { dir, config, palette, progress }, Arc::clone(&files), place[1]));
        let folder = opened.as_ref().and_then(|opened| opened.as_ref().ok()).map(|opened| opened.folder.clone());
        let folder = match folder {
            _ if together.size() == 1 => folder.unwrap_or_default(),
            folder => {
                let folder = folder.as_deref().map(std::path::absolute).transpose();
                let folder = folder.map_err(|source| TrainError::Read { path: PathBuf::new(), source })?;
                together.tell_text(device, folder.as_deref().and_then(Path::to_str).unwrap_or_default())?.into()
            }
        };
        let opened = match opened.transpose() {
            Ok(_) if folder.as_os_str().is_empty() => {
                return Err(Error::Peer(format!("rank 0 failed at {WHAT}, as it says itself")).into());
            }
            opened => opened?,
        };

        // The copy. Of several ranks one that cannot make it says so as one that cannot write does, and all end together.
        let taken = Snapshot::take(&mut self.trainer, &files, place, &mut self.saving.free).map_err(TrainError::from);
        let begun = match (opened, taken) {
            (Some(opened), Ok(snapshot)) => Ok(opened.write(snapshot)),
            (Some(opened), Err(error)) => {
                opened.forget();
                Err(error)
            }
            (None, taken) => taken.and_then(|snapshot| Writer::follow(snapshot, files, folder.clone(), place[0])),
        };
        match begun {
            Ok(writer) => self.saving.writer = Some(writer),
            Err(error) if together.size() == 1 => return Err(error),
            Err(error) => {
                let _ = leave_note(&folder, place[0], None);
                self.saving.failed(error);
            }
        }
        Ok(())
    }

    fn write_alone(&mut self, dir: &Path, progress: Option<Progress>) -> Result<(), TrainError> {
        let (files, config) = (self.files(progress, 1), self.trainer.model().config().clone());
        let about = About { config: &config, palette: Some(self.palette.colours()), progress };
        let mut collector = Collector::new(&mut self.trainer, &files, [0, 1]);
        checkpoint::save_files(dir, &about, &files, |folder| {
            Ok::<_, TrainError>(files.write(folder, 0, &mut |kept, index| collector.read(kept, index))?)
        })
    }

    /// Writes the folder while training stands still, without a copy.
    fn write_now(&mut self, dir: Option<&Path>, progress: Option<Progress>) -> Result<(), TrainError> {
        let together = self.together.clone();
        if let Some(dir) = dir.filter(|_| together.size() == 1) {
            return self.write_alone(dir, progress);
        }
        let (device, place) = (self.trainer.device(), [together.rank(), together.size()]);
        let (files, config) = (self.files(progress, together.size()), self.trainer.model().config().clone());

        // Each rank's files, once rank 0 has told where.
        let mut told = false;
        let trainer = &mut self.trainer;
        let mut share = |folder: Option<&Path>| {
            let folder = folder.map(std::path::absolute).transpose();
            let folder = folder.map_err(|source| TrainError::Read { path: PathBuf::new(), source })?;
            told = true;
            let text = folder.as_deref().and_then(Path::to_str).unwrap_or_default();
            let folder = together.tell_text(device, text)?;
            if folder.is_empty() {
                return Ok(Vec::new());
            }

            let mut collector = Collector::new(trainer, &files, place);
            let read = &mut |kept, index| collector.read(kept, index);
            let written = files.write(Path::new(&folder), together.rank(), read);
            collector.finish()?;
            exchange(device, &together, files.list.len(), written.map_err(TrainError::from))
        };

        // Rank 0 makes the folder, and tells of none where it cannot.
        let saved = match dir {
            Some(dir) => {
                let about = About { config: &config, palette: Some(self.palette.colours()), progress };
                checkpoint::save_files(dir, &about, &files, |folder| share(Some(folder)))
            }
            None => share(None).map(drop),
        };
        if together.leads() && !told {
            together.tell_text(device, "")?;
        }
        if together.leads() {
            return together.led(device, WHAT, || saved.map(|()| [])).map(|_| ());
        }
        // Whatever this one has to say, rank 0 tells all whether there is a checkpoint.
        let led = together.led(device, WHAT, || Ok([])).map(|_| ());
        saved.and(led)
    }
}

/// The hashes of all files, of which this rank has `written` its own.
///
/// # Errors
/// This rank's, or that another has failed.
pub(super) fn exchange<D: Device>(
    device: &D,
    together: &Together<D>,
    files: usize,
    written: Result<Vec<(usize, String)>, TrainError>,
) -> Result<Vec<(usize, String)>, TrainError> {
    // A byte is a float, zero where another rank writes it; behind them, which rank has failed.
    let mut told = vec![0.0; files * HASH + together.size()];
    match &written {
        Ok(written) => {
            for (file, hash) in written {
                let bytes = hash.as_bytes().chunks_exact(2).map(|pair| std::str::from_utf8(pair).unwrap_or_default());
                let bytes = bytes.map(|pair| f32::from(u8::from_str_radix(pair, 16).unwrap_or_default()));
                told[file * HASH..][..HASH].iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
            }
        }
        Err(_) => told[files * HASH + together.rank()] = 1.0,
    }

    // Others may be slower at writing.
    let _watched = together.waits(WHAT, true);
    together.note("the all-reduce of a checkpoint's hashes");
    let mut tensor = device.upload(&[told.len()], &told)?;
    together.comm().all_reduce(device, &mut tensor)?;
    let told = device.download(&tensor)?;
    together.check()?;
    written?;
    if let Some(rank) = told[files * HASH..].iter().position(|failed| *failed != 0.0) {
        return Err(Error::Peer(format!("rank {rank} failed at {WHAT}, as it says itself")).into());
    }
    let hash = |bytes: &[f32]| bytes.iter().map(|byte| format!("{:02x}", *byte as u8)).collect();
    Ok(told[..files * HASH].chunks_exact(HASH).map(hash).enumerate().collect())
}
