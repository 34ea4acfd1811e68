//! What ranks have parts of, put together again for a checkpoint, a bucket at a time.

use super::Trainer;
use super::shared_step::Shared;
use crate::checkpoint::{CheckpointError, Files, Kept};
use crate::device::{self, Device};

/// A gathering of a bucket, in which all ranks take part.
pub(super) struct Turn {
    pub kept: Kept,
    pub bucket: usize,
    /// Who writes it; all need it where nobody is named.
    pub writer: Option<usize>,
}

/// Gives tensors to the writer of a checkpoint's files, which asks for them in the order of its files.
///
/// With ZeRO a tensor is put together from the parts of all ranks, so all ranks gather the same buckets in the same order: files of
/// several writers take turns, so that they are written at the same time. A rank holds no more than a bucket and what is in no block.
pub(super) struct Collector<'c, 't, D: Device> {
    trainer: &'c mut Trainer<'t, D>,
    rank: usize,
    turns: std::vec::IntoIter<Turn>,
    /// Buckets on the host.
    held: Vec<(Kept, usize, Vec<f32>)>,
}

impl<'c, 't, D: Device> Collector<'c, 't, D> {
    /// For rank `rank`, one of several `writers` of `files`.
    pub fn new(trainer: &'c mut Trainer<'t, D>, files: &Files, [rank, writers]: [usize; 2]) -> Self {
        let turns = trainer.sharded().map_or(Vec::new(), |shared| turns(shared, files, writers));
        Self { trainer, rank, turns: turns.into_iter(), held: Vec::new() }
    }

    /// The values of a parameter's weight, average or moment.
    pub fn read(&mut self, kept: Kept, parameter: usize) -> Result<Vec<f32>, CheckpointError> {
        let Some(shared) = self.trainer.sharded() else {
            let tensor = self.trainer.whole(kept).get(parameter);
            return Ok(tensor.map_or(Ok(Vec::new()), |tensor| self.trainer.device().download(tensor))?);
        };
        let (bucket, place) = shared.reducer.buckets.place(parameter);
        loop {
            if let Some((.., values)) = self.held.iter().find(|held| (held.0, held.1) == (kept, bucket)) {
                return Ok(values.get(place).unwrap_or_default().to_vec());
            }
            if !self.take_turn(true)? {
                return Ok(Vec::new());
            }
        }
    }

    /// Takes part in what the others still gather.
    pub fn finish(mut self) -> device::Result<()> {
        while self.take_turn(false)? {}
        Ok(())
    }

    /// The next gathering, whether there was one; what it gives is kept if it is `wanted` and for this rank.
    fn take_turn(&mut self, wanted: bool) -> device::Result<bool> {
        let Some(Turn { kept, bucket, writer }) = self.turns.next() else { return Ok(false) };
        let (device, together) = (self.trainer.device(), self.trainer.sharded().map(|shared| shared.together.clone()));
        let _watched = together.as_ref().and_then(|together| together.waits("the saving of a checkpoint", false));
        let gathered = self.trainer.gather(kept, bucket)?;
        if wanted && writer.is_none_or(|writer| writer == self.rank) {
            let values = gathered.map(|whole| device.download(whole)).transpose()?.unwrap_or_default();
            if writer.is_some() {
                let shared = self.trainer.sharded();
                self.held
                    .retain(|(_, held, _)| shared.is_none_or(|shared| !shared.reducer.buckets.list[*held].is_block()));
            }
            self.held.push((kept, bucket, values));
        }
        Ok(true)
    }
}

/// The gatherings that `files` of several `writers` need.
pub(super) fn turns<D: Device>(shared: &Shared<D>, files: &Files, writers: usize) -> Vec<Turn> {
    let buckets = &shared.reducer.buckets;
    let mut turns = Vec::new();
    for kind in files.list.chunk_by(|one, other| one.tensors[0].0 == other.tensors[0].0) {
        // What is in no block is small, and files of any writer may have a tensor of it.
        let mut kept: Vec<Kept> = kind[0].tensors.iter().map(|(kept, _)| *kept).collect();
        kept.dedup();
        for kept in kept {
            let rest = (0..buckets.list.len()).filter(|bucket| !buckets.list[*bucket].is_block());
            turns.extend(rest.map(|bucket| Turn { kept, bucket, writer: None }));
        }

        // The blocks of each file in order, those of the writers by turns.
        for files in kind.chunks(writers) {
            let blocks = |file: &crate::checkpoint::TensorsFile| {
                let of = |(kept, parameter): &(Kept, usize)| (*kept, buckets.place(*parameter).0);
                let mut blocks: Vec<(Kept, usize)> =
                    file.tensors.iter().map(of).filter(|(_, bucket)| buckets.list[*bucket].is_block()).collect();
                blocks.dedup();
                (file.writer, blocks)
            };
            let files: Vec<_> = files.iter().map(blocks).collect();
            let most = files.iter().map(|(_, blocks)| blocks.len()).max().unwrap_or(0);
            for at in 0..most {
                let of = |(writer, blocks): &(usize, Vec<(Kept, usize)>)| {
                    blocks.get(at).map(|(kept, bucket)| Turn { kept: *kept, bucket: *bucket, writer: Some(*writer) })
                };
                turns.extend(files.iter().filter_map(of));
            }
        }
    }
    turns
}

impl<D: Device> Trainer<'_, D> {
    /// The ranks, where each has parts of the optimiser.
    pub(super) fn sharded(&self) -> Option<&Shared<D>> {
        self.shared.as_ref().filter(|shared| shared.masters.is_some())
    }

    /// All of what every parameter has one of, where this rank has all of it.
    pub(super) fn whole(&self, kept: Kept) -> &[D::Tensor] {
        match kept {
            Kept::Weight => self.parameters().values(),
            Kept::Average => self.average().map_or(&[], |average| average.values()),
            Kept::FirstMoment => self.adam().first_moments(),
            Kept::SecondMoment => self.adam().second_moments(),
        }
    }

    /// A bucket of it from the parts of all ranks, which do the same at the same time.
    pub(super) fn gather(&mut self, kept: Kept, bucket: usize) -> device::Result<Option<&D::Tensor>> {
        let Self { device, adam, average, shared, .. } = self;
        let Some(Shared { together, reducer, masters, .. }) = shared else { return Ok(None) };
        let parts = match kept {
            Kept::Weight => masters.as_mut().map(|masters| masters.values_mut()),
            Kept::Average => average.as_mut().map(|average| average.parameters_mut().values_mut()),
            Kept::FirstMoment => Some(adam.moments_mut().0),
            Kept::SecondMoment => Some(adam.moments_mut().1),
        };
        let Some(part) = parts.and_then(|parts| parts.get_mut(bucket)) else { return Ok(None) };
        together.note("the all-gather of a checkpoint's bucket");
        reducer.gather_one(device, together.comm(), part, bucket)
    }
}
