//! What the simulator counts of each kernel at its reference shape.

use std::collections::BTreeMap;

use igpt_engine::device::{CudaDevice, Precision};
use serde_json::Value as Json;
use toml::Value;

use crate::cases::{Least, cases};
use crate::file::Row;

/// Bytes of a sector.
const SECTOR: usize = 32;

/// A row for each kernel whose name is wanted.
pub fn measure(wanted: impl Fn(&str) -> bool) -> BTreeMap<String, Row> {
    let simulator = cudasim::install().expect("cargo has built cudasim beside the tests");
    simulator.set_options(None, "counters=on,races=off,uninitialised=off,registers=off").unwrap();
    let mut rows = BTreeMap::new();
    for precision in [Precision::F32, Precision::Bf16] {
        let device = CudaDevice::new(0, precision).unwrap();
        for case in cases(precision, 1) {
            if !case.kernels.iter().any(|(kernel, _)| wanted(kernel)) {
                continue;
            }
            simulator.take_counters(None);
            (case.run)(&device);
            device.synchronize().unwrap();
            let counters = simulator.take_counters(None);
            let launches: Vec<Json> = counters.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            for (kernel, least) in case.kernels {
                let found: Vec<_> = launches.iter().filter(|launch| launch["kernel"] == kernel.as_str()).collect();
                let [launch] = found[..] else {
                    panic!("{kernel} at {} was launched {} times, not once", case.shape, found.len())
                };
                let grid = [0, 1, 2].map(|index| launch["grid"][index].as_u64().unwrap() as usize);
                rows.entry(kernel).or_insert_with(|| row(&case.shape, &launch["counts"], least(grid)));
            }
        }
    }
    rows
}

fn row(shape: &str, counts: &Json, least: Least) -> Row {
    let sum = |space: &str, ways: &[&str], what: &str| -> i64 {
        ways.iter().map(|way| counts[space][way][what].as_i64().unwrap()).sum()
    };
    let all = ["load", "store", "atomic"];
    let sectors = |bytes: usize| Value::from(bytes.div_ceil(SECTOR) as i64);
    vec![
        ("shape", shape.into()),
        ("read", sum("global", &["load", "atomic"], "sectors").into()),
        ("least_read", sectors(least.read)),
        ("written", sum("global", &["store", "atomic"], "sectors").into()),
        ("least_written", sectors(least.written)),
        ("wavefronts", sum("shared", &all, "wavefronts").into()),
        ("conflicts", sum("shared", &all, "conflicts").into()),
        ("flops", counts["tensor"]["flops"].as_i64().unwrap().into()),
        ("least_flops", (least.flops as i64).into()),
    ]
}
