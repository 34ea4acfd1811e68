//! Bad files among many: how many are left out, and what stands in for them.
//!
//! A file that turns out bad when it is decoded cannot simply vanish: that would move the indices of all files after it,
//! and with them the held-out split and the samples of a resumed run. So the next readable file of the same class, in
//! order and cyclically, stands in for it: the label stays true, and the result is a function of the files alone.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Mutex;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::error::{DataError, Result};

/// How many bad files of a split may be left out; one more is an error. On the command line `--skip-bad` (any number) or
/// `--skip-bad=N`, in TOML `true` or `N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct SkipBad(u64);

impl SkipBad {
    /// The first bad file is an error.
    pub const NONE: Self = SkipBad(0);
    /// Every bad file is left out.
    pub const ALL: Self = SkipBad(u64::MAX);

    /// Up to `count` bad files are left out.
    pub fn up_to(count: u64) -> Self {
        SkipBad(count)
    }

    /// Bad files that may be left out.
    pub fn limit(self) -> u64 {
        self.0
    }
}

/// A flag, or a number.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Flag(bool),
    Count(u32),
}

impl From<Written> for SkipBad {
    fn from(written: Written) -> Self {
        match written {
            Written::Flag(false) => SkipBad::NONE,
            Written::Flag(true) => SkipBad::ALL,
            Written::Count(count) => SkipBad(count.into()),
        }
    }
}

impl From<SkipBad> for Written {
    fn from(skip: SkipBad) -> Self {
        match u32::try_from(skip.0) {
            Ok(0) => Written::Flag(false),
            Ok(count) => Written::Count(count),
            Err(_) => Written::Flag(true),
        }
    }
}

impl FromStr for SkipBad {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(SkipBad::ALL),
            "false" => Ok(SkipBad::NONE),
            count => count
                .parse::<u32>()
                .map(|count| SkipBad(count.into()))
                .map_err(|_| "give the number of bad files that may be left out, or nothing for any number".into()),
        }
    }
}

impl std::fmt::Display for SkipBad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            SkipBad::NONE => f.write_str("false"),
            SkipBad::ALL => f.write_str("true"),
            SkipBad(count) => write!(f, "{count}"),
        }
    }
}

/// The bad files of a split that were met so far.
pub(super) struct BadFiles {
    allowed: SkipBad,
    /// What is wrong with those that were left out on opening.
    left_out: Vec<DataError>,
    /// Turned out bad on decoding, by index.
    met: Mutex<BTreeSet<usize>>,
}

impl BadFiles {
    pub(super) fn new(allowed: SkipBad) -> Self {
        BadFiles { allowed, left_out: Vec::new(), met: Mutex::default() }
    }

    /// Leaves a file out on opening.
    ///
    /// # Errors
    /// The fault itself where none may be left out, [`DataError::TooManyBad`] where this is one too many.
    pub(super) fn leave_out(&mut self, fault: DataError) -> Result<()> {
        let fault = self.allow(self.left_out.len() as u64 + 1, fault)?;
        self.left_out.push(fault);
        Ok(())
    }

    /// What is wrong with the files that were left out on opening, in order.
    pub(super) fn left_out(&self) -> &[DataError] {
        &self.left_out
    }

    /// Gives the fault of bad file number `count` back where so many may be left out.
    fn allow(&self, count: u64, fault: DataError) -> Result<DataError> {
        match self.allowed.limit() {
            0 => Err(fault),
            limit if count > limit => Err(DataError::TooManyBad { limit, fault: Box::new(fault) }),
            _ => Ok(fault),
        }
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.left_out.len() as u64 + self.met.lock().map_or(0, |met| met.len() as u64)
    }

    /// The next of `len` files that has the label of `index` and loads, for the one at `index`, which did not.
    ///
    /// # Errors
    /// As [`BadFiles::leave_out`]; the fault itself where no other file of the class loads.
    pub(super) fn stand_in(
        &self,
        index: usize,
        len: usize,
        fault: DataError,
        label: impl Fn(usize) -> Option<u16>,
        load: impl Fn(usize) -> Result<RgbImage>,
    ) -> Result<RgbImage> {
        let count = {
            // A poisoned lock only means that another thread died while it held the set: still usable.
            let mut met = self.met.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            met.insert(index);
            (self.left_out.len() + met.len()) as u64
        };

        let fault = self.allow(count, fault)?;
        let wanted = label(index);
        let after = (index + 1..len).chain(0..index);
        after.filter(|&other| label(other) == wanted).find_map(|other| load(other).ok()).ok_or(fault)
    }

    /// `, 3 bad files left out`, or nothing.
    pub(super) fn remark(&self) -> String {
        match self.count() {
            0 => String::new(),
            1 => ", 1 bad file left out".into(),
            count => format!(", {count} bad files left out"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(index: usize) -> DataError {
        DataError::index(index, 0)
    }

    #[test]
    fn what_is_written_is_read() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Settings {
            skip: SkipBad,
        }
        for (text, skip) in [("true", SkipBad::ALL), ("false", SkipBad::NONE), ("17", SkipBad::up_to(17))] {
            assert_eq!((text.parse(), skip.to_string()), (Ok(skip), text.to_owned()));
            let settings = Settings { skip };
            let toml = toml::to_string(&settings).unwrap();
            assert_eq!(toml.trim(), format!("skip = {text}"));
            assert_eq!(toml::from_str::<Settings>(&toml).unwrap(), settings);
        }
        assert!("-1".parse::<SkipBad>().is_err() && "many".parse::<SkipBad>().is_err());
    }

    #[test]
    fn the_next_of_the_class_stands_in_until_there_are_too_many() {
        let label = |index: usize| Some((index % 2) as u16);
        let load = |index: usize| if index < 3 { Err(fault(index)) } else { Ok(RgbImage::new(index as u32, 1)) };
        let bad = BadFiles::new(SkipBad::up_to(2));
        assert_eq!(bad.stand_in(0, 6, fault(0), label, load).unwrap().width(), 4);
        assert_eq!(bad.stand_in(1, 6, fault(1), label, load).unwrap().width(), 3);
        // The same file again does not count twice.
        assert_eq!((bad.stand_in(0, 6, fault(0), label, load).unwrap().width(), bad.count()), (4, 2));
        let error = bad.stand_in(2, 6, fault(2), label, load).unwrap_err().to_string();
        assert!(error.contains("more than 2 bad files") && error.contains("index is 2"), "{error}");
        assert!(matches!(BadFiles::new(SkipBad::NONE).leave_out(fault(7)), Err(DataError::Bounds { got: 7, .. })));
        // Nothing else of the class is readable.
        let bad = BadFiles::new(SkipBad::ALL);
        assert!(matches!(bad.stand_in(0, 3, fault(0), label, load), Err(DataError::Bounds { got: 0, .. })));
    }
}
