//! A rank's end of a communicator: it joins, puts collectives into streams, waits, and ends.

use std::ffi::c_int;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::call::{ARGUMENT, CUDA, Call, Code, Operation, REMOTE, SYSTEM, USAGE};
use crate::driver::{Driver, Stream};
use crate::exchange::{Round, exchange};
use crate::fault::{Fault, Kind, die};
use crate::order;
use crate::segment::{CHUNK, RANKS, Segment};

/// One rank of a communicator.
pub struct Communicator {
    /// Which, from 0.
    pub rank: usize,
    /// How many there are.
    pub ranks: usize,
    /// Of the shared memory.
    pub name: String,
    /// What the ranks share.
    pub segment: Segment,
    /// A planted fault.
    pub fault: Option<Fault>,
    /// Rounds that have run.
    pub sequence: AtomicU64,
    /// Collectives that have run.
    pub entered: AtomicU64,
    driver: Driver,
    called: AtomicU64,
    error: AtomicI32,
    aborted: AtomicBool,
    patience: Duration,
    state: Mutex<State>,
}

/// A collective before it is in its stream.
#[derive(Clone)]
pub struct Enqueued {
    /// What it is.
    pub call: Call,
    /// Where the parts are that it sends.
    pub send: Vec<u64>,
    /// Where those go that it receives.
    pub receive: Vec<u64>,
    /// Its stream.
    pub stream: Stream,
}

#[derive(Default)]
struct State {
    /// By stream: pinned memory, parts to be sent and then parts received. Collectives of a stream come one after the other, so they
    /// share it, those of graphs too.
    staging: Vec<(usize, *mut u8)>,
    /// Where they are when they are called, whatever joins them.
    #[allow(clippy::vec_box)]
    rounds: Vec<Box<Round>>,
    /// A collective that a planted fault holds back.
    held: Option<Enqueued>,
    splits: u64,
}

// SAFETY: the pointers are of pinned and shared memory that the communicator owns, behind a lock.
unsafe impl Send for Communicator {}
// SAFETY: as above.
unsafe impl Sync for Communicator {}

impl Communicator {
    /// Joins the ranks of this name, and returns once all have.
    ///
    /// # Errors
    /// NCCL's code.
    pub fn join(name: &str, rank: usize, ranks: usize) -> Result<Self, Code> {
        if ranks == 0 || rank >= ranks || ranks > RANKS {
            return Err(ARGUMENT);
        }
        let fault = Fault::planted();
        if fault.is_some_and(|fault| fault.kind == Kind::DieJoining && fault.rank == rank) {
            die();
        }
        let driver = Driver::open().ok_or(CUDA)?;
        let segment = Segment::open(name, ranks).ok_or(SYSTEM)?;
        let milliseconds = std::env::var("NCCLSIM_TIMEOUT_MS").ok().and_then(|text| text.parse().ok());
        let communicator = Self {
            rank,
            ranks,
            name: name.to_owned(),
            segment,
            fault,
            sequence: AtomicU64::new(0),
            entered: AtomicU64::new(0),
            driver,
            called: AtomicU64::new(0),
            error: AtomicI32::new(0),
            aborted: AtomicBool::new(false),
            patience: Duration::from_millis(milliseconds.unwrap_or(600_000)),
            state: Mutex::default(),
        };

        // More than there should be were there before: the name was used twice.
        let head = communicator.segment.head();
        let before = head.joined.fetch_add(1, SeqCst) as usize;
        let met = communicator.wait(|| head.joined.load(SeqCst) as usize >= ranks);
        if met.is_err() || before >= ranks || rank == 0 {
            Segment::unlink(name);
        }
        if before >= ranks {
            eprintln!("ncclsim: {name} has {ranks} ranks already");
            return Err(USAGE);
        }
        order::begin(communicator.id());
        met.map(|()| communicator)
    }

