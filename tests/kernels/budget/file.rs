//! The file: its text, and how two differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use test_support::counts::Counts;
use toml::{Table, Value};

/// Names and numbers of a row, in order.
pub type Row = Vec<(&'static str, Value)>;

const HEAD: &str = "\
# What every kernel takes, and the least it could. tests/kernels/budget compares; IGPT_WRITE_BUDGET=1 cargo test --test kernels budget writes.
#
# machine_code, by architecture
#   registers  of a thread;  spills  bytes stored and loaded because they ran out (none is allowed);  shared  bytes, static
#   hmma, ldsm, ldgsts  tensor-core, ldmatrix and cp.async instructions in the SASS;  wide  accesses of 128 bits, cp.async too
#   hgmma, utmaldg, utmastg  products of a warpgroup, tiles that TMA loads and stores;  fences  MEMBAR of the whole card: of compute capability 9.0
#   issue_per_hmma, ldsm_per_hmma  instructions and ldmatrix for each tensor-core instruction (HGMMA too), in a trip of the main loop: the
#       loop that holds the most of them. A trip takes the way with its copies, and else the shortest: no mask, no tail
#   integer_share  of a trip's instructions, those of integers and addresses
#   around  instructions of a trip of the loop around the main loop, without those of the main loop: a stage's copies
#   branches, regions, calls  BRA, BSSY and CALL after these loops; in kernels without tensor cores, or with HGMMA, everywhere else
# counts, of one launch at `shape` in the simulator
#   read, written  sectors of 32 bytes of global memory that the warps' requests touch, before any cache
#   least_read, least_written  each operand once, in sectors: bytes of the operands the kernel's contract names / 32
#       linear m × n × k: m·k + k·n in, m·n out, and what the epilogue adds; attention: q, k, v (dy, logsumexp, delta) in,
#       output (dk, dv or dq) out; all others: every element once. tests/common/src/reference_shapes has each formula
#   wavefronts, conflicts  times that the banks of shared memory served a warp, a copy or a product of a warpgroup, and how many of a
#       warp's because lanes wanted different words of one bank
#   flops, least_flops  multiplications and additions on tensor cores, and those of the GEMMs themselves (2·m·n·k; of
#       attention the pairs that the mask leaves)
# steps, of a model by card: training on `images`, or drawing a pixel of each
#   microseconds, launches  as `igpt-engine profile` predicts them (docs/guide/profile.md): nothing of it is measured
";

/// The row of a kernel's counts.
pub fn row(counts: &Counts) -> Row {
    let number = |number: u64| Value::from(number as i64);
    vec![
        ("shape", counts.shape.as_str().into()),
        ("read", number(counts.read)),
        ("least_read", number(counts.least_read)),
        ("written", number(counts.written)),
        ("least_written", number(counts.least_written)),
        ("wavefronts", number(counts.wavefronts)),
        ("conflicts", number(counts.conflicts)),
        ("flops", number(counts.flops)),
        ("least_flops", number(counts.least_flops)),
    ]
}

/// The file of these sections.
pub fn text(release: &str, sections: [(&str, &BTreeMap<String, Row>); 3]) -> String {
    let mut text = format!("{HEAD}\ntoolkit = {}\n", Value::from(release));
    for (section, rows) in sections {
        let _ = writeln!(text, "\n[{section}]");
        for (name, row) in rows {
            let row: Vec<_> = row.iter().map(|(name, value)| format!("{name} = {value}")).collect();
            let _ = writeln!(text, "{name} = {{ {} }}", row.join(", "));
        }
    }
    text
}

/// A number that is not the same.
#[derive(Debug)]
pub struct Difference {
    /// Its name, what it may be, what it is, and a verdict.
    pub line: String,
    /// Whether the kernel takes more than it may.
    pub is_worse: bool,
}

/// Numbers that say what a kernel is, not what it takes.
const NEUTRAL: [&str; 8] = ["hmma", "ldsm", "ldgsts", "wide", "hgmma", "utmaldg", "utmastg", "images"];

/// Each number that is not the same.
pub fn differences(budget: &Table, now: &Table) -> Vec<Difference> {
    let [budget, now] = [budget, now].map(|table| {
        let mut flat = BTreeMap::new();
        flatten("", &Value::Table(table.clone()), &mut flat);
        flat
    });
    let names: BTreeSet<_> = budget.keys().chain(now.keys()).collect();
    let missing = || "-".to_owned();
    let differing = names.into_iter().filter(|name| budget.get(*name) != now.get(*name));
    differing
        .map(|name| {
            let (old, new) = (budget.get(name), now.get(name));
            let column = name.rsplit('.').next().unwrap_or_default();
            let is_neutral = NEUTRAL.contains(&column) || column.starts_with("least_");
            let verdict = match (old.and_then(number), new.and_then(number)) {
                (Some(old), Some(new)) if !is_neutral => {
                    if new > old {
                        "worse"
                    } else {
                        "better"
                    }
                }
                _ => "changed",
            };
            let [old, new] = [old, new].map(|value| value.map_or_else(missing, Value::to_string));
            Difference { line: format!("{name:<60} {old:>24} {new:>24}  {verdict}"), is_worse: verdict == "worse" }
        })
        .collect()
}

fn number(value: &Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|number| number as f64))
}

