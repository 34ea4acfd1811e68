//! Batches: an endless stream of examples in which sample number `s` is the same whenever it is asked for.
//!
//! Sample `s` belongs to epoch `s / N` and is number `s % N` of that epoch's order, a permutation that depends on
//! (seed, epoch) alone; its augmentation depends on (seed, epoch, index). So a run is resumed by the number of samples
//! it has seen, and batches run across the end of an epoch without dropping any.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::dataset::Examples;
use super::error::{DataError, Result};
use super::source::AugmentKey;
use super::split::permutation;
use crate::random::Purpose;

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
    workers: Option<Arc<ThreadPool>>,
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

    /// The same stream, decoded on `workers` threads of its own; 0 shares the process's threads, one per core. The samples
    /// do not depend on it.
    ///
    /// # Errors
    /// [`DataError::Option`] for more than [`MAX_WORKERS`], [`DataError::Thread`] where the system gives no threads.
    pub fn with_workers(mut self, workers: usize) -> Result<Self> {
        if workers > MAX_WORKERS {
            let hint = format!("give at most {MAX_WORKERS}; more threads than cores decode no faster");
            return Err(DataError::Option { option: "--workers", value: workers.to_string(), hint });
        }
        let build = || {
            let name = |worker| format!("decode-{worker}");
            ThreadPoolBuilder::new().num_threads(workers).thread_name(name).build()
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

/// Batches made ahead, delivered in order. At most `depth` are being made or wait ready, so that memory is bounded; they are
/// made side by side, so that one huge image holds up its own batch and not the workers. An error arrives instead of its
/// batch and ends the stream.
pub struct Prefetcher {
    batches: Batches,
    /// First sample of the next batch to be started.
    next: u64,
    size: usize,
    depth: usize,
    /// Batches in flight, in order; `None` once the stream has ended.
    in_flight: Option<VecDeque<Receiver<Made>>>,
    wait: DataWait,
    /// When the first batch was handed over: until then there was nothing to be ahead of.
    first: Option<Instant>,
    /// Whether it was already said that loading falls behind.
    complained: bool,
}

/// A batch, or why there is none: an error, or a panic that goes on where the batch is asked for.
type Made = std::thread::Result<Result<Batch>>;

/// How well loading keeps ahead of whoever takes the batches, the first one apart.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DataWait {
    /// Time that the taker waited for batches that were not ready.
    pub waited: Duration,
    /// Time since the first batch was handed over.
    pub total: Duration,
    /// Batches handed over after the first.
    pub batches: u64,
}

impl DataWait {
    /// Fraction of the time that was spent waiting, 0 to 1.
    pub fn fraction(&self) -> f64 {
        if self.total.is_zero() { 0.0 } else { self.waited.as_secs_f64() / self.total.as_secs_f64() }
    }
}

/// Waiting for more than this fraction of the time is worth a word, once there are this many batches to judge by and the wait
/// is more than a hiccup.
const TOO_LONG: f64 = 0.1;
const JUDGED_AFTER: u64 = 20;
const HICCUP: Duration = Duration::from_secs(1);

impl Prefetcher {
    /// Starts with `first_sample`; each batch has `size` samples and at most `depth` wait ready.
    ///
    /// # Errors
    /// [`DataError::Bounds`] for batches of no samples.
    pub fn start(batches: Batches, first_sample: u64, size: usize, depth: usize) -> Result<Self> {
        if size == 0 {
            let limit = "a batch needs at least one".into();
            return Err(DataError::Bounds { what: "the number of samples per batch", got: 0, limit });
        }
        let mut prefetcher = Prefetcher {
            batches,
            next: first_sample,
            size,
            depth: depth.max(1),
            in_flight: Some(VecDeque::new()),
            wait: DataWait::default(),
            first: None,
            complained: false,
        };
        prefetcher.fill();
        Ok(prefetcher)
    }

    /// Starts batches until `depth` are in flight.
    fn fill(&mut self) {
        let Some(in_flight) = &mut self.in_flight else { return };
        while in_flight.len() < self.depth {
            let (batches, first, size) = (self.batches.clone(), self.next, self.size);
            let (sender, receiver) = sync_channel(1);
            let workers = batches.workers.clone();
            let job = move || {
                let made = catch_unwind(AssertUnwindSafe(|| batches.batch(first, size)));
                // Nobody listens any more where the stream was dropped.
                let _ = sender.send(made);
            };
            match workers {
                Some(workers) => workers.spawn(job),
                None => rayon::spawn(job),
            }
            in_flight.push_back(receiver);
            self.next += size as u64;
        }
    }

    /// How well loading has kept ahead so far.
    pub fn wait(&self) -> DataWait {
        DataWait { total: self.first.map_or(Duration::ZERO, |first| first.elapsed()), ..self.wait }
    }

    /// A sentence for people, once, if loading does not keep ahead.
    pub fn complaint(&mut self) -> Option<String> {
        let wait = self.wait();
        let slow = wait.batches >= JUDGED_AFTER && wait.waited > HICCUP && wait.fraction() > TOO_LONG;
        if self.complained || !slow {
            return None;
        }
        self.complained = true;
        Some(format!(
            "loading does not keep ahead of the device: {:.0} % of the time is spent waiting for data. More --workers (up to \
             one per core) help; `igpt-engine data bench` measures what they reach",
            100.0 * wait.fraction()
        ))
    }
}

impl Iterator for Prefetcher {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = Instant::now();
        let made = self.in_flight.as_mut()?.pop_front()?.recv();

        match self.first {
            None => self.first = Some(Instant::now()),
            Some(_) => {
                self.wait.waited += start.elapsed();
                self.wait.batches += 1;
            }
        }

        match made {
            Ok(Ok(Ok(batch))) => {
                self.fill();
                Some(Ok(batch))
            }
            Ok(Ok(Err(error))) => {
                self.in_flight = None;
                Some(Err(error))
            }
            Ok(Err(panic)) => {
                self.in_flight = None;
                resume_unwind(panic)
            }
            // The sender lives until it has sent: it is gone only with its whole thread pool.
            Err(_) => {
                self.in_flight = None;
                None
            }
        }
    }
}
