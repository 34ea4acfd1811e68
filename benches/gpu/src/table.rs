//! What a run found, as people read it: Markdown.

use std::fmt::Write;

use crate::card::Clocks;
use crate::report::{Peer, Report, Row};
use crate::stats::Spread;

/// The whole page.
pub fn markdown(report: &Report) -> String {
    let mut page = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut page, report);
    page
}

fn write(page: &mut String, report: &Report) -> std::fmt::Result {
    let card = &report.card;
    writeln!(page, "# {} ({} run)\n", card.name, report.size)?;
    let known = |value: Option<String>| value.unwrap_or_else(|| "unknown".to_owned());
    let on_off = |value: Option<bool>| known(value.map(|on| if on { "on" } else { "off" }.to_owned()));
    writeln!(
        page,
        "Compute capability {}, {} multiprocessors, {:.1} GiB, {:.0} MiB of second cache. Driver {} (CUDA {}), kernels by CUDA {}. \
         ECC {}, MIG {}, power limit {}, highest clocks {}.\n",
        card.compute_capability,
        card.multiprocessors,
        card.memory_bytes as f64 / f64::from(1 << 30),
        f64::from(card.l2_bytes) / f64::from(1 << 20),
        known(card.driver.clone()),
        card.cuda,
        card.toolkit,
        on_off(card.ecc),
        on_off(card.mig),
        known(card.power_limit_watts.map(|watts| format!("{watts:.0} W"))),
        known(card.max_clocks_mhz.map(|[multiprocessors, memory]| format!("{multiprocessors} / {memory} MHz"))),
    )?;
    writeln!(page, "Before: {}. After: {}.\n", clocks(&report.clocks_before), clocks(&report.clocks_after))?;
    if report.size == "toy" {
        writeln!(page, "**Toy shapes: these times say that everything runs, and nothing else.**\n")?;
    }

    ceilings(page, report)?;
    rows(page, &report.rows)?;

    if !report.not_run.is_empty() {
        writeln!(page, "\n## Not run\n")?;
        for what in &report.not_run {
            writeln!(page, "* {what}")?;
        }
    }
    Ok(())
}

fn clocks(clocks: &Option<Clocks>) -> String {
    let Some(clocks) = clocks else { return "clocks unknown".to_owned() };
    let temperature = clocks.celsius.map_or(String::new(), |celsius| format!(", {celsius} °C"));
    let throttled = match clocks.throttled_by.as_slice() {
        [] => "held by nothing".to_owned(),
        reasons => format!("held by {}", reasons.join(", ")),
    };
    format!("{} / {} MHz{temperature}, {throttled}", clocks.multiprocessors_mhz, clocks.memory_mhz)
}

fn ceilings(page: &mut String, report: &Report) -> std::fmt::Result {
    let ceilings = &report.ceilings;
    writeln!(page, "## Ceilings, measured in this run\n\n| what | median | p10 | p90 | CV |\n|---|---|---|---|---|")?;
    let mut line = |what: &str, spread: &Spread, unit: f64, name: &str| {
        let Spread { median, p10, p90, cv, .. } = spread;
        let [median, p10, p90] = [median, p10, p90].map(|value| format!("{:.2}", value / unit));
        writeln!(page, "| {what} | {median} {name} | {p10} | {p90} | {:.1} % |", 100.0 * cv)
    };
    line("memory (copy)", &ceilings.copy, 1e9, "GB/s")?;
    line("second cache (read)", &ceilings.l2, 1e9, "GB/s")?;
    line("tensor cores (mma.sync)", &ceilings.mma, 1e12, "TFLOP/s")?;
    match &ceilings.wgmma {
        Some(wgmma) => line("tensor cores (wgmma)", wgmma, 1e12, "TFLOP/s")?,
        None => writeln!(page, "| tensor cores (wgmma) | not run: only compute capability 9.0 has it | | | |")?,
    }
    let mut line = |what: &str, spread: &Spread, unit: f64, name: &str| {
        let Spread { median, p10, p90, cv, .. } = spread;
        let [median, p10, p90] = [median, p10, p90].map(|value| format!("{:.2}", value / unit));
        writeln!(page, "| {what} | {median} {name} | {p10} | {p90} | {:.1} % |", 100.0 * cv)
    };
    line("multiply-adds in f32", &ceilings.ffma, 1e12, "TFLOP/s")?;
    line("from node to node of a graph", &ceilings.node_us, 1.0, "µs")
}

fn rows(page: &mut String, rows: &[Row]) -> std::fmt::Result {
    writeln!(
        page,
        "\n## Rows\n\nTimes in µs a launch. \"Least\" is what the ceilings above allow; \"of it\" is least / median. \"Others\" have \
         their median and theirs / ours: above 1, ours is faster. A row whose numbers are wrong has no time.\n\n\
         | op | model | shape | least | limit | median | p10 | p90 | CV | of it | others | error |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|"
    )?;
    for row in rows {
        write!(page, "| {} | {} | {} | {:.2} | {} ", row.op, row.model, row.shape, row.least_us, row.limit)?;
        match (row.time_us, row.of_ceiling()) {
            (Some(Spread { median, p10, p90, cv, .. }), Some(part)) => {
                write!(page, "| {median:.2} | {p10:.2} | {p90:.2} | {:.1} % | {:.0} % ", 100.0 * cv, 100.0 * part)?;
            }
            _ => write!(page, "| {} | | | | ", row.not_run.as_deref().unwrap_or("not run"))?,
        }
        let others: Vec<String> = row.peers.iter().map(|other| peer(other, row.time_us)).collect();
        let others = if others.is_empty() { "none".to_owned() } else { others.join("; ") };
        let error = row.checked.map_or("not checked".to_owned(), |checked| format!("{:.1e}", checked.error));
        writeln!(page, "| {others} | {error} |")?;
    }

    // What only some rows have.
    for row in rows.iter().filter(|row| !row.more.is_empty()) {
        let more: Vec<String> = row.more.iter().map(|(name, value)| format!("{name} {value}")).collect();
        writeln!(page, "\n**{} {} {}:** {}", row.op, row.model, row.shape, more.join(", "))?;
    }
    Ok(())
}

fn peer(peer: &Peer, ours: Option<Spread>) -> String {
    match (peer.time_us, ours) {
        (Some(theirs), Some(ours)) => {
            format!("{} {:.2} ({:.2})", peer.name, theirs.median, theirs.median / ours.median)
        }
        (Some(theirs), None) => format!("{} {:.2}", peer.name, theirs.median),
        (None, _) => format!("{} not run: {}", peer.name, peer.not_run.as_deref().unwrap_or("unknown why")),
    }
}