    /// What its ranks know it by.
    fn id(&self) -> u64 {
        hash(&self.name)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What went wrong so far.
    pub fn error(&self) -> Code {
        self.error.load(SeqCst)
    }

    /// Something went wrong: the first thing counts.
    pub fn fail(&self, code: Code) {
        let _ = self.error.compare_exchange(0, code, SeqCst, SeqCst);
    }

    /// Ends every wait.
    pub fn abort(&self) {
        self.aborted.store(true, SeqCst);
        self.fail(REMOTE);
    }

    /// Waits for other ranks.
    ///
    /// # Errors
    /// Ranks that disagree, an abort, or no patience left.
    pub fn wait(&self, what: impl Fn() -> bool) -> Result<(), Code> {
        let since = Instant::now();
        while !what() {
            if self.segment.is_broken() {
                return Err(USAGE);
            }
            if self.aborted.load(SeqCst) || since.elapsed() > self.patience {
                return Err(REMOTE);
            }
            std::thread::sleep(Duration::from_micros(20));
        }
        Ok(())
    }

    /// Puts a collective into its stream, with what is planted for it.
    ///
    /// # Errors
    /// NCCL's code.
    pub fn enqueue(&self, mut collective: Enqueued) -> Result<(), Code> {
        if self.error() != 0 {
            return Err(self.error());
        }
        let called = self.called.fetch_add(1, SeqCst) + 1;
        if let Some(other) = order::note(self.segment.head(), [self.rank, self.ranks], self.id(), called) {
            self.segment.head().broken.store(1, SeqCst);
            eprintln!(
                "ncclsim: ranks {} and {other} call two communicators in opposite orders, at collective {called} of {}: each may wait \
                 for the other for ever",
                self.rank, self.name
            );
            self.fail(USAGE);
            return Err(USAGE);
        }
        let is = |kind| self.fault.is_some_and(|fault| fault.is(kind, self.rank, called));
        if is(Kind::Count) {
            collective.call.count -= 1;
        }
        if is(Kind::Operation) {
            collective.call = Call { operation: Operation::Broadcast, reduction: 0, ..collective.call };
        }
        if is(Kind::Order) {
            self.state().held = Some(collective);
            return Ok(());
        }
        self.put(&collective)?;
        let held = self.state().held.take();
        held.map_or(Ok(()), |held| self.put(&held))
    }

    /// Copies to the host, the exchange, and copies back, chunk by chunk.
    fn put(&self, collective: &Enqueued) -> Result<(), Code> {
        let Enqueued { call, send, receive, stream } = collective;
        let (width, state) = (call.width(), &mut *self.state());
        let to_send = self.staging(state, *stream)?;
        let chunk = CHUNK / width;
        for (index, start) in (0..call.count).step_by(chunk).enumerate() {
            let elements = chunk.min(call.count - start);
            let (at, bytes) = ((start * width) as u64, elements * width);
            // SAFETY: the staging memory has room for as many parts as there are ranks, twice, and lives as long as this.
            let to_receive = unsafe { to_send.add(self.ranks * CHUNK) };
            let round = Round {
                communicator: self,
                call: *call,
                chunk: index as u64,
                elements,
                send: to_send,
                receive: to_receive,
            };
            state.rounds.push(Box::new(round));
            let Some(round) = state.rounds.last() else { return Err(SYSTEM) };

            // SAFETY: as above; the caller of NCCL answers for its own addresses; the round is boxed, and lives as long.
            let taken = unsafe {
                let sent = send
                    .iter()
                    .enumerate()
                    .all(|(part, from)| self.driver.copy_to_host(to_send.add(part * CHUNK), from + at, bytes, *stream));
                let round: *const Round = &raw const **round;
                sent && self.driver.call_host(*stream, exchange, round.cast_mut().cast())
                    && receive.iter().enumerate().all(|(part, to)| {
                        self.driver.copy_to_device(to + at, to_receive.add(part * CHUNK), bytes, *stream)
                    })
            };
            if !taken {
                return Err(CUDA);
            }
        }
        Ok(())
    }

    /// The pinned memory of a stream.
    fn staging(&self, state: &mut State, stream: Stream) -> Result<*mut u8, Code> {
        let key = stream as usize;
        if let Some((_, memory)) = state.staging.iter().find(|(known, _)| *known == key) {
            return Ok(*memory);
        }
        let memory = self.driver.allocate(2 * self.ranks * CHUNK).ok_or(CUDA)?;
        state.staging.push((key, memory));
        Ok(memory)
    }

    /// The group of those who give the same colour, ordered by key; nothing for a negative colour.
    ///
    /// # Errors
    /// NCCL's code.
    pub fn split(&self, colour: c_int, key: c_int) -> Result<Option<Self>, Code> {
        let number = {
            let mut state = self.state();
            state.splits += 1;
            state.splits
        };
        let counts = |so_far: u64| self.segment.all(|member| member.split[2].load(SeqCst) >= so_far);

        // Twice per split: when a rank has told, and when it has read.
        let own = &self.segment.head().members[self.rank].split;
        self.wait(|| counts(2 * (number - 1)))?;
        own[0].store(colour as u32 as u64, SeqCst);
        own[1].store(key as u32 as u64, SeqCst);
        own[2].store(2 * number - 1, SeqCst);
        self.wait(|| counts(2 * number - 1))?;
        let members = &self.segment.head().members[..self.ranks];
        let mut group: Vec<(i32, usize)> = members
            .iter()
            .enumerate()
            .filter(|(_, member)| member.split[0].load(SeqCst) as u32 as i32 == colour)
            .map(|(rank, member)| (member.split[1].load(SeqCst) as u32 as i32, rank))
            .collect();
        own[2].store(2 * number, SeqCst);

        group.sort_unstable();
        let rank = group.iter().position(|(_, rank)| *rank == self.rank);
        let Some(rank) = rank.filter(|_| colour >= 0) else { return Ok(None) };
        Self::join(&format!("{}-{number}-{colour}", self.name), rank, group.len()).map(Some)
    }
}

/// FNV-1a.
pub fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Drop for Communicator {
    fn drop(&mut self) {
        order::end(self.id());
        // What is in streams still uses the memory.
        self.driver.synchronize();
        for (_, memory) in self.state().staging.drain(..) {
            // SAFETY: allocated once, and all work is done.
            unsafe { self.driver.free(memory) };
        }
    }
}
