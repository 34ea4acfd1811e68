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
# counts, of one launch at `shape` in the simulator
#   read, written  sectors of 32 bytes of global memory that the warps' requests touch, before any cache
#   least_read, least_written  each operand once, in sectors: bytes of the operands the kernel's contract names / 32
#       linear m × n × k: m·k + k·n in, m·n out, and what the epilogue adds; attention: q, k, v (dy, logsumexp, delta) in,
#       output (dk, dv or dq) out; all others: every element once. tests/common/src/reference_shapes.rs has each formula
#   wavefronts, conflicts  times that the banks of shared memory served a warp, and how many of them because lanes wanted
#       different words of one bank
#   flops, least_flops  multiplications and additions on tensor cores, and those of the GEMMs themselves (2·m·n·k; of
#       attention the pairs that the mask leaves)
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

/// The file of these rows.
pub fn text(release: &str, machine_code: &BTreeMap<String, Row>, counts: &BTreeMap<String, Row>) -> String {
    let mut text = format!("{HEAD}\ntoolkit = {}\n", Value::from(release));
    for (section, rows) in [("machine_code", machine_code), ("counts", counts)] {
        let _ = writeln!(text, "\n[{section}]");
        for (name, row) in rows {
            let row: Vec<_> = row.iter().map(|(name, value)| format!("{name} = {value}")).collect();
            let _ = writeln!(text, "{name} = {{ {} }}", row.join(", "));
        }
    }
    text
}

/// A line for each number that is not the same.
pub fn differences(budget: &Table, now: &Table) -> Vec<String> {
    let [budget, now] = [budget, now].map(|table| {
        let mut flat = BTreeMap::new();
        flatten("", &Value::Table(table.clone()), &mut flat);
        flat
    });
    let names: BTreeSet<_> = budget.keys().chain(now.keys()).collect();
    let missing = || "-".to_owned();
    let differing = names.into_iter().filter(|name| {
        let (budget, now) = (budget.get(*name), now.get(*name));
        budget != now && !is_compilers_own(name, budget, now)
    });
    differing
        .map(|name| {
            let [budget, now] = [&budget, &now].map(|flat| flat.get(name).map_or_else(missing, Value::to_string));
            format!("{name:<60} {budget:>24} {now:>24}")
        })
        .collect()
}

/// Whether a difference is nvcc's own. It does not write the same PTX every time: of the f32 attention kernels some builds
/// have one shared-memory load more, although their machine code is the same. The simulator runs the PTX and counts it: up to
/// 1 % of the wavefronts (2304 of 291840 of `attention_f32_96`, in 1 of 5 builds of one source).
fn is_compilers_own(name: &str, budget: Option<&Value>, now: Option<&Value>) -> bool {
    let is_theirs = name.starts_with("counts.attention_") && name.contains("_f32_") && name.ends_with(".wavefronts");
    let counts = [budget, now].map(|value| value.and_then(Value::as_integer));
    let [Some(budget), Some(now)] = counts else { return false };
    is_theirs && 100 * (budget - now).abs() <= budget
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

#[test]
fn a_changed_number_is_named() {
    let table = |text: &str| text.parse::<Table>().unwrap();
    let differences = differences(
        &table("[counts]\nadam = { read = 4, written = 3 }\ngone = { read = 1 }"),
        &table("[counts]\nadam = { read = 5, written = 3 }"),
    );
    let words: Vec<Vec<_>> = differences.iter().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words, [["counts.adam.read", "4", "5"], ["counts.gone.read", "1", "-"]]);
}

#[test]
fn only_the_wavefronts_of_f32_attention_may_vary_and_by_a_hundredth() {
    let budget = "[counts]\nattention_f32_96 = { wavefronts = 1000, read = 1000 }\nlinear_f32 = { wavefronts = 1000 }";
    let names = |now: &str| {
        let lines = differences(&budget.parse().unwrap(), &now.parse().unwrap());
        lines.iter().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let now = |attention: u32, read: u32, linear: u32| {
        format!(
            "[counts]\nattention_f32_96 = {{ wavefronts = {attention}, read = {read} }}\nlinear_f32 = {{ wavefronts = {linear} }}"
        )
    };
    assert!(names(&now(1010, 1000, 1000)).is_empty() && names(&now(990, 1000, 1000)).is_empty());
    assert_eq!(names(&now(1011, 1000, 1000)), ["counts.attention_f32_96.wavefronts"]);
    assert_eq!(names(&now(1000, 1001, 1000)), ["counts.attention_f32_96.read"]);
    assert_eq!(names(&now(1000, 1000, 1001)), ["counts.linear_f32.wavefronts"]);
}
