//! What whole steps are predicted to take on cards: the commands of docs/guide/profile.md.

use std::collections::BTreeMap;

use igpt_engine::device::Precision;
use igpt_engine::model::{ModelConfig, Preset};
use igpt_engine::plan::{Load, Work};
use igpt_engine::profile::{Card, profile};
use toml::Value;

use super::Result;
use super::file::Row;

/// The cards whose predictions are kept.
const CARDS: [&str; 2] = ["h100", "a100"];

/// Steps: a name, the model, images of a batch, and whether they are trained on or drawn.
const STEPS: [(&str, Preset, usize, Work); 4] = [
    ("train_s", Preset::S, 32, Work::Training),
    ("train_m", Preset::M, 16, Work::Training),
    ("train_l", Preset::L, 16, Work::Training),
    ("draw_s", Preset::S, 16, Work::Sampling),
];

/// A row for each step on each card.
pub fn predict() -> Result<BTreeMap<String, Row>> {
    let mut rows = BTreeMap::new();
    for (name, model, images, work) in STEPS {
        let config = ModelConfig::preset(model, 32);
        let load = Load::new(&config, work, images, config.positions, Precision::Bf16);
        for card in CARDS {
            let predicted = profile(&Card::named(card)?, load)?;
            // Whole microseconds, which round the shortest step by a thousandth.
            let microseconds = (predicted.step_ms * 1e3).round() as i64;
            let row =
                [("images", images as i64), ("microseconds", microseconds), ("launches", predicted.launches as i64)];
            rows.insert(format!("{name}.{card}"), row.map(|(name, number)| (name, Value::from(number))).to_vec());
        }
    }
    Ok(rows)
}
