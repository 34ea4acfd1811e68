//! Planted faults: `NCCLSIM_FAULT=rank=1,at=7,kind=die`.
//!
//! | kind | what rank `rank` does |
//! |---|---|
//! | `late` | sleeps `ms` milliseconds before it enters collective `at` |
//! | `hang` | never enters it |
//! | `die` | ends without a word when it should enter it |
//! | `die-inside` | ends after it has sent, before it has received |
//! | `die-joining` | ends before it has joined the others |
//! | `count` | calls it with one element less |
//! | `kind` | calls a broadcast in the place of it |
//! | `wrong` | receives a number of which a bit is flipped |
//! | `order` | calls it after the one that follows |
//!
//! Collectives are counted from 1: for `count`, `kind` and `order` as they are called (a captured one once), for the others as they run.

use std::time::Duration;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// See the module.
    Late,
    /// See the module.
    Hang,
    /// See the module.
    Die,
    /// See the module.
    DieInside,
    /// See the module.
    DieJoining,
    /// See the module.
    Count,
    /// See the module.
    Operation,
    /// See the module.
    Wrong,
    /// See the module.
    Order,
}

/// A planted fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: Kind,
    /// On which rank.
    pub rank: usize,
    /// In which collective, from 1.
    pub at: u64,
    /// How long [`Kind::Late`] sleeps.
    pub delay: Duration,
}

impl Fault {
    /// From the environment; nothing where none is planted.
    ///
    /// # Panics
    /// Where it cannot be read: a test that plants nothing would pass for the wrong reason.
    pub fn planted() -> Option<Self> {
        let text = std::env::var("NCCLSIM_FAULT").ok().filter(|text| !text.is_empty())?;
        Some(Self::read(&text).unwrap_or_else(|| panic!("NCCLSIM_FAULT={text} is no fault")))
    }

    /// From its text.
    pub fn read(text: &str) -> Option<Self> {
        let mut fault = Self { kind: Kind::Die, rank: 0, at: 1, delay: Duration::ZERO };
        for pair in text.split(',') {
            let (key, value) = pair.split_once('=')?;
            match key {
                "rank" => fault.rank = value.parse().ok()?,
                "at" => fault.at = value.parse().ok()?,
                "ms" => fault.delay = Duration::from_millis(value.parse().ok()?),
                "kind" => {
                    fault.kind = match value {
                        "late" => Kind::Late,
                        "hang" => Kind::Hang,
                        "die" => Kind::Die,
                        "die-inside" => Kind::DieInside,
                        "die-joining" => Kind::DieJoining,
                        "count" => Kind::Count,
                        "kind" => Kind::Operation,
                        "wrong" => Kind::Wrong,
                        "order" => Kind::Order,
                        _ => return None,
                    }
                }
                _ => return None,
            }
        }
        Some(fault)
    }

    /// Whether this is the moment.
    pub fn is(&self, kind: Kind, rank: usize, at: u64) -> bool {
        (self.kind, self.rank, self.at) == (kind, rank, at)
    }
}

/// Ends the process as a crash does.
pub fn die() -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(9) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        let late = Fault { kind: Kind::Late, rank: 1, at: 7, delay: Duration::from_millis(20) };
        assert_eq!(Fault::read("rank=1,at=7,kind=late,ms=20"), Some(late));
        for wrong in ["rank", "rank=x", "kind=sleepy", "when=3"] {
            assert_eq!(Fault::read(wrong), None);
        }
    }
}
