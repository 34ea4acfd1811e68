//! Every op under orders that CUDA leaves open: the simulator's checks find nothing, and the bits are the same whichever
//! blocks and warps go first and however late copies land.

#[path = "../ops/everything.rs"]
mod everything;
#[path = "../ops/reference.rs"]
#[allow(dead_code)]
mod reference;
#[path = "../ops/support.rs"]
#[allow(dead_code)]
mod support;

use std::io::Write;

use igpt_engine::device::cuda::kernel::KERNELS;
use igpt_engine::device::{CudaDevice, Precision};

/// Orders of blocks and warps, and when `cp.async` lands. The last has the lanes of a warp unordered as well.
const ORDERS: [&str; 4] = [
    "seed=1,landing=late",
    "seed=2,landing=early",
    "seed=3,landing=random",
    "seed=4,landing=random,streams=late,lane_races=on",
];

#[test]
fn orders_change_nothing() {
    if KERNELS.is_empty() {
        // Past the test runner, which keeps to itself what a test prints.
        let _ = std::io::stderr().write_all(
            b"\nSKIPPED: ops under other orders: this build has no kernels; `cargo xtask toolkit` gets the compiler\n",
        );
        return;
    }
    let simulator = cudasim::install().expect("cargo has built cudasim beside the tests");
    for precision in [Precision::F32, Precision::Bf16] {
        let mut first = None;
        for order in ORDERS {
            simulator.set_options(None, "lane_races=off").unwrap();
            simulator.set_options(None, order).unwrap();
            let device = CudaDevice::poisoned(0, precision).unwrap();
            let results = everything::everything(&device);
            let reports = simulator.take_reports(None);
            assert!(reports.is_empty(), "{precision:?}, {order}:\n{reports}");
            let first = first.get_or_insert_with(|| results.clone());
            for (index, (one, other)) in first.iter().zip(&results).enumerate() {
                assert!(one == other, "{precision:?}: result {index} is not the same under {order}");
            }
        }
    }
}
