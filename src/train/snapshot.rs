//! What this rank writes of a checkpoint, copied to the host: training goes on while it is written.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use super::Trainer;
use super::collect::{Turn, turns};
use crate::checkpoint::{CheckpointError, Files, Kept};
use crate::device::{self, Device};

/// The tensors of a rank's files.
pub(super) struct Snapshot<D: Device> {
    /// Each by its place in the list of files, with its tensors one after the other.
    files: Vec<(usize, D::Staging)>,
}

/// A tensor of one of the files.
struct Wanted {
    kept: Kept,
    parameter: usize,
    /// Where the file stands among the rank's own, and where in it the tensor begins.
    file: usize,
    at: usize,
    elements: usize,
}

impl<D: Device> Snapshot<D> {
    /// Copies what rank `rank`, one of several `writers`, writes of `files`, into buffers of `free` where they are large enough. With ZeRO
    /// all ranks gather the same buckets in the same order, one at a time; a rank whose host fails takes part to the end.
    ///
    /// # Errors
    /// Those of the device.
    pub fn take(
        trainer: &mut Trainer<'_, D>,
        files: &Files,
        [rank, writers]: [usize; 2],
        free: &mut Vec<D::Staging>,
    ) -> device::Result<Self> {
        let device = trainer.device();
        let (mut own, mut wanted) = (Vec::new(), Vec::new());
        let mut taken = Ok(());
        for (place, file) in files.list.iter().enumerate().filter(|(_, file)| file.writer == rank) {
            let mut at = 0;
            for ((kept, parameter), elements) in file.tensors.iter().zip(file.elements()) {
                wanted.push(Wanted { kept: *kept, parameter: *parameter, file: own.len(), at, elements });
                at += elements;
            }
            match buffer(device, free, at) {
                Ok(buffer) => own.push((place, buffer)),
                Err(error) => taken = Err(error),
            }
        }

        // All of it is here.
        let Some(shared) = trainer.sharded() else {
            taken?;
            for Wanted { kept, parameter, file, at, elements } in wanted {
                if let (Some(tensor), Some((_, staging))) = (trainer.whole(kept).get(parameter), own.get_mut(file)) {
                    device.fetch(tensor, 0, elements, staging, at)?;
                }
            }
            return Ok(Self { files: own });
        };

        // Or each rank has its parts, and those of a bucket are gathered.
        let together = shared.together.clone();
        let places: Vec<(usize, Range<usize>)> =
            wanted.iter().map(|wanted| shared.reducer.buckets.place(wanted.parameter)).collect();
        for Turn { kept, bucket, writer } in turns(shared, files, writers) {
            let _watched = together.waits("the saving of a checkpoint", false);
            let Some(whole) = trainer.gather(kept, bucket)? else { continue };
            if writer.is_some_and(|writer| writer != rank) || taken.is_err() {
                continue;
            }
            let of_bucket = wanted.iter().zip(&places).filter(|(wanted, (of, _))| (wanted.kept, *of) == (kept, bucket));
            for (Wanted { file, at, elements, .. }, (_, place)) in of_bucket {
                if let Some((_, staging)) = own.get_mut(*file) {
                    taken = taken.and_then(|()| device.fetch(whole, place.start, *elements, staging, *at));
                }
            }
        }
        // Gatherings for others are done too before this rank goes on: none is pending while files are written.
        device.download(trainer.adam().verdict())?;
        taken.map(|()| Self { files: own })
    }

    /// Writes the files into `folder`; returns the SHA-256 of each by its place in the list.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn write(&self, files: &Files, folder: &Path) -> Result<Vec<(usize, String)>, CheckpointError> {
        let write = |(place, staging): &(usize, D::Staging)| {
            let elements = files.list.get(*place).map_or(0, |file| file.elements().sum());
            let values = staging.as_ref().get(..elements).unwrap_or_default();
            let hash = files.write_values(folder, *place, values)?;
            let path = folder.join(files.list.get(*place).map_or("", |file| &file.name));
            let synced = File::options().write(true).open(&path).and_then(|file| file.sync_all());
            synced.map_err(CheckpointError::io("sync", &path))?;
            Ok((*place, hash))
        };
        self.files.iter().map(write).collect()
    }

    /// Its memory, for the next one.
    pub fn into_buffers(self) -> Vec<D::Staging> {
        self.files.into_iter().map(|(_, staging)| staging).collect()
    }
}

/// The smallest of `free` that holds `elements`, or a new one.
fn buffer<D: Device>(device: &D, free: &mut Vec<D::Staging>, elements: usize) -> device::Result<D::Staging> {
    let size = |place: &usize| free[*place].as_ref().len();
    let fitting = (0..free.len()).filter(|place| size(place) >= elements).min_by_key(size);
    fitting.map_or_else(|| device.staging(elements), |place| Ok(free.swap_remove(place)))
}
