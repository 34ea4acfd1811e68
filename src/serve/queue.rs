//! Drawings that wait for the device: a bounded number, first come, first served.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::drawing::{Drawing, Event};

/// Drawings that wait at most, beside the one that is being drawn.
pub const MAX_WAITING: usize = 8;

/// The line before the device.
#[derive(Default)]
pub struct Queue {
    line: Mutex<Line>,
    changed: Condvar,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Job>,
    /// Number of the drawing that is being drawn.
    drawn: Option<u64>,
    /// Number of the next one to come.
    next: u64,
}

/// A drawing in the line, or the one being drawn.
pub struct Job {
    number: u64,
    /// What to draw.
    pub drawing: Drawing,
    events: Sender<Event>,
    cancelled: Arc<AtomicBool>,
}

impl Job {
    /// Whether nobody waits for it any longer.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Tells its client. That never waits: a client who reads slowly holds up nobody.
    pub fn tell(&self, event: Event) {
        // One that is gone cancels the job.
        let _ = self.events.send(event);
    }
}

/// The client's side: events come here, and to drop it cancels the drawing.
pub struct Ticket {
    queue: Arc<Queue>,
    number: u64,
    cancelled: Arc<AtomicBool>,
    /// What is told of the drawing; it ends when nobody will draw it.
    pub events: Receiver<Event>,
}

impl Ticket {
    /// Drawings before this one, the one being drawn among them.
    pub fn ahead(&self) -> usize {
        let line = self.queue.lock();
        let before = line.waiting.iter().filter(|job| job.number < self.number).count();
        before + usize::from(line.drawn.is_some_and(|drawn| drawn != self.number))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.queue.lock().waiting.retain(|job| job.number != self.number);
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Line> {
        // A thread that died while it held the line has left it whole.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a drawing at the end of the line; `None` if the line is full.
    pub fn join(self: &Arc<Self>, drawing: Drawing) -> Option<Ticket> {
        let mut line = self.lock();
        if line.waiting.len() >= MAX_WAITING {
            return None;
        }
        let number = line.next;
        line.next += 1;
        let ((sender, events), cancelled) = (channel(), Arc::new(AtomicBool::new(false)));
        line.waiting.push_back(Job { number, drawing, events: sender, cancelled: Arc::clone(&cancelled) });
        self.changed.notify_one();
        Some(Ticket { queue: Arc::clone(self), number, cancelled, events })
    }

    /// The next drawing, if one comes within `time`. The one before it is done.
    pub fn next(&self, time: Duration) -> Option<Job> {
        let mut line = self.lock();
        line.drawn = None;
        if line.waiting.is_empty() {
            line = self.changed.wait_timeout(line, time).unwrap_or_else(PoisonError::into_inner).0;
        }
        let job = line.waiting.pop_front()?;
        line.drawn = Some(job.number);
        Some(job)
    }

    /// Sends everybody home, who then see their events end.
    pub fn clear(&self) {
        self.lock().waiting.clear();
    }
}
