//! Two runs beside each other: what became slower or faster beyond the noise.
//!
//! Rows are compared by the part of their run's own ceilings that they reach, so a lower clock, which lowers both, is no change.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Result, ensure};

use crate::report::{Report, Row, SCHEMA};

/// Changes below this are noise, whatever the runs' own spread.
const LEAST_BAND: f64 = 0.03;

/// The changes, for people, and how many rows are worse.
pub struct Changes {
    pub page: String,
    pub worse: usize,
}

/// Whether a run of this card and size can be compared with `old`.
///
/// # Errors
/// Where it cannot: another card, other sizes, another layout.
pub fn comparable(old: &Report, card: &str, size: &str) -> Result<()> {
    ensure!(
        old.schema == SCHEMA,
        "the baseline has layout {}, and this program writes {SCHEMA}: make it anew",
        old.schema
    );
    ensure!(
        old.card.name == card,
        "the baseline is of a {}, and this is a {card}: a card is compared with its own baseline",
        old.card.name
    );
    ensure!(old.size == size, "the baseline is of a {} run, and this is a {size} run", old.size);
    Ok(())
}

/// Compares `new` with `old`, which are [`comparable`].
pub fn compare(old: &Report, new: &Report) -> Changes {
    let before: BTreeMap<String, &Row> = old.rows.iter().map(|row| (row.key(), row)).collect();
    let mut page = "| row | of ceiling before | now | change | band | |\n|---|---|---|---|---|---|\n".to_owned();
    let mut worse = 0;
    for row in &new.rows {
        let Some(change) = change(before.get(&row.key()).copied(), row) else { continue };
        worse += usize::from(change.verdict == Verdict::Worse);
        let percent = |part: f64| format!("{:+.1} %", 100.0 * part);
        // Writing to a string does not fail.
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} |",
            row.key().replace(" | ", ", "),
            change.before.map_or("no time".to_owned(), |part| format!("{:.1} %", 100.0 * part)),
            change.now.map_or("no time".to_owned(), |part| format!("{:.1} %", 100.0 * part)),
            change.change.map_or(String::new(), percent),
            format_args!("{:.1} %", 100.0 * change.band),
            change.verdict.text()
        );
    }
    Changes { page, worse }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    Better,
    Worse,
    New,
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Self::Same => "within the noise",
            Self::Better => "better: make a new baseline",
            Self::Worse => "WORSE",
            Self::New => "new",
        }
    }
}

struct Change {
    before: Option<f64>,
    now: Option<f64>,
    change: Option<f64>,
    band: f64,
    verdict: Verdict,
}

/// What became of a row; nothing where neither run has a time.
fn change(old: Option<&Row>, new: &Row) -> Option<Change> {
    let (before, now) = (old.and_then(Row::of_ceiling), new.of_ceiling());
    let cv = |row: Option<&Row>| row.and_then(|row| row.time_us).map_or(0.0, |time| time.cv);
    // Both runs' spread, as of a difference of two measurements.
    let band = (3.0 * cv(old).hypot(cv(Some(new)))).max(LEAST_BAND);
    let change = before.zip(now).map(|(before, now)| now / before - 1.0);
    let verdict = match (before, now, change) {
        (None, None, _) => return None,
        // It had a time and has none: wrong, or it does not run.
        (Some(_), None, _) => Verdict::Worse,
        (None, Some(_), _) => Verdict::New,
        (_, _, Some(change)) if change < -band => Verdict::Worse,
        (_, _, Some(change)) if change > band => Verdict::Better,
        _ => Verdict::Same,
    };
    Some(Change { before, now, change, band, verdict })
}

#[cfg(test)]
mod tests {
    use super::{Verdict, change};
    use crate::report::Row;
    use crate::stats::Spread;

    /// A row that takes `us` where 10 would do, with this spread.
    fn row(us: Option<f64>, cv: f64) -> Row {
        let time_us = us.map(|median| Spread { median, least: median, p10: median, p90: median, cv });
        Row {
            op: "qkv".to_owned(),
            model: "S".to_owned(),
            shape: "1".to_owned(),
            flops: 1.0,
            bytes: 1.0,
            least_us: 10.0,
            limit: "memory".to_owned(),
            time_us,
            checked: None,
            peers: Vec::new(),
            more: Vec::new(),
            not_run: None,
        }
    }

    fn verdict(old: Option<&Row>, new: &Row) -> Option<Verdict> {
        change(old, new).map(|change| change.verdict)
    }

    #[test]
    fn a_row_is_worse_beyond_three_percent_and_beyond_three_sigma() {
        let old = row(Some(20.0), 0.0);
        assert_eq!(verdict(Some(&old), &row(Some(20.5), 0.0)), Some(Verdict::Same));
        assert_eq!(verdict(Some(&old), &row(Some(21.0), 0.0)), Some(Verdict::Worse));
        assert_eq!(verdict(Some(&old), &row(Some(21.0), 0.02)), Some(Verdict::Same));
        assert_eq!(verdict(Some(&old), &row(Some(19.0), 0.0)), Some(Verdict::Better));
    }

    #[test]
    fn a_row_that_lost_its_time_is_worse_and_one_that_never_had_any_says_nothing() {
        assert_eq!(verdict(Some(&row(Some(20.0), 0.0)), &row(None, 0.0)), Some(Verdict::Worse));
        assert_eq!(verdict(Some(&row(None, 0.0)), &row(None, 0.0)), None);
        assert_eq!(verdict(None, &row(Some(20.0), 0.0)), Some(Verdict::New));
    }

    /// A clock that is a tenth lower makes both the ceiling's least time and the row's time longer.
    #[test]
    fn a_lower_clock_is_no_change() {
        let old = row(Some(20.0), 0.0);
        let slower = Row { least_us: 11.0, ..row(Some(22.0), 0.0) };
        assert_eq!(verdict(Some(&old), &slower), Some(Verdict::Same));
    }
}
