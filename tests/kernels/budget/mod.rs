//! What kernels may take: `kernels/budget.toml` against what the compiler made of them, what the simulator counts, and how long whole
//! steps are predicted to take.
//!
//! `IGPT_WRITE_BUDGET=1 cargo test --test kernels budget` writes the file anew; read its diff before committing it.

mod file;
pub(crate) mod machine_code;
mod steps;

use std::collections::BTreeMap;
use std::path::Path;

use igpt_engine::device::cuda::kernel::KERNELS;
use test_support::{counts, skipped};

use crate::process;
use file::Row;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[test]
fn kernels_keep_their_budget() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("kernels/budget.toml");
    if KERNELS.is_empty() {
        skipped("the kernels' budget: this build has none; `cargo xtask toolkit` gets the compiler (no GPU needed)");
        return;
    }
    if !process::is_alone("budget::kernels_keep_their_budget") {
        return;
    }

    let nvcc = nvcc::find(root, |_, _| ()).unwrap().expect("the compiler that built the kernels");
    let release = nvcc.release();
    let write = std::env::var_os("IGPT_WRITE_BUDGET").is_some();
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let budget: toml::Table = text.parse().expect("kernels/budget.toml is TOML");
    let of_release = budget.get("toolkit").and_then(toml::Value::as_str) == Some(release);
    if !write && !of_release {
        skipped(&format!(
            "the kernels' budget: it is of toolkit {}, and this build of {release}; `cargo xtask toolkit` gets the former",
            budget.get("toolkit").unwrap_or(&"none".into())
        ));
        return;
    }

    let machine_code = machine_code::measure(&nvcc).unwrap();
    let counts = counts::measure(|_| true).into_iter().map(|(kernel, counts)| (kernel, file::row(&counts))).collect();
    let steps = steps::predict().unwrap();
    let now = file::text(release, [("machine_code", &machine_code), ("counts", &counts), ("steps", &steps)]);
    check(&machine_code, &counts);

    if write {
        std::fs::write(&path, &now).unwrap();
        return;
    }
    let differences = file::differences(&budget, &now.parse().expect("what is written is TOML"));
    let verdict = if differences.iter().any(|difference| difference.is_worse) {
        "kernels or steps take more than kernels/budget.toml allows"
    } else {
        "kernels/budget.toml does not say what is, and nothing is worse than it says"
    };
    let lines: Vec<&str> = differences.iter().map(|difference| difference.line.as_str()).collect();
    assert!(
        lines.is_empty(),
        "{verdict} (IGPT_WRITE_BUDGET=1 writes it anew):\n{:<60} {:>24} {:>24}\n{}",
        "what",
        "budget",
        "now",
        lines.join("\n")
    );
}

/// That nothing spills, that every kernel is measured, and that what is for compute capability 9.0 alone has its instructions.
fn check(machine_code: &BTreeMap<String, Row>, counts: &BTreeMap<String, Row>) {
    for kernel in KERNELS {
        for used in kernel.resources {
            assert_eq!(used.spill_stores + used.spill_loads + used.stack, 0, "{} spills", kernel.name);
        }
        assert!(
            counts.contains_key(kernel.name),
            "no case of tests/common/src/reference_shapes reaches {}",
            kernel.name
        );
    }

    for (name, row) in machine_code.iter().filter(|(name, _)| name.contains("_sm90")) {
        let has = |what: &str| row.iter().any(|(name, count)| *name == what && count.as_integer() > Some(0));
        assert!(has("hgmma") && has("utmaldg"), "{name} has no HGMMA or no UTMALDG");
    }
}
