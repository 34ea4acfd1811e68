//! Standard output and standard error. A closed or full one is an error value, never a panic: readers such as `head`
//! go away early, and disks that logs are sent to fill up.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use serde::Serialize;

/// Whether the command's work is worth more than its lines: then it goes on without a reader.
static OUTLIVES_READER: AtomicBool = AtomicBool::new(false);

/// From here on a reader of standard output that goes away is noted once and is no error: what trains, scores or writes
/// files goes on. A command that only prints ends there, in silence.
pub fn outlive_reader() {
    OUTLIVES_READER.store(true, Ordering::Relaxed);
}

/// Prints a line on standard output.
pub fn say(line: fmt::Arguments<'_>) -> Result<()> {
    static NOTED: AtomicBool = AtomicBool::new(false);
    /// What a terminal that has hung up answers.
    const EIO: i32 = 5;
    let is_gone = |error: &io::Error| {
        error.kind() == io::ErrorKind::BrokenPipe || cfg!(unix) && error.raw_os_error() == Some(EIO)
    };

    match writeln!(io::stdout(), "{line}") {
        Err(error) if is_gone(&error) && OUTLIVES_READER.load(Ordering::Relaxed) => {
            if !NOTED.swap(true, Ordering::Relaxed) {
                tell(format_args!("note: the reader of standard output has gone; the work goes on without it"));
            }
            Ok(())
        }
        written => written.context("cannot write to standard output"),
    }
}

/// Prints one line of JSON on standard output.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    say(format_args!("{}", serde_json::to_string(value)?))
}

/// Prints a line on standard error; where that is closed, the line is dropped.
pub fn tell(line: fmt::Arguments<'_>) {
    // Written whole: lines of several threads do not mix.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Prints a note on standard error for each line.
pub fn note_all(lines: &[String]) {
    lines.iter().for_each(|line| tell(format_args!("note: {line}")));
}

/// Whether the reader of our output has gone (`| head`).
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |io: &io::Error| io.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(broken))
}

/// An error with its causes on one line. A cause that the text before it already quotes is not said twice, and control
/// characters (of a file's or tensor's name, say) do not reach the terminal.
pub fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string).filter(|cause| !cause.is_empty()) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    printable(&text)
}

/// A text whose control characters cannot steer a terminal.
pub fn printable(text: &str) -> String {
    let shown = |letter: char| !letter.is_control() || letter == '\n' || letter == '\t';
    text.chars().map(|letter| if shown(letter) { letter } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn causes_are_said_once_and_cannot_steer_the_terminal() {
        let cause = io::Error::other("disk on fire");
        let quoting = crate::data::DataError::Read { path: "a\u{1b}[31m.npy".into(), source: cause };
        let text = describe(&anyhow!(quoting).context("cannot start"));
        assert_eq!(text.matches("disk on fire").count(), 1, "{text}");
        assert!(text.starts_with("cannot start: cannot read a\u{fffd}[31m.npy"), "{text}");
    }

    #[test]
    fn only_a_gone_reader_is_a_broken_pipe() {
        let of = |kind: io::ErrorKind| anyhow!(io::Error::from(kind)).context("cannot write to standard output");
        assert!(is_broken_pipe(&of(io::ErrorKind::BrokenPipe)));
        assert!(!is_broken_pipe(&of(io::ErrorKind::StorageFull)));
    }
}
