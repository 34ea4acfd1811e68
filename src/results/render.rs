//! The tables as text and as Markdown.

use super::compared::{GROUPS, Transfer};
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

/// Columns of a table with other methods: name, what it learned from, input, millions of parameters, features, and the last three
/// of [`cells`].
type Wide = [String; 8];

/// The rows of a table with other methods, in the order of the data sets and of the published figures.
fn wide(table: &FilledTable, digits: usize) -> Vec<Wide> {
    let known = |value: Option<String>| value.unwrap_or(UNPUBLISHED.to_owned());
    let place = |name: &str| {
        let of = |group: &&str| name.strip_prefix(*group).is_some_and(|rest| rest.starts_with(", "));
        let groups = GROUPS.iter().enumerate().filter(|(_, group)| of(group));
        groups.max_by_key(|(_, group)| group.len()).map_or(GROUPS.len(), |(place, _)| place)
    };

    let mut rows: Vec<(usize, f64, Wide)> = Vec::new();
    for row in &table.rows {
        let [name, published, ours, about] = cells(row, digits);
        let input = format!("{0}×{0}", row.side);
        let parameters = format!("{:.0}", (row.parameters as f64 / 1e6).floor());
        let features = known(row.features.map(|features| features.to_string()));
        let learned = Transfer::Unsupervised.to_string();
        let wide = [name, learned, input, parameters, features, published, ours, about];
        rows.push((place(&row.name), row.published.unwrap_or(0.0), wide));
    }
    for row in &table.compared {
        let name = format!("{}, {}", row.group, row.method);
        let wide = [
            name.clone(),
            row.transfer.to_string(),
            known(row.input.map(str::to_owned)),
            known(row.parameters_millions.map(|millions| millions.to_string())),
            known(row.features.map(|features| features.to_string())),
            figure(row.published, row.deviation, digits),
            UNPUBLISHED.to_owned(),
            row.source.to_owned(),
        ];
        rows.push((place(&name), row.published, wide));
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    rows.into_iter().map(|(_, _, row)| row).collect()
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
const WIDE_HEAD: [&str; 8] = [
    "",
    "transfer",
    "input",
    "params (M)",
    "features",
    "published",
    "ours",
    "run, or the recipe that would make it, or the source",
];

/// A table as it is shown.
struct Section {
    title: String,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// The tables; the last is of the runs that fit none.
fn sections(results: &Results) -> Vec<Section> {
    let head = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut sections: Vec<Section> = results
        .tables
        .iter()
        .map(|table| {
            let title = format!("{} ({})", table.title, table.unit);
            let digits = digits(table);
            if table.compared.is_empty() {
                let rows = table.rows.iter().map(|row| cells(row, digits).to_vec()).collect();
                return Section { title, head: head(&HEAD), rows };
            }
            Section { title, head: head(&WIDE_HEAD), rows: wide(table, digits).into_iter().map(Vec::from).collect() }
        })
        .collect();
    if !results.others.is_empty() {
        let rows = results.others.iter().map(|found| other(found).to_vec()).collect();
        sections.push(Section { title: "Other runs".to_owned(), head: head(&HEAD), rows });
    }
    sections
}

/// For a terminal.
pub fn text(results: &Results) -> String {
    let mut out = String::new();
    for Section { title, head, rows } in sections(results) {
        out.push_str(&title);
        out.push('\n');

        let all = || std::iter::once(&head).chain(&rows);
        let width = |column: usize| all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..head.len()).map(|column| width(column).unwrap_or(0)).collect();
        for row in all() {
            // Names to the left, what is compared to the right, and the last column as it comes.
            let last = row.len().saturating_sub(1);
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                out.push_str(&match column {
                    0 => format!("  {cell:<width$}"),
                    _ if column == last => format!("  {cell}"),
                    _ => format!("  {cell:>width$}"),
                });
            }
            out.push('\n');
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out
}

/// For a README.
pub fn markdown(results: &Results) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut out = String::new();
    for Section { title, head, rows } in sections(results) {
        out.push_str(&format!("**{title}**\n\n{}|{}\n", line(&head), "---|".repeat(head.len())));
        rows.iter().for_each(|row| out.push_str(&line(row)));
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out
}
