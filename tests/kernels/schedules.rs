//! Every op under schedules that CUDA leaves open: the simulator's checks find nothing, and the bits are the same whichever
//! blocks and warps go first and however late asynchronous copies complete.

use igpt_engine::device::cuda::kernel::KERNELS;
use igpt_engine::device::{CudaDevice, Precision};
use test_support::{in_turn, skipped};

use crate::ops::everything::everything;
use crate::ops::support::Tested;
use crate::process;

/// Schedules of blocks and warps, and when `cp.async` completes. The last has the lanes of a warp unordered as well.
const SCHEDULES: [&str; 4] = [
    "seed=1,completion=late",
    "seed=2,completion=early",
    "seed=3,completion=random",
    "seed=4,completion=random,streams=late,lane_races=on",
];

#[test]
fn schedules_change_nothing() {
    if KERNELS.is_empty() {
        skipped("ops under other schedules: this build has no kernels; `cargo xtask toolkit` gets the compiler");
        return;
    }
    if !process::is_alone("schedules::schedules_change_nothing") {
        return;
    }

    let simulator = test_support::devices::strict();
    for precision in in_turn([Precision::F32, Precision::Bf16], 2) {
        let mut first = None;
        for schedule in SCHEDULES {
            simulator.set_options(None, "lane_races=off").unwrap();
            simulator.set_options(None, schedule).unwrap();
            let device = CudaDevice::poisoned(0, precision).unwrap();
            let results = everything(&Tested::new(device, precision));

            let reports = simulator.take_reports(None);
            assert!(reports.is_empty(), "{precision:?}, {schedule}:\n{reports}");
            let first = first.get_or_insert_with(|| results.clone());
            for (index, (one, other)) in first.iter().zip(&results).enumerate() {
                assert!(one == other, "{precision:?}: result {index} is not the same under {schedule}");
            }
        }
    }
}
