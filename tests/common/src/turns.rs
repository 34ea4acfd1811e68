//! What takes turns from run to run, since all of it would take an hour.

use std::sync::LazyLock;
use std::time::SystemTime;

use crate::skipped;

/// Names the number that says what has its turn: set it to that of another run to try the same again.
pub const TURN: &str = "IGPT_TEST_TURN";

/// The number of this run: the second in which it began, so that the next run most likely has another turn.
pub fn turn() -> usize {
    static RUN: LazyLock<usize> = LazyLock::new(|| {
        let given = std::env::var(TURN).ok().and_then(|number| number.parse().ok());
        given.unwrap_or_else(|| {
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() as usize
        })
    });
    *RUN
}

/// Of what is tried in turns, one of `parts` a run: those whose number leaves the remainder that [`turn`] does. All of them where
/// `IGPT_TEST_ALL=1` (`cargo xtask test --all`).
pub fn in_turn<T>(all: impl IntoIterator<Item = T>, parts: usize) -> impl Iterator<Item = T> {
    let (first, step) = if tries_all() { (0, 1) } else { (turn() % parts, parts) };
    all.into_iter().skip(first).step_by(step)
}

/// Whether this run has number `number` of `parts` whole tests that take turns; says so where it has not. Minutes decide: seconds do within
/// such tests, and would leave the same cases to the same test for ever.
pub fn has_turn(number: usize, parts: usize) -> bool {
    let has = tries_all() || turn() / 60 % parts == number;
    if !has {
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        skipped(&format!("{name}: one of {parts} that take turns from run to run; `cargo xtask test --all` has all"));
    }
    has
}

/// Whether all is to be tried that another run would leave to others.
pub fn tries_all() -> bool {
    std::env::var_os("IGPT_TEST_ALL").is_some_and(|all| all == "1")
}
