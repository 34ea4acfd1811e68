//! Which depths are read from the model, and which are probed how.

use std::str::FromStr;

use super::error::{ProbeError, Result};
use super::features::extract::window;

/// Which depths are probed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DepthSpec {
    /// Every one.
    #[default]
    All,
    /// Every one on held-out images, the best on test images.
    Best,
    /// These, ascending.
    Some(Vec<usize>),
}

impl FromStr for DepthSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(DepthSpec::All),
            "best" => return Ok(DepthSpec::Best),
            _ => {}
        }

        let problem = || "give all, best, or depths as in 12, 10-14 or 0,6,12".to_owned();
        // No model has more layers.
        let number = |text: &str| text.parse::<usize>().ok().filter(|depth| *depth <= 1024).ok_or_else(problem);
        let mut depths = Vec::new();
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return Err(problem());
            }
            depths.extend(first..=last);
        }

        depths.sort_unstable();
        depths.dedup();
        Ok(DepthSpec::Some(depths))
    }
}

/// A [`DepthSpec`] for a model of known depth.
pub(super) struct Depths {
    /// In the file of features.
    pub read: Vec<usize>,
    /// Probed one by one.
    pub single: Vec<usize>,
    /// Whether single depths are tested, or only scored on held-out images.
    pub test_single: bool,
    /// Centres of the windows, `None` for the best single depth.
    pub centres: Vec<Option<usize>>,
    /// Layers of a window.
    pub count: usize,
}

impl Depths {
    /// The depths of `spec`, with windows of `concat` layers where that is given, for a model of `layers` blocks.
    pub fn new(spec: &DepthSpec, concat: Option<usize>, layers: usize) -> Result<Self> {
        let count = concat.unwrap_or(1);
        // Says what is wrong with the count.
        window(0, count, layers).map_err(|error| ProbeError::Settings(format!("--concat: {error}")))?;

        let every: Vec<usize> = (0..=layers).collect();
        let all =
            |test_single, centres| Depths { read: every.clone(), single: every.clone(), test_single, centres, count };
        match (spec, concat) {
            (DepthSpec::All, None) => Ok(all(true, Vec::new())),
            (DepthSpec::All, Some(_)) => Ok(all(true, vec![None])),
            (DepthSpec::Best, _) => Ok(all(false, vec![None])),
            (DepthSpec::Some(chosen), _) => Self::chosen(chosen, concat, layers),
        }
    }

    /// The depths that were named, or windows around them.
    fn chosen(chosen: &[usize], concat: Option<usize>, layers: usize) -> Result<Self> {
        if let Some(beyond) = chosen.iter().find(|depth| **depth > layers) {
            return Err(ProbeError::Settings(format!("--depth {beyond}: the model has the depths 0 to {layers}")));
        }
        let Some(count) = concat else {
            let (read, single) = (chosen.to_vec(), chosen.to_vec());
            return Ok(Depths { read, single, test_single: true, centres: Vec::new(), count: 1 });
        };

        let windows: Result<Vec<_>> = chosen.iter().map(|centre| window(*centre, count, layers)).collect();
        let mut read = windows?.concat();
        read.sort_unstable();
        read.dedup();
        let centres = chosen.iter().map(|depth| Some(*depth)).collect();
        Ok(Depths { read, single: Vec::new(), test_single: false, centres, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depths_as_they_are_written() {
        let some = |depths: &[usize]| Ok(DepthSpec::Some(depths.to_vec()));
        assert_eq!("all".parse(), Ok(DepthSpec::All));
        assert_eq!("best".parse(), Ok(DepthSpec::Best));
        assert_eq!("12".parse(), some(&[12]));
        assert_eq!("10-12".parse(), some(&[10, 11, 12]));
        assert_eq!("6,0,5-7".parse(), some(&[0, 5, 6, 7]));
        for bad in ["", "x", "3-1", "1-", "-1", "1,,2", "1e3", "99999999999", "0-18446744073709551615"] {
            assert!(bad.parse::<DepthSpec>().is_err(), "{bad}");
        }
    }
}
