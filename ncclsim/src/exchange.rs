//! The host's part of a collective: numbers into shared memory, the sanitizer, and what this rank receives.

use std::ffi::c_void;
use std::sync::atomic::Ordering::SeqCst;

use crate::call::{Call, FLOAT64, MAX, Operation, USAGE, Written};
use crate::communicator::Communicator;
use crate::fault::{Kind, die};
use crate::segment::CHUNK;

/// A chunk of a collective, which its stream or its graph calls, perhaps often.
pub struct Round {
    /// Outlives the round: it owns it.
    pub communicator: *const Communicator,
    /// The whole collective.
    pub call: Call,
    /// Which chunk of it.
    pub chunk: u64,
    /// Elements of each part that it has.
    pub elements: usize,
    /// Pinned memory: parts that are sent, [`CHUNK`] bytes from one to the next.
    pub send: *mut u8,
    /// And parts that are received.
    pub receive: *mut u8,
}

/// What a stream calls.
pub extern "C" fn exchange(round: *mut c_void) {
    // SAFETY: enqueued with a round, which lives as long as its communicator, as that does until it is destroyed.
    let round = unsafe { &*round.cast::<Round>() };
    // SAFETY: as above.
    let communicator = unsafe { &*round.communicator };
    if communicator.error() == 0
        && let Err(code) = round.run(communicator)
    {
        communicator.fail(code);
    }
}

impl Round {
    fn run(&self, communicator: &Communicator) -> Result<(), i32> {
        let Communicator { rank, ranks, segment, .. } = communicator;
        let (rank, ranks) = (*rank, *ranks);
        let head = segment.head();
        let own = &head.members[rank];
        let inside = self.enter(communicator)?;

        // The slot is free once all have read what was in it.
        let sequence = communicator.sequence.fetch_add(1, SeqCst) + 1;
        communicator.wait(|| segment.all(|member| member.done.load(SeqCst) >= sequence - 1))?;
        let bytes = self.elements * self.call.width();
        let sends = self.call.operation != Operation::Broadcast || self.call.root as usize == rank;
        for part in 0..if sends { self.call.parts(ranks)[0] } else { 0 } {
            // SAFETY: both hold `CHUNK` bytes, at least as many as these; nobody reads the slot now.
            unsafe { std::ptr::copy_nonoverlapping(self.send.add(part * CHUNK), segment.part(rank, part), bytes) };
        }
        let [operation, count, rest] = self.call.words();
        for (word, value) in own.call.iter().zip([operation, count, rest, self.chunk]) {
            word.store(value, SeqCst);
        }
        own.arrived.store(sequence, SeqCst);
        if inside {
            die();
        }

        // The sanitizer, once all have come.
        communicator.wait(|| segment.all(|member| member.arrived.load(SeqCst) >= sequence))?;
        self.compare(communicator)?;
        self.receive(communicator, bytes);
        if self.chunk == 0
            && communicator.fault.is_some_and(|fault| fault.is(Kind::Wrong, rank, communicator.entered.load(SeqCst)))
        {
            // SAFETY: this round's own memory, of at least one element.
            unsafe { *self.receive ^= 1 << 6 };
        }
        own.done.store(sequence, SeqCst);
        Ok(())
    }

    /// Does what is planted for the start of this collective; whether the process is to end inside of it.
    fn enter(&self, communicator: &Communicator) -> Result<bool, i32> {
        if self.chunk > 0 {
            return Ok(false);
        }
        let entered = communicator.entered.fetch_add(1, SeqCst) + 1;
        let Some(fault) = communicator.fault else { return Ok(false) };
        let is = |kind| fault.is(kind, communicator.rank, entered);
        if is(Kind::Late) {
            std::thread::sleep(fault.delay);
        }
        if is(Kind::Hang) {
            communicator.wait(|| false)?;
        }
        if is(Kind::Die) {
            die();
        }
        Ok(is(Kind::DieInside))
    }

    /// Refuses ranks that have called different things.
    fn compare(&self, communicator: &Communicator) -> Result<(), i32> {
        let members = &communicator.segment.head().members[..communicator.ranks];
        let called = |rank: usize| members[rank].call.each_ref().map(|word| word.load(SeqCst));
        let own = called(communicator.rank);
        let Some(other) = (0..communicator.ranks).find(|rank| called(*rank) != own) else { return Ok(()) };

        communicator.segment.head().broken.store(1, SeqCst);
        if communicator.rank == 0 {
            let number = communicator.entered.load(SeqCst);
            let text = |rank| {
                let [operation, count, rest, chunk] = called(rank);
                let chunk = if chunk == 0 { String::new() } else { format!(", chunk {chunk}") };
                format!("rank {rank} called {}{chunk}", Written([operation, count, rest]))
            };
            eprintln!(
                "ncclsim: the ranks disagree at collective {number} of {}: {}, {}",
                communicator.name,
                text(0),
                text(other)
            );
        }
        Err(USAGE)
    }

    /// What this rank gets, from all slots.
    fn receive(&self, communicator: &Communicator, bytes: usize) {
        let Communicator { rank, ranks, segment, .. } = communicator;
        let copy = |from: *mut u8, part: usize| {
            // SAFETY: both hold `CHUNK` bytes; slots are not written before this rank says that it is done.
            unsafe { std::ptr::copy_nonoverlapping(from, self.receive.add(part * CHUNK), bytes) };
        };
        match self.call.operation {
            Operation::AllGather => (0..*ranks).for_each(|peer| copy(segment.part(peer, 0), peer)),
            Operation::AllToAll => (0..*ranks).for_each(|peer| copy(segment.part(peer, *rank), peer)),
            Operation::Broadcast => copy(segment.part(self.call.root as usize, 0), 0),
            Operation::AllReduce => self.reduce(communicator, 0),
            Operation::ReduceScatter => self.reduce(communicator, *rank),
        }
    }

    /// Part `part` of all slots, added up in the order of the ranks.
    fn reduce(&self, communicator: &Communicator, part: usize) {
        /// Of one type.
        fn of<T: Copy>(round: &Round, communicator: &Communicator, part: usize, join: impl Fn(T, T) -> T) {
            // SAFETY: parts hold these elements of this type, whose every pattern of bits is a number, and start aligned.
            unsafe {
                let slot = |rank| communicator.segment.part(rank, part).cast::<T>();
                for at in 0..round.elements {
                    let first = slot(0).add(at).read();
                    let sum = (1..communicator.ranks).fold(first, |sum, rank| join(sum, slot(rank).add(at).read()));
                    round.receive.cast::<T>().add(at).write(sum);
                }
            }
        }
        match (self.call.datatype == FLOAT64, self.call.reduction == MAX) {
            (false, false) => of::<f32>(self, communicator, part, |sum, value| sum + value),
            (false, true) => of::<f32>(self, communicator, part, f32::max),
            (true, false) => of::<f64>(self, communicator, part, |sum, value| sum + value),
            (true, true) => of::<f64>(self, communicator, part, f64::max),
        }
    }
}
