//! How far counted work is: a bar where one can be drawn, plain lines elsewhere.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::tell;
use crate::data::progress::{Meter, Unit};

/// Time between two lines where no bar is drawn; work that takes less has none.
pub const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Whether a bar would be seen: on a terminal that can move its cursor, which one with `TERM=dumb` cannot.
pub fn draws_bars() -> bool {
    !ProgressDrawTarget::stderr().is_hidden()
}

/// A count on standard error.
pub struct Counter {
    bar: ProgressBar,
    /// What is said in lines, if no bar is drawn.
    lines: Option<Mutex<Lines>>,
}

struct Lines {
    message: String,
    last: Instant,
}

impl Counter {
    /// Shows nothing.
    pub fn hidden() -> Self {
        Self { bar: ProgressBar::hidden(), lines: None }
    }

    /// A count up to `total` in a bar of `template`, or in lines that begin with `message`; `quiet` shows nothing.
    pub fn new(message: &str, total: u64, template: &str, quiet: bool) -> Self {
        if quiet {
            return Self::hidden();
        }
        let bar = if draws_bars() { ProgressBar::new(total) } else { ProgressBar::hidden() };
        bar.set_length(total);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_message(message.to_owned());
        let lines = Lines { message: message.to_owned(), last: Instant::now() };
        Self { bar, lines: (!draws_bars()).then(|| Mutex::new(lines)) }
    }

    /// One over images or positions, of work that is called `message`.
    pub fn images(message: &str, total: u64, quiet: bool) -> Self {
        Self::new(message, total, "{bar:28.cyan/blue} {pos}/{len}  {elapsed} spent, {eta} left", quiet)
    }

    /// Sets what it counts up to.
    pub fn set_length(&self, total: u64) {
        self.bar.set_length(total);
    }

    /// Counts some more.
    pub fn inc(&self, more: u64) {
        self.set_position(self.bar.position() + more);
    }

    /// The line that is due, if one is.
    fn line(&self, done: u64) -> Option<String> {
        let mut lines = self.lines.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.last.elapsed() < LINE_INTERVAL {
            return None;
        }
        lines.last = Instant::now();
        Some(match self.bar.length().filter(|total| *total > 0) {
            Some(total) => format!("{}: {done} of {total}", lines.message),
            None => lines.message.clone(),
        })
    }
}

impl Meter for Counter {
    fn set_position(&self, done: u64) {
        self.bar.set_position(done);
        if let Some(line) = self.line(done) {
            tell(format_args!("{line}"));
        }
    }

    fn set_message(&self, text: String) {
        if let Some(lines) = &self.lines {
            lines.lock().unwrap_or_else(PoisonError::into_inner).message.clone_from(&text);
        }
        self.bar.set_message(text);
        self.set_position(self.bar.position());
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// The meters of work on data.
pub fn data_meter(message: &str, total: Option<u64>, unit: Unit) -> Box<dyn Meter> {
    let Some(total) = total else {
        let spinner = Counter::new(message, 0, "{spinner} {msg}", false);
        spinner.bar.enable_steady_tick(Duration::from_millis(100));
        return Box::new(spinner);
    };
    let template = match unit {
        Unit::Things => "{msg} [{bar:30}] {pos}/{len} {eta}",
        Unit::Bytes => "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
    };
    Box::new(Counter::new(message, total, template, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_when_they_are_due_and_say_how_far() {
        let lines = |last| Some(Mutex::new(Lines { message: "scoring".to_owned(), last }));
        let bar = ProgressBar::hidden();
        bar.set_length(8);
        let fresh = Counter { bar: bar.clone(), lines: lines(Instant::now()) };
        assert_eq!(fresh.line(3), None);
        let Some(earlier) = Instant::now().checked_sub(LINE_INTERVAL) else { return };
        let due = Counter { bar, lines: lines(earlier) };
        assert_eq!(due.line(3).as_deref(), Some("scoring: 3 of 8"));
        assert_eq!(due.line(4), None, "one is enough for a while");
        assert_eq!(Counter::hidden().line(3), None);
    }
}