fn flatten(prefix: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                let prefix = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&prefix, value, into);
            }
        }
        value => {
            into.insert(prefix.to_owned(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of each difference.
    fn words(budget: &str, now: &str) -> Vec<Vec<String>> {
        let differences = differences(&budget.parse().unwrap(), &now.parse().unwrap());
        let words = |difference: &Difference| difference.line.split_whitespace().map(str::to_owned).collect();
        differences.iter().map(words).collect()
    }

    #[test]
    fn a_changed_number_is_named() {
        let found = words(
            "[counts]\nadam = { read = 4, written = 3 }\ngone = { read = 1 }",
            "[counts]\nadam = { read = 5, written = 3 }",
        );
        assert_eq!(found, [vec!["counts.adam.read", "4", "5", "worse"], vec!["counts.gone.read", "1", "-", "changed"]]);
    }

    #[test]
    fn a_step_that_takes_longer_is_worse() {
        let step = |images: u32, time: u32| format!("[steps]\ns.h100 = {{ images = {images}, microseconds = {time} }}");
        let of = |now: &str| words(&step(32, 38_300), now);
        assert_eq!(of(&step(32, 38_301)), [vec!["steps.s.h100.microseconds", "38300", "38301", "worse"]]);
        assert_eq!(of(&step(16, 38_300)), [vec!["steps.s.h100.images", "32", "16", "changed"]]);
    }

    #[test]
    fn more_is_worse_of_what_a_kernel_takes_and_less_is_better() {
        let row = |issue: f64, branches: u32, wide: u32, least: u32| {
            format!(
                "[k]\nf = {{ issue_per_hmma = {issue:?}, branches = {branches}, wide = {wide}, least_read = {least} }}"
            )
        };
        let verdicts = |now: &str| -> Vec<(String, String)> {
            let found = words(&row(3.25, 4, 10, 8), now);
            found.into_iter().map(|mut words| (words.remove(0), words.pop().unwrap())).collect()
        };
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, verdict)| (format!("k.f.{name}"), (*verdict).to_owned())).collect()
        };

        assert!(verdicts(&row(3.25, 4, 10, 8)).is_empty());
        assert_eq!(verdicts(&row(3.251, 5, 10, 8)), pairs(&[("branches", "worse"), ("issue_per_hmma", "worse")]));
        assert_eq!(verdicts(&row(3.0, 0, 10, 8)), pairs(&[("branches", "better"), ("issue_per_hmma", "better")]));
        assert_eq!(verdicts(&row(3.25, 4, 11, 9)), pairs(&[("least_read", "changed"), ("wide", "changed")]));
    }
}
