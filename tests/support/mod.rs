//! The CUDA device of the tests: by default the simulator, so that all of them run on machines without a GPU.
//!
//! `IGPT_TEST_DEVICE` chooses: `sim` (the default), `cuda` (the machine's own driver), or `cpu` (no CUDA device at all).

#![allow(dead_code)] // each test program uses some of it

use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

use cudasim::Simulator;
use igpt_engine::device::cuda::kernel::KERNELS;
use igpt_engine::device::{CudaDevice, Precision};

/// What `IGPT_TEST_DEVICE` asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted {
    Simulator,
    Gpu,
    Neither,
}

/// What the environment asks for, as far as this build can.
pub fn wanted() -> Wanted {
    let wanted = match std::env::var("IGPT_TEST_DEVICE").as_deref() {
        Err(_) | Ok("sim" | "") => Wanted::Simulator,
        Ok("cuda") => Wanted::Gpu,
        Ok("cpu") => return Wanted::Neither,
        Ok(other) => panic!("IGPT_TEST_DEVICE={other} is none of sim, cuda and cpu"),
    };
    if !KERNELS.is_empty() {
        return wanted;
    }
    assert!(wanted == Wanted::Simulator, "IGPT_TEST_DEVICE=cuda, but this build has no kernels: `cargo xtask toolkit`");
    let required = std::env::var_os("CUDASIM_REQUIRE_NVCC").is_some();
    assert!(!required, "there is a compiler, as CUDASIM_REQUIRE_NVCC says, but this build has no kernels");
    static SAID: OnceLock<()> = OnceLock::new();
    SAID.get_or_init(|| {
        // Past the test runner, which keeps to itself what a test prints.
        let _ = std::io::stderr().write_all(
            b"\nSKIPPED: every test on the CUDA device, since this build has no kernels; `cargo xtask toolkit` gets the \
              compiler (no GPU needed)\n",
        );
    });
    Wanted::Neither
}

/// The simulator, if it is what the tests run on.
pub fn simulator() -> Option<Simulator> {
    (wanted() == Wanted::Simulator).then(|| cudasim::install().expect("cargo has built cudasim beside the tests"))
}

/// The CUDA device, if the tests run on one.
pub fn cuda(precision: Precision) -> Option<CudaDevice> {
    open(precision, CudaDevice::new)
}

/// The same, on which forgotten elements are NaN.
pub fn poisoned_cuda(precision: Precision) -> Option<CudaDevice> {
    open(precision, CudaDevice::poisoned)
}

fn open(
    precision: Precision,
    new: impl FnOnce(usize, Precision) -> igpt_engine::device::Result<CudaDevice>,
) -> Option<CudaDevice> {
    simulator();
    (wanted() != Wanted::Neither).then(|| new(0, precision).expect("a CUDA device"))
}

/// `libcudasim.so`, which cargo builds beside the tests.
pub fn simulator_library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let name = "libcudasim.so";
    let places =
        test.ancestors().skip(1).take(2).flat_map(|folder| [folder.join(name), folder.join("deps").join(name)]);
    places.into_iter().find(|path| path.is_file()).expect("cargo has built cudasim beside the tests")
}
