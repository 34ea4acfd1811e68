//! Checkpoints of the loop: several ranks write one together, each its own files, and rank 0 gives it its name once all are there.

use std::path::{Path, PathBuf};

use super::collect::Collector;
use super::together::Together;
use super::training_loop::{Records, TrainingLoop};
use super::{Events, TrainError};
use crate::checkpoint::{self, About, Files, MAX_SHARD_SIZE, Progress};
use crate::device::{Device, Error};
use crate::eval::score;
use crate::run::checkpoints;

/// What is done, for people.
const WHAT: &str = "the saving of a checkpoint";
/// Bytes of a file's hash.
const HASH: usize = 32;

impl<D: Device> TrainingLoop<'_, D> {
    /// Writes a checkpoint and removes the oldest: all ranks together.
    pub(super) fn save(&mut self, events: &mut dyn Events) -> Result<(), TrainError> {
        self.progress.spikes = self.trainer.known_for_spikes()?;
        self.led("the look at the weights before a checkpoint", |it| it.prepare_saving(events))?;
        let path = self.records.as_ref().map(|records| records.folder.checkpoint(self.progress.step));
        self.write(path.as_deref(), Some(self.progress))?;
        self.saved(path, events)
    }

    /// The same by rank 0 alone, which has all there is.
    pub(super) fn save_alone(&mut self, events: &mut dyn Events) -> Result<(), TrainError> {
        self.progress.spikes = self.trainer.known_for_spikes()?;
        self.prepare_saving(events)?;
        let path = self.records.as_ref().map(|records| records.folder.checkpoint(self.progress.step));
        if let Some(path) = &path {
            self.write_alone(path, Some(self.progress))?;
        }
        self.saved(path, events)
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

    /// After a checkpoint.
    fn saved(&mut self, path: Option<PathBuf>, events: &mut dyn Events) -> Result<(), TrainError> {
        let (Some(records), Some(path)) = (&self.records, path) else { return Ok(()) };
        checkpoints::prune(records.folder.root(), self.schedule.keep)?;
        events.saved(self.progress.step, &path);
        Ok(())
    }

    /// Checks that the weights are finite and give a finite loss on an image of the last step. An update can ruin
    /// weights whose loss was still good, and saving them would push a good checkpoint out.
    fn check_finite_weights(&self) -> Result<(), TrainError> {
        let (device, model, parameters) = (self.trainer.device(), self.trainer.model(), self.trainer.parameters());
        let step = self.progress.step;
        for tensor in parameters.values() {
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

    fn write_alone(&mut self, dir: &Path, progress: Option<Progress>) -> Result<(), TrainError> {
        let (files, config) = (self.files(progress, 1), self.trainer.model().config().clone());
        let about = About { config: &config, palette: Some(self.palette.colours()), progress };
        let mut collector = Collector::new(&mut self.trainer, &files, [0, 1]);
        checkpoint::save_files(dir, &about, &files, |folder| {
            Ok::<_, TrainError>(files.write(folder, 0, &mut |kept, index| collector.read(kept, index))?)
        })
    }

    /// Writes the folder `dir`, which rank 0 names, together with the other ranks; with moments if there is a `progress`.
    pub(super) fn write(&mut self, dir: Option<&Path>, progress: Option<Progress>) -> Result<(), TrainError> {
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
