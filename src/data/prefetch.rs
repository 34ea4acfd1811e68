//! Loading ahead: batches are made on other threads while the device works on earlier ones.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use super::error::{DataError, Result};
use super::stream::{Batch, Batches};

/// Batches made ahead, delivered in order. At most `depth` are being made or wait ready, so that memory is bounded; they are
/// made side by side, so that one huge image holds up its own batch and not the workers. An error arrives instead of its
/// batch and ends the stream.
pub struct Prefetcher {
    batches: Batches,
    /// First sample of the next batch to be started.
    next: u64,
    size: usize,
    /// Samples from one batch to the next.
    stride: u64,
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
        let mut prefetcher = Self::new(batches, first_sample, size, depth)?;
        prefetcher.fill();
        Ok(prefetcher)
    }

    /// The batches of one of `ranks` that take turns: number `rank` of them from `first_sample` on, and every `ranks`-th after it.
    ///
    /// # Errors
    /// As [`Prefetcher::start`].
    pub fn start_share(
        batches: Batches,
        first_sample: u64,
        size: usize,
        depth: usize,
        [rank, ranks]: [usize; 2],
    ) -> Result<Self> {
        let own = first_sample + (rank * size) as u64;
        let mut prefetcher = Self { stride: (ranks.max(1) * size) as u64, ..Self::new(batches, own, size, depth)? };
        prefetcher.fill();
        Ok(prefetcher)
    }

    fn new(batches: Batches, first_sample: u64, size: usize, depth: usize) -> Result<Self> {
        if size == 0 {
            let limit = "a batch needs at least one".into();
            return Err(DataError::Bounds { what: "the number of samples per batch", got: 0, limit });
        }
        Ok(Prefetcher {
            batches,
            next: first_sample,
            size,
            stride: size as u64,
            depth: depth.max(1),
            in_flight: Some(VecDeque::new()),
            wait: DataWait::default(),
            first: None,
            complained: false,
        })
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
            self.next += self.stride;
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
