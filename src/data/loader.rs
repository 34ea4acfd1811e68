//! Batches: an endless stream of examples in which sample number `s` is the same whenever it is asked for.
//!
//! Sample `s` belongs to epoch `s / N` and stands at place `s % N` of that epoch's order, a permutation that depends on
//! (seed, epoch) alone; its augmentation depends on (seed, epoch, index). So a run is resumed by the number of samples
//! it has seen, and batches run across the end of an epoch without dropping any.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rayon::prelude::*;

use super::error::{DataError, Result};
use super::examples::Examples;
use super::source::{Draw, Purpose};
use super::split::permutation;

/// Tokens and labels of some samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// `[B, n]`, row-major.
    pub tokens: Vec<u16>,
    /// `[B]`; empty where the data has no labels.
    pub labels: Vec<u16>,
    /// Number of the first sample.
    pub first_sample: u64,
}

/// An epoch and the order of its examples.
type EpochOrder = (u64, Arc<Vec<u32>>);

/// The stream. Cloning shares the data.
#[derive(Clone)]
pub struct Batches {
    examples: Arc<dyn Examples>,
    seed: u64,
    shuffle: bool,
    augment: bool,
    /// The epoch whose order was last needed, and the order.
    order: Arc<Mutex<Option<EpochOrder>>>,
}

impl Batches {
    /// A training stream: in a new random order each epoch (in file order without `shuffle`), augmented if the examples
    /// are.
    ///
    /// # Errors
    /// [`DataError::Bounds`] for no examples.
    pub fn training(examples: Arc<dyn Examples>, seed: u64, shuffle: bool) -> Result<Self> {
        Self::new(examples, seed, shuffle, true)
    }

    /// An evaluation stream: in file order, never augmented.
    ///
    /// # Errors
    /// [`DataError::Bounds`] for no examples.
    pub fn evaluation(examples: Arc<dyn Examples>) -> Result<Self> {
        Self::new(examples, 0, false, false)
    }

    fn new(examples: Arc<dyn Examples>, seed: u64, shuffle: bool, augment: bool) -> Result<Self> {
        if examples.is_empty() {
            let limit = "a stream needs at least one".into();
            return Err(DataError::Bounds { what: "the number of examples", got: 0, limit });
        }
        Ok(Batches { examples, seed, shuffle, augment, order: Arc::default() })
    }

    /// The examples behind the stream.
    pub fn examples(&self) -> &Arc<dyn Examples> {
        &self.examples
    }

    /// Samples `first_sample .. first_sample + count`: a pure function, decoded in parallel.
    ///
    /// # Errors
    /// The error of the first sample, in order, that has one.
    pub fn batch(&self, first_sample: u64, count: usize) -> Result<Batch> {
        let total = self.examples.len() as u64;
        let draws: Vec<Draw> = (first_sample..)
            .take(count)
            .map(|sample| {
                let (epoch, place) = (sample / total, sample % total);
                Draw { seed: self.seed, epoch, index: self.index(epoch, place) }
            })
            .collect();
        let length = self.examples.sequence_length();
        let mut tokens = vec![0; count * length];
        let rows: Vec<Result<()>> = tokens
            .par_chunks_mut(length.max(1))
            .zip(&draws)
            .map(|(row, draw)| self.examples.tokens(draw.index as usize, self.augment.then_some(*draw), row))
            .collect();
        rows.into_iter().collect::<Result<()>>()?;
        let labels = draws.iter().filter_map(|draw| self.examples.label(draw.index as usize)).collect();
        Ok(Batch { tokens, labels, first_sample })
    }

    /// The example at a place of an epoch's order.
    fn index(&self, epoch: u64, place: u64) -> u64 {
        if !self.shuffle {
            return place;
        }
        // A poisoned lock only means that another thread died while it held a cache: still usable.
        let mut order = self.order.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let shuffled = match &*order {
            Some((cached, shuffled)) if *cached == epoch => Arc::clone(shuffled),
            _ => {
                let shuffled = Arc::new(permutation(self.examples.len(), self.seed, Purpose::Shuffle, epoch));
                *order = Some((epoch, Arc::clone(&shuffled)));
                shuffled
            }
        };
        shuffled[place as usize].into()
    }
}

/// Batches made ahead on a thread of their own, delivered in order. An error arrives in the place of its batch and ends
/// the stream.
pub struct Prefetcher {
    receiver: Option<Receiver<Result<Batch>>>,
    thread: Option<JoinHandle<()>>,
}

impl Prefetcher {
    /// Starts with `first_sample`; each batch has `size` samples and at most `depth` wait ready.
    ///
    /// # Errors
    /// [`DataError::Thread`] where the system gives no thread.
    pub fn start(batches: Batches, first_sample: u64, size: usize, depth: usize) -> Result<Self> {
        let (sender, receiver) = sync_channel(depth.max(1) - 1);
        let thread = std::thread::Builder::new()
            .name("prefetch".into())
            .spawn(move || produce(&batches, first_sample, size, &sender))
            .map_err(DataError::Thread)?;
        Ok(Prefetcher { receiver: Some(receiver), thread: Some(thread) })
    }
}

fn produce(batches: &Batches, first_sample: u64, size: usize, sender: &SyncSender<Result<Batch>>) {
    for first in (first_sample..).step_by(size.max(1)) {
        let batch = batches.batch(first, size);
        let failed = batch.is_err();
        // A closed channel means that nobody wants more.
        if sender.send(batch).is_err() || failed {
            return;
        }
    }
}

impl Iterator for Prefetcher {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Ok(batch) = self.receiver.as_ref()?.recv() {
            return Some(batch);
        }
        // The thread is gone: after an error that was delivered, or by a panic, which goes on here.
        self.receiver = None;
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
        None
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was either handed on by `next` or concerns nobody any more.
            let _ = thread.join();
        }
    }
}
