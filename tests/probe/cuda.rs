//! The same optima, paths and features on the CUDA device in f32, which is what probes compute in.

use igpt_engine::device::{CudaDevice, Precision};
use test_support::devices::poisoned_cuda;

use crate::{features, optima};

fn device() -> Option<CudaDevice> {
    poisoned_cuda(Precision::F32)
}

#[test]
fn every_c_reaches_the_golden_optimum() {
    let Some(device) = device() else { return };
    optima::optima(&device, usize::MAX);
}

#[test]
fn sgd_walks_the_golden_path() {
    let Some(device) = device() else { return };
    optima::sgd_path(&device);
}

#[test]
fn every_depth_is_hugging_faces() {
    let Some(device) = device() else { return };
    features::every_depth(&device);
}
