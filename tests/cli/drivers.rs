//! Drivers of other releases, drivers that lack something, and drivers that refuse the kernels: each message says what to do.

use std::path::Path;

use igpt_engine::device::cuda::kernel::{KERNELS, TOOLKIT};
use test_support::devices::{Wanted, simulator_library, wanted};

use crate::cuda::{Driver, RUN};
use crate::{assert_refused, assert_succeeds, json_lines};

/// The simulator in the driver's place; only it can be told to fail.
fn simulated() -> Option<Driver> {
    if wanted() == Wanted::Simulator { Driver::new() } else { None }
}

/// A step of training with options of the simulator.
fn step(driver: &Driver, options: &str, out: &Path) -> std::process::Command {
    let mut command = driver.engine_with(options);
    command.args(RUN).args(["cuda", "--steps", "2", "--out"]).arg(out);
    command
}

#[test]
fn every_error_of_loading_kernels_has_its_own_help() {
    let Some(driver) = simulated() else { return };
    let folder = tempfile::tempdir().unwrap();
    let helps = [
        (200, "CUDA_ERROR_INVALID_IMAGE", "cannot read the kernels"),
        (209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no code for this device"),
        (218, "CUDA_ERROR_INVALID_PTX", "igpt-engine doctor"),
        (221, "CUDA_ERROR_JIT_COMPILER_NOT_FOUND", "libnvidia-ptxjitcompiler.so.1"),
        (222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "newer CUDA release than the driver"),
        (223, "CUDA_ERROR_JIT_COMPILATION_DISABLED", "unset CUDA_DISABLE_PTX_JIT"),
    ];
    for (code, name, help) in helps {
        let mut command = step(&driver, &format!("module_error={code}"), &folder.path().join(name));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && !said.contains("panicked"), "{said}");
        assert!(said.contains("cuModuleLoadData(") && said.contains(name) && said.contains(help), "{said}");
    }
}

/// Both ways: the one that built the kernels is 12.x or 13.x, and the driver is of 12.0.
#[test]
fn a_driver_older_than_the_toolkit_is_refused_and_one_of_its_major_release_is_not() {
    let Some(driver) = simulated() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut old = step(&driver, "driver=12.0", &folder.path().join("old"));
    if TOOLKIT.0 <= 12 {
        assert_succeeds(&mut old);
    } else {
        let message = assert_refused(&mut old);
        for part in ["release 12.0", &format!("toolkit {}.{}", TOOLKIT.0, TOOLKIT.1), "driver to 580", "--device cpu"] {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
        let doctor =
            json_lines(&assert_succeeds(driver.engine_with("driver=12.0").args(["doctor", "--json"]))).remove(0);
        let device = doctor["devices"].as_array().unwrap().iter().find(|device| device["name"] == "cuda:0").unwrap();
        assert!(device["ready"] == false && device["why"].as_str().unwrap().contains("release 12.0"), "{device}");
        assert_eq!((&doctor["cuda_driver"], &doctor["cuda_toolkit"]), (&"12.0".into(), &"13.0".into()));
    }
    assert_succeeds(&mut step(&driver, "driver=13.0", &folder.path().join("new")));
}

/// A copy of the simulator under the driver's name in which a function has another name.
fn driver_without(function: &str) -> tempfile::TempDir {
    let mut library = std::fs::read(simulator_library()).unwrap();
    let name = format!("\0{function}\0").into_bytes();
    let places: Vec<usize> = (0..library.len() - name.len()).filter(|at| library[*at..].starts_with(&name)).collect();
    assert!(!places.is_empty(), "no {function} in the simulator");
    places.into_iter().for_each(|at| library[at + 1] = b'_');
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("libcuda.so"), library).unwrap();
    folder
}

#[test]
fn a_driver_that_lacks_a_function_is_an_error_and_no_panic() {
    let Some(_) = simulated() else { return };
    // Of the start, of recording a step, of timing, and of what only dropping calls.
    for function in ["cuDriverGetVersion", "cuStreamBeginCapture_v2", "cuEventElapsedTime", "cuMemFreeHost"] {
        let folder = driver_without(function);
        let engine = || {
            let mut command = crate::engine();
            command.env("LD_LIBRARY_PATH", folder.path());
            command
        };
        let out = folder.path().join("run");
        let message = assert_refused(engine().args(RUN).args(["cuda", "--steps", "1", "--out"]).arg(&out));
        assert!(message.contains(&format!("lacks the function {function}")) && message.contains("525"), "{message}");
        let doctor = json_lines(&assert_succeeds(engine().args(["doctor", "--json"]))).remove(0);
        let cuda = doctor["devices"].as_array().unwrap().iter().find(|device| device["name"] == "cuda").unwrap();
        assert!(cuda["ready"] == false && cuda["why"].as_str().unwrap().contains(function), "{cuda}");
    }
}

#[test]
fn doctor_says_what_a_card_has() {
    let Some(driver) = simulated() else { return };
    let text = assert_succeeds(driver.engine_with("card=rtx4090").args(["doctor"]));
    for part in
        ["GeForce RTX 4090", "capability 8.9", "24.0 GiB", "128 multiprocessors", "99 KiB of shared", "72 MiB of L2"]
    {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    assert!(text.contains(&format!("{} from", KERNELS.len())) && text.contains("files by CUDA"), "{text}");
}
