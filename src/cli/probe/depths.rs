//! From `--depth` and `--concat` to what is read and what is probed.

use anyhow::{Context, Result, bail};

use super::ProbeCommand;
use super::args::DepthSpec;
use crate::probe::window;

/// Which depths are read, and which are probed how.
pub struct Depths {
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
    /// From `--depth` and `--concat`, for a model of `layers` blocks.
    pub fn new(command: &ProbeCommand, layers: usize) -> Result<Self> {
        let every: Vec<usize> = (0..=layers).collect();
        let count = command.concat.unwrap_or(1);
        // Says what is wrong with the count.
        window(0, count, layers).context("--concat")?;
        let depths = match (&command.depth, command.concat) {
            (DepthSpec::All, None) => {
                Depths { read: every.clone(), single: every, test_single: true, centres: Vec::new(), count }
            }
            (DepthSpec::All, Some(_)) => {
                Depths { read: every.clone(), single: every, test_single: true, centres: vec![None], count }
            }
            (DepthSpec::Best, _) => {
                Depths { read: every.clone(), single: every, test_single: false, centres: vec![None], count }
            }
            (DepthSpec::Some(chosen), concat) => {
                if let Some(beyond) = chosen.iter().find(|depth| **depth > layers) {
                    bail!("--depth {beyond}: the model has the depths 0 to {layers}");
                }
                let centres = chosen.iter().map(|depth| Some(*depth)).collect();
                match concat {
                    None => Depths {
                        read: chosen.clone(),
                        single: chosen.clone(),
                        test_single: true,
                        centres: Vec::new(),
                        count,
                    },
                    Some(count) => {
                        let windows: Result<Vec<_>, _> =
                            chosen.iter().map(|centre| window(*centre, count, layers)).collect();
                        let mut read = windows?.concat();
                        read.sort_unstable();
                        read.dedup();
                        Depths { read, single: Vec::new(), test_single: false, centres, count }
                    }
                }
            }
        };
        Ok(depths)
    }
}
