//! Published speeds of kernels on real cards: `published.json`.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// 10¹² multiplications and additions in a second.
    #[serde(rename = "TFLOP/s")]
    TeraFlops,
    /// Milliseconds; the work is bytes.
    #[serde(rename = "ms")]
    Milliseconds,
}

/// A published speed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// The case of `python/` that launches the kernel.
    pub case: String,
    /// The card, as `profile --card` has it.
    pub card: String,
    /// The figure.
    pub published: f64,
    /// Its unit.
    pub unit: Unit,
    /// What the kernel does: multiplications and additions as the source counts them, or bytes.
    pub work: f64,
    /// Where it is published.
    pub source: String,
    /// What is not as in the source, or not known of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Figure {
    /// The published seconds of a launch.
    pub fn seconds(&self) -> f64 {
        match self.unit {
            Unit::TeraFlops => self.work / (self.published * 1e12),
            Unit::Milliseconds => self.published * 1e-3,
        }
    }

    /// Work in a second, in 10¹² of it, where a launch takes so many seconds.
    pub fn rate(&self, seconds: f64) -> f64 {
        self.work / seconds / 1e12
    }
}

/// All figures.
///
/// # Errors
/// When the file is malformed.
pub fn figures() -> Result<Vec<Figure>> {
    serde_json::from_str(include_str!("../published.json")).context("published.json")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use igpt_engine::profile::Card;

    use super::*;

    #[test]
    fn every_figure_has_a_source_a_card_and_a_possible_speed() {
        let figures = figures().unwrap();
        let mut seen = HashSet::new();
        for figure in &figures {
            let what = format!("{} on {}", figure.case, figure.card);
            assert!(seen.insert(what.clone()), "{what} twice");
            assert!(figure.source.starts_with("https://"), "{what}: {}", figure.source);
            let card = Card::named(&figure.card).unwrap();
            let peak = match figure.unit {
                Unit::TeraFlops => card.peak(),
                Unit::Milliseconds => card.memory_bandwidth(),
            };
            let part = figure.rate(figure.seconds()) * 1e12 / peak;
            assert!((0.1..1.0).contains(&part), "{what}: {part} of the card's peak");
        }
        let on = |card: &str| figures.iter().filter(|figure| figure.card == card).count();
        assert!(figures.len() >= 12 && on("a100") >= 5 && on("h100") >= 5);
    }
}
