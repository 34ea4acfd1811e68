//! What `profile --device cpu` prints.

use anyhow::Result;

use super::ProfileCommand;
use crate::cli::common::output::say;
use crate::named::Named;
use crate::profile::{CpuProfile, CpuRow};
use crate::report::html::grouped;

/// The table for people: the step, the machine's limits, the ops.
pub fn say_profile(command: &ProfileCommand, profile: &CpuProfile) -> Result<()> {
    let CpuProfile { device, step_ms, rest_ms, tokens_per_second, gflops, of_gemm, .. } = profile;
    let (model, images, side) = (command.model.name(), command.images(), command.resolution);
    let what = if command.draw { "A step of drawing with" } else { "A training step of" };
    say(format_args!("{what} {model}, {images} images of {side} x {side}, on {device}"))?;
    say(format_args!(""))?;
    say(format_args!("  step      {step_ms:.1} ms, {} tokens/s", grouped(*tokens_per_second as u64)))?;
    say(format_args!("  useful    {gflops:.1} GFLOP/s, {:.0} % of a large matrix product's", 100.0 * of_gemm))?;
    if let (Some(read), Some(of_memory)) = (profile.read_gbytes, profile.of_memory) {
        let share = 100.0 * of_memory;
        say(format_args!("  reads     {read:.1} GB/s of weights, keys and values, {share:.0} % of the memory's"))?;
    }
    let limits = (profile.gemm_gflops, profile.memory_gbytes);
    say(format_args!(
        "  machine   {:.1} GFLOP/s in a large matrix product, {:.1} GB/s from memory",
        limits.0, limits.1
    ))?;
    if let Some(idle) = profile.idle {
        say(format_args!("  threads   idle for {:.1} % of their time", 100.0 * idle))?;
    }
    say(format_args!(""))?;

    say(format_args!(
        "  {:24} {:>6} {:>9} {:>7} {:>9} {:>8} {:>9}",
        "op", "calls", "ms", "share", "GFLOP/s", "GB/s", "of limit"
    ))?;
    profile.rows.iter().try_for_each(say_row)?;
    say(format_args!("  {:24} {:>6} {rest_ms:>9.1} {:>6.1}%", "between ops", "", 100.0 * rest_ms / step_ms))
}

fn say_row(row: &CpuRow) -> Result<()> {
    let CpuRow { op, calls, ms, share, gflops, gbytes, of_limit } = row;
    say(format_args!(
        "  {op:24} {calls:>6.0} {ms:>9.1} {:>6.1}% {gflops:>9.1} {gbytes:>8.1} {:>8.0}%",
        100.0 * share,
        100.0 * of_limit
    ))
}
