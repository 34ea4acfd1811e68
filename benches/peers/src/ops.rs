//! The ops of the paper's models on a card, op by op: the least that each could take, what is predicted of it, and the best that is published
//! of the like.

use std::fmt::Write;

use anyhow::{Context, Result};
use igpt_engine::device::Precision;
use igpt_engine::model::{ModelConfig, Preset};
use igpt_engine::plan::{Load, Work};
use igpt_engine::profile::{Card, Profile, Row, profile};
use serde::Deserialize;

use crate::published;

/// The models, each with images of 32 x 32 pixels.
const STEPS: [(&str, Preset, usize); 3] = [("S", Preset::S, 32), ("M", Preset::M, 16), ("L", Preset::L, 16)];

/// Which published figures stand beside an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// A GEMM; `size` is the number of terms of a sum.
    Gemm,
    /// Causal attention forward; `size` is the dimension of a head.
    Attention,
    /// The same forward and backward together.
    AttentionBothWays,
    /// A GEMM and the norm behind it, of which nothing is published.
    GemmAndNorm,
    /// A norm; `size` means nothing.
    Norm,
}

/// A published rate.
#[derive(Clone, Debug)]
struct Best {
    card: String,
    kind: Kind,
    size: usize,
    /// 10¹² operations in a second, or bytes of a norm.
    rate: f64,
    /// Whose, at which shape.
    of: String,
    source: String,
}

/// The same in `published_ops.json`: of a case of `published.json`, or with a rate and a source of its own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    card: String,
    kind: Kind,
    size: usize,
    of: String,
    case: Option<String>,
    rate: Option<f64>,
    source: Option<String>,
}

/// The best published rates.
///
/// # Errors
/// When a file is malformed, or an entry has neither a case nor a rate with its source.
fn best() -> Result<Vec<Best>> {
    let entries: Vec<Entry> =
        serde_json::from_str(include_str!("../published_ops.json")).context("published_ops.json")?;
    let figures = published::figures()?;
    let resolve = |Entry { card, kind, size, of, case, rate, source }: Entry| {
        let figure = figures.iter().find(|figure| Some(&figure.case) == case.as_ref() && figure.card == card);
        let (rate, source) = match figure {
            Some(figure) => (figure.rate(figure.seconds()), figure.source.clone()),
            None => {
                rate.zip(source).with_context(|| format!("{of} on {card}: neither a case nor a rate and source"))?
            }
        };
        Ok(Best { card, kind, size, rate, of, source })
    };
    entries.into_iter().map(resolve).collect()
}

/// An op of a step.
struct Op {
    op: String,
    shape: String,
    kind: Kind,
    size: usize,
    /// Operations, or bytes of a norm.
    work: f64,
    least_us: f64,
    predicted_us: f64,
}

/// A table of each model as Markdown.
///
/// # Errors
/// When a step cannot be predicted.
pub fn text(card: &str) -> Result<String> {
    let best = best()?;
    let card = Card::named(card)?;
    let mut text = String::from(
        "| op | shape | least, µs | predicted, µs | rate | published | predicted / published |\n|---|---|---|---|---|---|---|\n",
    );
    for (name, preset, images) in STEPS {
        let config = ModelConfig::preset(preset, 32);
        let step = profile(&card, Load::new(&config, Work::Training, images, config.positions, Precision::Bf16))?;
        let _ = writeln!(text, "| **{name}, {images} images** | | | | | | |");
        for op in ops(&step, &config, images) {
            let rate = op.work / op.predicted_us / 1e6;
            let unit = if op.kind == Kind::Norm { "TB/s" } else { "TFLOP/s" };
            let digits = if op.kind == Kind::Norm { 2 } else { 0 };
            let published = match nearest(&best, card.shape.key, &op) {
                Some(best) => {
                    format!("{:.digits$} ([{}]({})) | {:.2}", best.rate, best.of, best.source, rate / best.rate)
                }
                None => "– | –".to_owned(),
            };
            let Op { op, shape, least_us, predicted_us, .. } = op;
            let _ = writeln!(
                text,
                "| {op} | {shape} | {least_us:.0} | {predicted_us:.0} | {rate:.digits$} {unit} | {published} |"
            );
        }
    }
    Ok(text)
}

/// The published figure of the nearest size; of attention, of the same.
fn nearest<'b>(best: &'b [Best], card: &str, op: &Op) -> Option<&'b Best> {
    let distance = |size: usize| (size as f64 / op.size as f64).ln().abs();
    let exact = matches!(op.kind, Kind::Attention | Kind::AttentionBothWays);
    best.iter()
        .filter(|best| best.card == card && best.kind == op.kind && (!exact || best.size == op.size))
        .min_by(|a, b| distance(a.size).total_cmp(&distance(b.size)))
}

