//! Part of the sanitizer: ranks that share two communicators must call them in the same order, or each may wait in one for the other.
//!
//! With the `n`th collective of a communicator a rank notes how often it has called its other communicators by then. Of those that two
//! ranks share, both must have noted the same. Whoever calls second finds the difference, before anybody waits.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU64, fence};
use std::sync::{Mutex, PoisonError};

use crate::segment::{Head, Member};

/// Collectives that a rank may be ahead of another, and still be compared.
const AHEAD: usize = 64;
/// Other communicators that are noted.
const OTHERS: usize = 4;

/// What a rank had called before a collective.
#[repr(C)]
pub struct Note {
    /// Which collective, from 1; 0 while the rest is written.
    number: AtomicU64,
    /// Other communicators, 0 for none, and how often each was called.
    others: [[AtomicU64; 2]; OTHERS],
}

/// The last notes of a rank.
pub type Notes = [Note; AHEAD];

/// The communicators of this process, and how often each was called.
static CALLED: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());

fn called<T>(work: impl FnOnce(&mut Vec<(u64, u64)>) -> T) -> T {
    work(&mut CALLED.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A communicator of this process begins.
pub fn begin(id: u64) {
    called(|all| all.push((id, 0)));
}

/// And ends.
pub fn end(id: u64) {
    called(|all| all.retain(|(known, _)| *known != id));
}

/// Notes that this process, rank `rank`, calls its `number`th collective of the communicator `id`; a rank that has called what both
/// share in another order, if there is one.
pub fn note(head: &Head, [rank, ranks]: [usize; 2], id: u64, number: u64) -> Option<usize> {
    let others: Vec<(u64, u64)> = called(|all| {
        all.iter_mut().filter(|(known, _)| *known == id).for_each(|(_, count)| *count = number);
        all.iter().filter(|(known, _)| *known != id).copied().take(OTHERS).collect()
    });

    let at = number as usize % AHEAD;
    let own = &head.members[rank].notes[at];
    own.number.store(0, SeqCst);
    for (index, [known, count]) in own.others.iter().enumerate() {
        let (other, times) = others.get(index).copied().unwrap_or_default();
        known.store(other, SeqCst);
        count.store(times, SeqCst);
    }
    own.number.store(number, SeqCst);
    fence(SeqCst);

    let differs = |member: &Member| {
        let note = &member.notes[at];
        if note.number.load(SeqCst) != number {
            return false;
        }
        let noted = note.others.each_ref().map(|[known, count]| (known.load(SeqCst), count.load(SeqCst)));
        let differs = noted
            .iter()
            .filter(|(known, _)| *known != 0)
            .any(|(known, count)| others.iter().any(|(other, times)| other == known && times != count));
        // Not one that was written anew meanwhile.
        differs && note.number.load(SeqCst) == number
    };
    (0..ranks).find(|other| *other != rank && differs(&head.members[*other]))
}
