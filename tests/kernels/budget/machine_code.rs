//! What the compiler made: `ptxas`'s resources, and instructions that are counted in the SASS.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use igpt_engine::device::cuda::kernel::{KERNELS, MODULES};
use nvcc::Nvcc;
use toml::Value;

use super::Result;
use super::file::Row;

#[derive(Default)]
struct Instructions {
    hmma: i64,
    ldsm: i64,
    ldgsts: i64,
    wide: i64,
}

/// A row for each kernel and architecture: `kernel.sm_80`.
///
/// # Errors
/// If the toolkit's `cuobjdump` does not run.
pub fn measure(nvcc: &Nvcc) -> Result<BTreeMap<String, Row>> {
    let mut counted: BTreeMap<String, Instructions> = BTreeMap::new();
    for module in MODULES {
        let fatbin = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.fatbin", module.name));
        std::fs::write(&fatbin, module.image)?;
        let tool = nvcc.path.with_file_name("cuobjdump");
        let output = Command::new(&tool).arg("-sass").arg(&fatbin).output();
        let output = output.map_err(|error| format!("cannot run {}: {error}", tool.display()))?;
        if !output.status.success() {
            return Err(format!("{}: {}", tool.display(), String::from_utf8_lossy(&output.stderr)).into());
        }
        count(&String::from_utf8_lossy(&output.stdout), &mut counted);
    }

    let mut rows = BTreeMap::new();

    for kernel in KERNELS {
        for used in kernel.resources {
            let name = format!("{}.sm_{}", kernel.name, used.arch);
            let found = counted.get(&name).ok_or_else(|| format!("no SASS of {name}"))?;
            let number = |number: u32| Value::from(i64::from(number));
            let row = vec![
                ("registers", number(used.registers)),
                ("spills", number(used.spill_stores + used.spill_loads)),
                ("shared", number(used.shared)),
                ("hmma", found.hmma.into()),
                ("ldsm", found.ldsm.into()),
                ("ldgsts", found.ldgsts.into()),
                ("wide", found.wide.into()),
            ];
            rows.insert(name, row);
        }
    }
    Ok(rows)
}

/// `arch = sm_90a`, `Function : name`, and lines of `/*0170*/ @!P0 LDG.E.128 R44, [R2.64] ; /* encoding */`.
fn count(listing: &str, into: &mut BTreeMap<String, Instructions>) {
    let (mut arch, mut function) = ("", String::new());
    for line in listing.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("arch = ") {
            arch = name.trim_end_matches('a');
        } else if let Some(name) = line.strip_prefix("Function : ") {
            function = format!("{name}.{arch}");
        } else if let Some((_, rest)) = line.strip_prefix("/*").and_then(|line| line.split_once("*/")) {
            let Some(opcode) = rest.split_whitespace().find(|word| !word.starts_with('@')) else { continue };
            let found = into.entry(function.clone()).or_default();
            found.hmma += i64::from(opcode.starts_with("HMMA"));
            found.ldsm += i64::from(opcode.starts_with("LDSM"));
            found.ldgsts += i64::from(opcode.starts_with("LDGSTS"));
            let access = ["LDG", "STG", "LDS", "STS"].iter().any(|access| opcode.starts_with(access));
            found.wide += i64::from(access && opcode.split('.').any(|part| part == "128"));
        }
    }
}

#[test]
fn instructions_are_told_apart() {
    let mut found = BTreeMap::new();
    let listing = "arch = sm_90a\n\t\tFunction : f\n .headerflags @\"x\"\n /*0000*/ @!P0 LDG.E.128 R4, [R2.64] ; /* 0x1 */\n \
                   /* 0x2 */\n /*0010*/ HMMA.16816.F32.BF16 R0, R1, R2, R3 ;\n /*0020*/ LDSM.16.M88.4 R0, [R1] ;\n \
                   /*0030*/ LDGSTS.E.BYPASS.128 [R1], [R2.64] ;\n /*0040*/ STS.64 [R1], R2 ;";
    count(listing, &mut found);
    let f = &found["f.sm_90"];
    assert_eq!((f.hmma, f.ldsm, f.ldgsts, f.wide), (1, 1, 1, 2));
}