/// A step's ops of every block, the longest first.
fn ops(step: &Profile, config: &ModelConfig, images: usize) -> Vec<Op> {
    // The first or last block's may find other buffers in L2, and be a row of its own.
    let of_block = || step.rows.iter().filter(|row| row.count as usize + 1 >= config.layers);
    let mut ops: Vec<Op> = of_block().filter_map(|row| gemm_or_norm(row, config, images * config.positions)).collect();

    // Under a causal mask half of all pairs of tokens count; forward has two products of each, backward five.
    let ModelConfig { heads, width, positions, .. } = *config;
    let size = width / heads;
    let forward = (2 * images * heads * positions * positions * size) as f64;
    let attention = |op: &str, kind, work, is_it: fn(&str) -> bool| {
        let sum = |of: fn(&Row) -> f64| of_block().filter(|row| is_it(&row.name)).map(of).sum();
        let shape = format!("{images} × {heads} × {positions} × {size}, causal");
        let (least_us, predicted_us) = (sum(|row| row.roofline_us), sum(|row| row.predicted_us));
        Op { op: op.to_owned(), shape, kind, size, work, least_us, predicted_us }
    };
    let is_attention: fn(&str) -> bool = |name| name.starts_with("attention_");
    let is_forward: fn(&str) -> bool = |name| name.starts_with("attention_") && !name.starts_with("attention_backward");
    ops.push(attention("attention", Kind::Attention, forward, is_forward));
    ops.push(attention("attention, forward and backward", Kind::AttentionBothWays, 3.5 * forward, is_attention));

    ops.sort_by(|a, b| b.predicted_us.total_cmp(&a.predicted_us));
    ops
}

/// What a launch is: its shape follows from how many products it has.
fn gemm_or_norm(row: &Row, config: &ModelConfig, tokens: usize) -> Option<Op> {
    let width = config.width;
    let named = |op: &str, shape, kind, size, work| Op {
        op: op.to_owned(),
        shape,
        kind,
        size,
        work,
        least_us: row.roofline_us,
        predicted_us: row.predicted_us,
    };
    if row.name.starts_with("layernorm") {
        let op = if row.name.contains("backward") { "residual and norm, backward" } else { "residual and norm" };
        let bytes = row.bytes.dram_read + row.bytes.dram_written;
        return Some(named(op, format!("{tokens} × {width}"), Kind::Norm, width, bytes));
    }
    if row.name.starts_with("linear_weights") {
        let work = (2 * 12 * width * width * tokens) as f64;
        return Some(named(
            "weights' gradients of a block",
            format!("12 · {width}² × {tokens}"),
            Kind::Gemm,
            tokens,
            work,
        ));
    }
    if !row.name.starts_with("linear_") {
        return None;
    }

    // Widths of outputs and inputs.
    let back = row.name.contains("transposed") || row.name.contains("backward");
    let widths = (row.tensor_flops / (2 * tokens * width * width) as f64).round() as usize;
    let with_norm = row.name.starts_with("linear_layernorm");
    let (op, outputs, inputs) = match (widths, back) {
        (1, false) if with_norm => ("projection, residual and norm", 1, 1),
        (4, false) if with_norm => ("down, residual and norm", 1, 4),
        (1, false) => ("projection", 1, 1),
        (1, true) => ("projection's gradient", 1, 1),
        (3, false) => ("qkv", 3, 1),
        (3, true) => ("qkv's gradient", 1, 3),
        (4, false) if row.name.contains("activate") => ("up, activated", 4, 1),
        (4, false) => ("down", 1, 4),
        (4, true) if row.name.contains("activate") => ("down's gradient, × act′", 4, 1),
        (4, true) => ("up's gradient", 1, 4),
        _ => return None,
    };
    let (outputs, inputs) = (outputs * width, inputs * width);
    let work = (2 * tokens * outputs * inputs) as f64;
    let kind = if with_norm { Kind::GemmAndNorm } else { Kind::Gemm };
    Some(named(op, format!("{tokens} × {outputs} × {inputs}"), kind, inputs, work))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_published_rate_has_a_source_and_is_possible() {
        for Best { card, kind, rate, source, of, .. } in best().unwrap() {
            let card = Card::named(&card).unwrap();
            let peak = if kind == Kind::Norm { card.memory_bandwidth() } else { card.peak() };
            assert!((0.1..1.0).contains(&(rate * 1e12 / peak)), "{of} on {}: {rate}", card.shape.key);
            assert!(source.starts_with("https://"), "{of}: {source}");
        }
    }

    #[test]
    fn a_gemm_stands_beside_the_nearest_sum_and_attention_beside_its_own_heads() {
        let best = best().unwrap();
        let op = |kind, size| Op {
            op: String::new(),
            shape: String::new(),
            kind,
            size,
            work: 0.0,
            least_us: 0.0,
            predicted_us: 0.0,
        };
        let of = |kind, size| nearest(&best, "h100", &op(kind, size)).map(|best| best.size);
        assert_eq!(of(Kind::Gemm, 512), Some(512));
        assert_eq!(of(Kind::Gemm, 32768), Some(4096));
        assert_eq!(of(Kind::Attention, 128), Some(128));
        assert_eq!(of(Kind::Attention, 96), None);
    }
}
