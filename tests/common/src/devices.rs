//! The CUDA device of the tests: by default the simulator, so that all of them run on machines without a GPU.
//!
//! `IGPT_TEST_DEVICE` chooses: `sim` (the default), `cuda` (the machine's own driver), or `cpu` (no CUDA device at all).

use std::path::PathBuf;
use std::sync::OnceLock;

use cudasim::Simulator;
use igpt_engine::device::cuda::kernel::{KERNELS, MODULES, plant, plant_release};
use igpt_engine::device::{CudaDevice, Precision};

/// What `IGPT_TEST_DEVICE` asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted {
    /// `libcudasim.so` in the place of NVIDIA's driver.
    Simulator,
    /// The machine's own driver.
    Gpu,
    /// No CUDA device.
    Neither,
}

/// What the environment asks for, as far as this build can.
///
/// # Panics
/// When it asks for something unknown, or for a GPU or a compiler that this build lacks.
pub fn wanted() -> Wanted {
    let wanted = match std::env::var("IGPT_TEST_DEVICE").as_deref() {
        Err(_) | Ok("sim" | "") => Wanted::Simulator,
        Ok("cuda") => Wanted::Gpu,
        Ok("cpu") => return Wanted::Neither,
        Ok(other) => panic!("unknown IGPT_TEST_DEVICE={other}: give sim, cuda or cpu"),
    };

    if !KERNELS.is_empty() {
        return wanted;
    }

    assert!(wanted == Wanted::Simulator, "IGPT_TEST_DEVICE=cuda, but this build has no kernels: `cargo xtask toolkit`");

    let required = std::env::var_os("CUDASIM_REQUIRE_NVCC").is_some();
    assert!(!required, "there is a compiler, as CUDASIM_REQUIRE_NVCC says, but this build has no kernels");

    static SAID: OnceLock<()> = OnceLock::new();
    SAID.get_or_init(|| {
        crate::skipped(
            "every test on the CUDA device, since this build has no kernels; `cargo xtask toolkit` gets the compiler \
             (no GPU needed)",
        );
    });
    Wanted::Neither
}

/// The simulator, if it is what the tests run on. Its warnings stop as its errors do.
///
/// # Panics
/// When it cannot be loaded.
pub fn simulator() -> Option<Simulator> {
    (wanted() == Wanted::Simulator).then(strict)
}

/// The simulator, whose warnings stop as its errors do.
///
/// # Panics
/// When it cannot be loaded.
pub fn strict() -> Simulator {
    let simulator = cudasim::install().expect("cargo has built cudasim beside the tests");
    simulator.set_options(None, "stop=warning").expect("an option of the simulator");
    simulator
}

/// The CUDA device, if the tests run on one.
///
/// # Panics
/// When it cannot be opened.
pub fn cuda(precision: Precision) -> Option<CudaDevice> {
    open(precision, CudaDevice::new)
}

/// The same, on which forgotten elements are NaN.
///
/// # Panics
/// When it cannot be opened.
pub fn poisoned_cuda(precision: Precision) -> Option<CudaDevice> {
    open(precision, CudaDevice::poisoned)
}

/// The variable that names a folder of fatbins, by their modules' names, which the CUDA device loads in the place of the
/// build's own: kernels as another toolkit makes them. The file [`RELEASE`] in it says which: `12.4`.
pub const KERNELS_FROM: &str = "IGPT_TEST_KERNELS";
/// See [`KERNELS_FROM`].
pub const RELEASE: &str = "release";

/// Puts the fatbins of [`KERNELS_FROM`] in place, on this thread.
fn plant_others() {
    let Some(folder) = std::env::var_os(KERNELS_FROM).map(PathBuf::from) else { return };
    for module in MODULES {
        let path = folder.join(module.name).with_extension("fatbin");
        let image = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        plant(module.name, image);
    }

    let release = std::fs::read_to_string(folder.join(RELEASE)).expect("the folder says which toolkit it is of");
    let numbers =
        release.trim().split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    plant_release(numbers.expect("a release"));
}

fn open(
    precision: Precision,
    new: impl FnOnce(usize, Precision) -> igpt_engine::device::Result<CudaDevice>,
) -> Option<CudaDevice> {
    simulator();
    plant_others();
    (wanted() != Wanted::Neither).then(|| new(0, precision).expect("a CUDA device"))
}

/// `libcudasim.so`, which cargo builds beside the tests.
///
/// # Panics
/// When it is not there.
pub fn simulator_library() -> PathBuf {
    built("libcudasim.so")
}

/// `libncclsim.so`, which cargo builds beside the tests.
///
/// # Panics
/// When it is not there.
pub fn nccl_library() -> PathBuf {
    built("libncclsim.so")
}

fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let places =
        test.ancestors().skip(1).take(2).flat_map(|folder| [folder.join(name), folder.join("deps").join(name)]);
    places
        .into_iter()
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("cargo has built no {name} beside the tests"))
}
