//! What the compiler made: `ptxas`'s resources, and what the SASS says of a kernel's loops and of what follows them.

use std::collections::BTreeMap;
use std::process::Command;

use igpt_engine::device::cuda::kernel::{KERNELS, MODULES, Module};
use nvcc::Nvcc;
use test_support::sass::{Cost, Function, cost, functions};
use toml::Value;

use super::Result;
use super::file::Row;

/// A row for each kernel and architecture: `kernel.sm_80`.
///
/// # Errors
/// If the toolkit's `cuobjdump` does not run.
pub fn measure(nvcc: &Nvcc) -> Result<BTreeMap<String, Row>> {
    let mut found: BTreeMap<String, Function> = BTreeMap::new();
    for module in MODULES {
        let functions = functions(&listing_of(nvcc, module)?);
        found.extend(
            functions
                .into_iter()
                .map(|function| (format!("{}.{}", function.name, function.arch.trim_end_matches('a')), function)),
        );
    }

    let mut rows = BTreeMap::new();

    for kernel in KERNELS {
        for used in kernel.resources {
            let name = format!("{}.sm_{}", kernel.name, used.arch);
            let function = found.get(&name).ok_or_else(|| format!("no SASS of {name}"))?;
            let number = |number: u32| Value::from(i64::from(number));
            let mut row = vec![
                ("registers", number(used.registers)),
                ("spills", number(used.spill_stores + used.spill_loads)),
                ("shared", number(used.shared)),
            ];
            row.extend(instructions(function));
            row.extend(costs(cost(function)));
            rows.insert(name, row);
        }
    }
    Ok(rows)
}

/// What `cuobjdump` prints of a module.
///
/// # Errors
/// If it does not run.
pub fn listing_of(nvcc: &Nvcc, module: &Module) -> Result<String> {
    // A folder of this run's own: other runs of this program may be at the same files.
    let folder = tempfile::tempdir()?;
    let fatbin = folder.path().join(format!("{}.fatbin", module.name));
    std::fs::write(&fatbin, module.image)?;
    let tool = nvcc.path.with_file_name("cuobjdump");
    let output = Command::new(&tool).arg("-sass").arg(&fatbin).output();
    let output = output.map_err(|error| format!("cannot run {}: {error}", tool.display()))?;
    if !output.status.success() {
        return Err(format!("{}: {}", tool.display(), String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Instructions of all the code.
fn instructions(function: &Function) -> Row {
    let count = |of: &dyn Fn(&str) -> bool| {
        Value::from(function.instructions.iter().filter(|instruction| of(instruction.name())).count() as i64)
    };
    let wide = function.instructions.iter().filter(|instruction| {
        instruction.has("128") && ["LDG", "STG", "LDS", "STS", "LDGSTS"].contains(&instruction.name())
    });
    let mut row = vec![
        ("hmma", count(&|name| name == "HMMA")),
        ("ldsm", count(&|name| name == "LDSM")),
        ("ldgsts", count(&|name| name == "LDGSTS")),
        ("wide", Value::from(wide.count() as i64)),
    ];
    // Of compute capability 9.0 alone.
    if function.name.contains("_sm90") {
        row.push(("hgmma", count(&|name| name == "HGMMA")));
        row.push(("utmaldg", count(&|name| name == "UTMALDG")));
        row.push(("utmastg", count(&|name| name == "UTMASTG")));
        // They wait for the whole card: at the ends of a cluster, and where blocks meet in memory, but not in a main loop.
        let fences = function.instructions.iter().filter(|one| one.name() == "MEMBAR" && one.has("GPU"));
        row.push(("fences", Value::from(fences.count() as i64)));
    }
    row
}

/// What a trip of the main loop takes, and how the rest branches.
fn costs(Cost { trip, around, rest }: Cost) -> Row {
    let number = |number: u32| Value::from(i64::from(number));
    let ratio = |of: u32, to: u32| Value::from((1000.0 * f64::from(of) / f64::from(to)).round() / 1000.0);
    let mut row = Vec::new();
    if trip.hmma > 0 {
        row = vec![
            ("issue_per_hmma", ratio(trip.issue, trip.hmma)),
            ("ldsm_per_hmma", ratio(trip.ldsm, trip.hmma)),
            ("integer_share", ratio(trip.integer, trip.issue)),
            ("around", number(around.issue)),
        ];
    }
    row.extend([("branches", number(rest.branches)), ("regions", number(rest.regions)), ("calls", number(rest.calls))]);
    row
}

#[test]
fn instructions_are_told_apart() {
    let listing = "arch = sm_90a\n\t\tFunction : f\n .headerflags @\"x\"\n /*0000*/ @!P0 LDG.E.128 R4, [R2.64] ; /* 0x1 */\n \
                   /* 0x2 */\n /*0010*/ HMMA.16816.F32.BF16 R0, R1, R2, R3 ;\n /*0020*/ LDSM.16.M88.4 R0, [R1] ;\n \
                   /*0030*/ LDGSTS.E.BYPASS.128 [R1], [R2.64] ;\n /*0040*/ STS.64 [R1], R2 ;\n /*0050*/ @P0 BRA 0x0 ;";
    let f = &functions(listing)[0];
    let row = |row: Row| row.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ");
    assert_eq!(row(instructions(f)), "hmma 1, ldsm 1, ldgsts 1, wide 2");
    let costs = row(costs(cost(f)));
    assert_eq!(
        costs,
        "issue_per_hmma 6.0, ldsm_per_hmma 1.0, integer_share 0.0, around 0, branches 0, regions 0, calls 0"
    );
}
