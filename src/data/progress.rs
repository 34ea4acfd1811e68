//! How far long work on data is, for whoever shows it: the library itself draws nothing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Shows how far a piece of work is.
pub trait Meter: Send + Sync {
    /// So much is done.
    fn set_position(&self, done: u64);
    /// The work is at another point of its course.
    fn set_message(&self, text: String);
    /// The work has ended.
    fn finish(&self);
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Images, files, headers.
    Things,
    /// Bytes.
    Bytes,
}

/// Makes the meter of a piece of work: its name, how much it is if that is known, and of what.
pub type MakeMeter = fn(&str, Option<u64>, Unit) -> Box<dyn Meter>;

static MAKE: OnceLock<MakeMeter> = OnceLock::new();

/// Shows the work on data through `make` from here on; the first call decides. Without one, nothing is shown.
pub fn show_with(make: MakeMeter) {
    let _ = MAKE.set(make);
}

/// A piece of work under way, shown or not.
pub(crate) struct Progress {
    meter: Option<Box<dyn Meter>>,
    done: AtomicU64,
}

impl Progress {
    fn new(message: &str, total: Option<u64>, unit: Unit, show: bool) -> Self {
        let meter = MAKE.get().filter(|_| show).map(|make| make(message, total, unit));
        Self { meter, done: AtomicU64::new(0) }
    }

    /// So much more is done.
    pub(crate) fn inc(&self, more: u64) {
        let done = self.done.fetch_add(more, Ordering::Relaxed) + more;
        self.meter.iter().for_each(|meter| meter.set_position(done));
    }

    /// So much is done in all.
    pub(crate) fn set_position(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.meter.iter().for_each(|meter| meter.set_position(done));
    }

    /// The work is at another point of its course.
    pub(crate) fn set_message(&self, text: String) {
        self.meter.iter().for_each(|meter| meter.set_message(text.clone()));
    }

    /// The work has ended.
    pub(crate) fn finish_and_clear(&self) {
        self.meter.iter().for_each(|meter| meter.finish());
    }
}

/// Work on `total` things.
pub(crate) fn count(message: &str, total: u64, show: bool) -> Progress {
    Progress::new(message, Some(total), Unit::Things, show)
}

/// Work on `total` bytes.
pub(crate) fn bytes(message: &str, total: u64, show: bool) -> Progress {
    Progress::new(message, Some(total), Unit::Bytes, show)
}

/// Work of unknown length.
pub(crate) fn spinner(message: &str, show: bool) -> Progress {
    Progress::new(message, None, Unit::Things, show)
}
