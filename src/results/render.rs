//! The tables as text and as Markdown.

use super::{FilledTable, MeasuredResult, Results, Row};
use crate::recipe::Command;

/// What stands where there is no run.
const MISSING: &str = "missing";
/// What stands where the paper prints no figure.
const UNPUBLISHED: &str = "-";

/// Columns of a row: name, published, ours, where and how.
fn cells(row: &Row, digits: usize) -> [String; 4] {
    let published =
        row.published.map_or(UNPUBLISHED.to_owned(), |value| figure(value, row.published_deviation, digits));
    let (ours, about) = match &row.ours {
        None => (MISSING.to_owned(), format!("recipes/{}", row.recipe)),
        Some(found) => (figure(found.value, found.deviation, digits), about(found)),
    };
    [row.name.clone(), published, ours, about]
}

/// A result outside the tables.
fn other(found: &MeasuredResult) -> [String; 4] {
    let (digits, unit) = match found.key.command {
        Command::Train => (4, "nats per token"),
        _ => (1, "%"),
    };
    let ours = format!("{} {unit}", figure(found.value, found.deviation, digits));
    [found.key.to_string(), UNPUBLISHED.to_owned(), ours, about(found)]
}

fn about(found: &MeasuredResult) -> String {
    let mut parts = vec![found.run.display().to_string()];
    parts.extend(found.remarks.iter().cloned());
    parts.join("; ")
}

fn figure(value: f64, deviation: Option<f64>, digits: usize) -> String {
    let deviation = deviation.map_or(String::new(), |deviation| format!(" ± {deviation:.digits$}"));
    format!("{value:.digits$}{deviation}")
}

/// Digits behind the point of a table's figures, as the paper has them.
fn digits(table: &FilledTable) -> usize {
    if table.unit.starts_with('%') { 1 } else { 4 }
}

const HEAD: [&str; 4] = ["", "published", "ours", "run, or the recipe that would make it"];

/// Each table's title and rows; the last is of the runs that fit none.
fn sections(results: &Results) -> Vec<(String, Vec<[String; 4]>)> {
    let mut sections: Vec<(String, Vec<[String; 4]>)> = results
        .tables
        .iter()
        .map(|table| {
            let rows = table.rows.iter().map(|row| cells(row, digits(table))).collect();
            (format!("{} ({})", table.title, table.unit), rows)
        })
        .collect();
    if !results.others.is_empty() {
        sections.push(("Other runs".to_owned(), results.others.iter().map(other).collect()));
    }
    sections
}

/// For a terminal.
pub fn text(results: &Results) -> String {
    let mut out = String::new();
    for (title, rows) in sections(results) {
        let head = HEAD.map(str::to_owned);
        let width = |column: usize| {
            let cells = std::iter::once(&head).chain(&rows).map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };

        let widths = [width(0), width(1), width(2)];
        out.push_str(&title);
        out.push('\n');

        for row in std::iter::once(&head).chain(&rows) {
            let [name, published, ours, about] = row;
            out.push_str(&format!(
                "  {name:<w0$}  {published:>w1$}  {ours:>w2$}  {about}\n",
                w0 = widths[0],
                w1 = widths[1],
                w2 = widths[2]
            ));
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out
}

/// For a README.
pub fn markdown(results: &Results) -> String {
    let line = |cells: &[String; 4]| {
        let cells = cells.each_ref().map(|cell| cell.replace('|', "\\|"));
        format!("| {} |\n", cells.join(" | "))
    };
    let mut out = String::new();
    for (title, rows) in sections(results) {
        out.push_str(&format!("**{title}**\n\n{}|---|---|---|---|\n", line(&HEAD.map(str::to_owned))));
        rows.iter().for_each(|row| out.push_str(&line(row)));
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out
}
