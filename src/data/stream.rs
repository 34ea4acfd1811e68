//! The stream of training: batches in which sample number `s` is the same whenever it is asked for.
//!
//! Sample `s` belongs to epoch `s / N` and is number `s % N` of that epoch's order, a permutation that depends on
//! (seed, epoch) alone; its augmentation depends on (seed, epoch, index). So a run is resumed by the number of samples
//! it has seen, and batches run across the end of an epoch without dropping any.

use std::sync::{Arc, Mutex};

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::augment_key::AugmentKey;
use super::dataset::Examples;
use super::error::{DataError, Result};
use super::split::permutation;
use crate::random::Purpose;

/// Tokens and labels of some samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// `[B, n]`, row-major.
    pub tokens: Vec<u16>,
    /// `[B]`; empty where the data has no labels.
    pub labels: Vec<u16>,
    /// Number of the first sample.
    pub first_sample: u64,
}

impl From<Vec<u16>> for Batch {
    /// Images without labels, as if they were a run's first.
    fn from(tokens: Vec<u16>) -> Self {
        Self { tokens, ..Self::default() }
    }
}

/// Maximum number of threads that decode.
pub const MAX_WORKERS: usize = 1024;

/// An epoch and the order of its examples.
type EpochOrder = (u64, Arc<Vec<u32>>);

/// The stream. Cloning shares the data.
#[derive(Clone)]
pub struct Batches {
    examples: Arc<dyn Examples>,
    seed: u64,
    shuffle: bool,
    augment: bool,
    /// The epochs whose order was last needed, and the orders: two of them, for batches on both sides of an epoch's end are
    /// made at the same time.
    orders: Arc<Mutex<Vec<EpochOrder>>>,
    /// Threads that decode; `None` for those that the whole process shares.
    pub(super) workers: Option<Arc<ThreadPool>>,
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
        Ok(Batches { examples, seed, shuffle, augment, orders: Arc::default(), workers: None })
    }

    /// The same stream, decoded on `workers` threads of its own, of which no more than one per core are started: more decode no
    /// faster, and looking for work keeps each other from it. 0 shares the process's threads, one per core. The samples do not
    /// depend on it.
    ///
    /// # Errors
    /// [`DataError::Option`] for more than [`MAX_WORKERS`], [`DataError::Thread`] where the system gives no threads.
    pub fn with_workers(mut self, workers: usize) -> Result<Self> {
        if workers > MAX_WORKERS {
            let hint = format!("give at most {MAX_WORKERS}; more threads than cores decode no faster");
            return Err(DataError::Option { option: "--workers", value: workers.to_string(), hint });
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let build = || {
            let name = |worker| format!("decode-{worker}");
            ThreadPoolBuilder::new().num_threads(workers.min(cores)).thread_name(name).build()
        };
        self.workers = match workers {
            0 => None,
            _ => Some(Arc::new(build().map_err(|error| DataError::Thread(std::io::Error::other(error)))?)),
        };
        Ok(self)
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
        let keys: Vec<AugmentKey> = (first_sample..)
            .take(count)
            .map(|sample| {
                let (epoch, position) = (sample / total, sample % total);
                AugmentKey { seed: self.seed, epoch, index: self.index(epoch, position) }
            })
            .collect();

        let length = self.examples.sequence_length();
        let mut tokens = vec![0; count * length];
        let mut decode = || -> Vec<Result<()>> {
            let rows = tokens.par_chunks_mut(length.max(1)).zip(&keys);
            // One image per task: their costs differ by a factor of a hundred.
            rows.with_max_len(1)
                .map(|(row, key)| self.examples.tokens(key.index as usize, self.augment.then_some(*key), row))
                .collect()
        };

        let rows = match &self.workers {
            Some(workers) => workers.install(decode),
            None => decode(),
        };
        rows.into_iter().collect::<Result<()>>()?;
        let labels = keys.iter().filter_map(|key| self.examples.label(key.index as usize)).collect();
        Ok(Batch { tokens, labels, first_sample })
    }

    /// The example at a position of an epoch's order.
    fn index(&self, epoch: u64, position: u64) -> u64 {
        if !self.shuffle {
            return position;
        }
        // A poisoned lock only means that another thread died while it held a cache: still usable.
        let mut orders = self.orders.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = orders.iter().find(|(known, _)| *known == epoch).map(|(_, order)| Arc::clone(order));
        let shuffled = known.unwrap_or_else(|| {
            let shuffled = Arc::new(permutation(self.examples.len(), self.seed, Purpose::Shuffle, epoch));
            orders.retain(|(known, _)| known.abs_diff(epoch) == 1);
            orders.truncate(1);
            orders.push((epoch, Arc::clone(&shuffled)));
            shuffled
        });
        shuffled[position as usize].into()
    }
}
