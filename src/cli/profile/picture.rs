//! The picture of `profile`: a bar for each op, of its kernels, and its roofline.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};

use crate::profile::Profile;
use crate::report::bars::{Bar, bars};

/// As SVG.
pub fn svg(profile: &Profile) -> Result<String> {
    let mut ops: BTreeMap<&str, Bar> = BTreeMap::new();
    for row in &profile.rows {
        let empty = || Bar { label: row.op.clone(), parts: Vec::new(), mark: 0.0 };
        let bar = ops.entry(&row.op).or_insert_with(empty);
        bar.mark += row.roofline_us * 1e-3 * row.count as f64;
        // Launches of one kernel stand together.
        match bar.parts.iter_mut().find(|(name, _)| *name == row.name) {
            Some((_, length)) => *length += row.total_us * 1e-3,
            None => bar.parts.push((row.name.clone(), row.total_us * 1e-3)),
        }
    }

    let length = |bar: &Bar| bar.parts.iter().map(|(_, length)| length).sum::<f64>();
    let mut drawn: Vec<Bar> = ops.into_values().collect();
    drawn.sort_by(|a, b| length(b).total_cmp(&length(a)));
    let title = format!("{}: predicted {:.1} ms a step, launches by op", profile.card_name, profile.step_ms);
    let svg = bars(&title, "milliseconds, predicted; the mark is the data sheet's roofline", &drawn);
    svg.map_err(|why| anyhow!("cannot draw the picture: {why}"))
}
