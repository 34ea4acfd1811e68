//! All of it as text.

use std::fmt::Write;

use crate::ours::SideBySide;
use crate::published::Unit;
use crate::verdict::{APART, MEDIAN, WORST, error};
use crate::{Report, Row};

/// Predicted beside published.
pub fn text(report: &Report) -> String {
    let mut text = format!(
        "{:<36} {:<6} {:>11} {:>11} {:>7}  {:<8} {}\n",
        "case", "card", "published", "predicted", "error", "bound", "configuration"
    );
    for Row { figure, predicted } in &report.rows {
        let speeds = [figure.seconds(), predicted.seconds].map(|seconds| match figure.unit {
            Unit::TeraFlops => format!("{:.0} TFLOP/s", figure.rate(seconds)),
            Unit::Milliseconds => format!("{:.2} TB/s", figure.rate(seconds)),
        });
        let bound = format!("{:?}", predicted.bound).to_lowercase();
        let _ = writeln!(
            text,
            "{:<36} {:<6} {:>11} {:>11} {:>6.0} %  {bound:<8} {}",
            figure.case,
            figure.card,
            speeds[0],
            speeds[1],
            100.0 * error(figure, predicted.seconds),
            predicted.variant
        );
    }

    let verdict = &report.verdict;
    let judged = |is: bool| if is { "reached" } else { "NOT reached" };
    let _ = writeln!(
        text,
        "\nerror of the time: median {:.0} % (asked: {:.0}, {}), worst {:.0} % (asked: {:.0}, {})",
        100.0 * verdict.median,
        100.0 * MEDIAN,
        judged(verdict.median <= MEDIAN),
        100.0 * verdict.worst,
        100.0 * WORST,
        judged(verdict.worst <= WORST)
    );
    let _ = writeln!(
        text,
        "order of pairs that differ by {:.0} % or more: {} of {} right ({})",
        100.0 * APART,
        verdict.in_order,
        verdict.pairs,
        judged(verdict.in_order == verdict.pairs)
    );
    for (fast, slow) in &verdict.out_of_order {
        let _ = writeln!(text, "  out of order: {fast} is published as faster than {slow}");
    }
    report.counts.iter().for_each(|side| counts(&mut text, side));
    text
}

/// Ours beside others at one shape, for each product of 16 x 8 x 16.
fn counts(text: &mut String, side: &SideBySide) {
    let _ = writeln!(
        text,
        "\n{} on {}, for each product of 16 x 8 x 16\n{:<72} {:>7} {:>8} {:>6} {:>8} {:>8} {:>5} {:>6} {:>9}",
        side.what, side.card, "", "issued", "ldmatrix", "waves", "L2 B", "memory B", "regs", "blocks", "predicted"
    );
    for of in std::iter::once(&side.ours).chain(&side.peers) {
        let _ = writeln!(
            text,
            "{:<72} {:>7.2} {:>8.3} {:>6.2} {:>8.1} {:>8.2} {:>5} {:>6} {:>6.0} µs",
            of.kernel,
            of.issued,
            of.ldmatrix,
            of.wavefronts,
            of.l2_bytes,
            of.dram_bytes,
            of.registers,
            of.blocks_per_multiprocessor,
            of.predicted_us
        );
    }
}
