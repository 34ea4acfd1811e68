//! What `profile` prints.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::to_value;

use super::ProfileCommand;
use crate::cli::common::output::say;
use crate::named::Named;
use crate::profile::{Profile, Row};
use crate::report::html::grouped;

/// The table for people: the step, its launches, the share of each op.
pub fn say_profile(command: &ProfileCommand, profile: &Profile) -> Result<()> {
    let Profile { gaps_ms, launches, .. } = profile;
    say_step(command, profile)?;
    say(format_args!("  launches     {launches}, with {gaps_ms:.3} ms between them"))?;
    if let Some(measured) = profile.measured_ms {
        say(format_args!("  measured     {measured:.1} ms of kernels"))?;
    }
    say(format_args!(""))?;
    say_rows(profile, command.top)?;
    say(format_args!(""))?;
    say_shares(profile)
}

/// What kind of step it is, its time, and how much of the card that uses.
fn say_step(command: &ProfileCommand, profile: &Profile) -> Result<()> {
    let Profile { card_name, step_ms, tokens_per_second, mfu, mfu_palm, mbu, .. } = profile;
    let (model, batch, side) = (command.model.name(), command.images(), command.resolution);
    let rate = grouped(*tokens_per_second as u64);

    // Of drawing: the memory is what matters.
    if let Some(mbu) = mbu {
        let images = format!("{batch} images of {side} x {side}");
        say(format_args!("Drawing a pixel of each of {images}, the one in the middle, by {model} on {card_name}"))?;
        say(format_args!(""))?;
        say(format_args!("  predicted    {step_ms:.3} ms, {rate} pixels/s"))?;
        return say(format_args!(
            "  predicted    {:.1} % MBU: reading each weight, key and value once, of the memory's bandwidth",
            100.0 * mbu
        ));
    }

    // Of training: tensor cores.
    say(format_args!("A training step of {model}, {batch} images of {side} x {side}, on {card_name}"))?;
    say(format_args!(""))?;
    say(format_args!("  predicted    {step_ms:.1} ms, {rate} tokens/s"))?;
    say(format_args!(
        "  predicted    {:.1} % MFU counting the causal half of attention, {:.1} % counting all of it",
        100.0 * mfu,
        100.0 * mfu_palm
    ))
}

/// The launches, the longest first.
fn say_rows(profile: &Profile, top: usize) -> Result<()> {
    let shown = if top == 0 { profile.rows.len() } else { top.min(profile.rows.len()) };
    let width = profile.rows[..shown].iter().map(|row| row.name.len()).max().unwrap_or(0);

    // The heads of the columns, as wide as `say_row` has them.
    say(format_args!(
        "  {:width$} {:>5} {:>16} {:>5} {:>4} {:>7} {:>3} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9} {:>8} {:>6}  bound",
        "kernel",
        "count",
        "grid",
        "block",
        "regs",
        "shared",
        "res",
        "GFLOP",
        "DRAM MB",
        "L2 MB",
        "M issued",
        "M tensor",
        "M wavefr",
        "us each",
        "measured",
        "share"
    ))?;

    for row in &profile.rows[..shown] {
        say_row(row, width)?;
    }
    if shown < profile.rows.len() {
        say(format_args!("  and {} more; --top 0 shows all", profile.rows.len() - shown))?;
    }
    Ok(())
}

fn say_row(row: &Row, width: usize) -> Result<()> {
    let grid = row.grid.map(|blocks| blocks.to_string()).join("x");
    let bytes = row.bytes;
    let bound = to_value(row.bound)?;

    say(format_args!(
        "  {:width$} {:>5} {:>16} {:>5} {:>4} {:>7} {:>3} {:>8.2} {:>8.1} {:>8.1} {:>8.2} {:>8.2} {:>8.2} {:>9.1} {:>8} {:>5.1}%  {}",
        row.name,
        row.count,
        grid,
        row.block,
        row.registers,
        row.shared,
        row.blocks_per_multiprocessor,
        (row.tensor_flops + row.f32_flops) / 1e9,
        (bytes.dram_read + bytes.dram_written) / 1e6,
        (bytes.l2_read + bytes.l2_written) / 1e6,
        row.issued / 1e6,
        row.tensor_cycles / 1e6,
        row.wavefronts / 1e6,
        row.predicted_us,
        row.measured_us.map_or("-".to_owned(), |measured| format!("{measured:.1}")),
        100.0 * row.share,
        bound.as_str().unwrap_or_default()
    ))
}

/// The share of each op, the largest first.
fn say_shares(profile: &Profile) -> Result<()> {
    let mut shares: BTreeMap<&str, f64> = BTreeMap::new();
    for row in &profile.rows {
        *shares.entry(&row.op).or_default() += row.share;
    }
    shares.insert("between launches", profile.gaps_ms / profile.step_ms);
    let mut shares: Vec<_> = shares.into_iter().collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    say(format_args!("  predicted share of each op"))?;
    for (op, share) in shares {
        say(format_args!("  {op:24} {:5.1} %", 100.0 * share))?;
    }
    Ok(())
}
