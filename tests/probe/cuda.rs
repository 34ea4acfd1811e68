//! The same optima, paths and features on the CUDA device in f32, which is what probes compute in.

use igpt_engine::device::{CudaDevice, Precision};
use test_support::devices::{Wanted, poisoned_cuda, wanted};
use test_support::{has_turn, in_turn};

use crate::{features, optima};

fn device() -> Option<CudaDevice> {
    poisoned_cuda(Precision::F32)
}

/// The sets that are fitted: on the simulator, which takes a minute for each, one a run.
fn sets() -> Vec<&'static str> {
    in_turn(optima::SETS, if wanted() == Wanted::Simulator { 2 } else { 1 }).collect()
}

#[test]
fn every_c_reaches_the_golden_optimum() {
    if !has_turn(0, 2) {
        return;
    }
    let Some(device) = device() else { return };
    optima::optima(&device, &sets(), usize::MAX);
}

#[test]
fn sgd_walks_the_golden_path() {
    if !has_turn(1, 2) {
        return;
    }
    let Some(device) = device() else { return };
    optima::sgd_path(&device, &sets());
}

#[test]
fn every_depth_is_hugging_faces() {
    let Some(device) = device() else { return };
    features::every_depth(&device);
}
