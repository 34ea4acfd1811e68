//! The driver's release of CUDA against the one that built the kernels.
//!
//! A driver runs machine code of any toolkit of its own major release or an older one ("minor version compatibility"), and
//! makes machine code from PTX of its own release or an older one.

use cudarc::driver::sys;

use super::error::failed;
use super::kernel::KERNELS;
use crate::device::{Error, Result};

/// A release of CUDA: major, minor.
pub(super) type Release = (u32, u32);

/// The newest release that the driver knows.
///
/// # Errors
/// What the driver returns.
pub(super) fn of_driver() -> Result<Release> {
    let mut version = 0;
    // SAFETY: writes an integer.
    let asked = unsafe { sys::cuDriverGetVersion(&raw mut version) };
    asked.result().map_err(failed("cuDriverGetVersion"))?;
    let version = u32::try_from(version).unwrap_or(0);
    Ok((version / 1000, version % 1000 / 10))
}

/// Why a driver cannot run kernels that `toolkit` built on a device of compute capability `capability`, with what to do;
/// `None` where it can.
pub(super) fn misfit(driver: Release, toolkit: Release, capability: (i32, i32)) -> Option<Error> {
    let has_machine_code = KERNELS.first().is_none_or(|kernel| {
        kernel.resources.iter().any(|used| {
            let (major, minor) = (used.arch as i32 / 10, used.arch as i32 % 10);
            major == capability.0 && minor <= capability.1
        })
    });
    let fits = driver.0 > toolkit.0 || driver.0 == toolkit.0 && (has_machine_code || driver.1 >= toolkit.1);
    if fits {
        return None;
    }

    // What of the driver's number runs a toolkit's machine code: NVIDIA's table of minor version compatibility.
    let oldest = match toolkit.0 {
        12 => " to 525 or later",
        13 => " to 580 or later",
        _ => "",
    };
    let problem = match driver.0 == toolkit.0 {
        true => format!(
            "the CUDA driver knows release {}.{}, and compiles no PTX of the toolkit {}.{} that built the kernels, which \
             compute capability {}.{} needs",
            driver.0, driver.1, toolkit.0, toolkit.1, capability.0, capability.1
        ),
        false => format!(
            "the CUDA driver knows release {}.{}, and the kernels were built by toolkit {}.{}",
            driver.0, driver.1, toolkit.0, toolkit.1
        ),
    };
    let remedy = match driver.0 == toolkit.0 {
        true => "update the driver, or build with a toolkit of its release (set NVCC to its nvcc)".to_owned(),
        false => format!("update the driver{oldest}, or build with a toolkit {}.x (set NVCC to its nvcc)", driver.0),
    };
    Some(Error::unavailable(problem, format!("{remedy}, or use --device cpu")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_of_the_major_release_runs_machine_code_and_an_older_one_says_what_to_do() {
        for (driver, toolkit) in [((12, 0), (12, 9)), ((13, 0), (12, 4)), ((13, 0), (13, 5)), ((14, 0), (13, 0))] {
            assert_eq!(misfit(driver, toolkit, (8, 0)).map(|error| error.to_string()), None, "{driver:?} {toolkit:?}");
        }
        let message = misfit((12, 2), (13, 0), (9, 0)).map(|error| error.to_string()).unwrap_or_default();
        for part in ["knows release 12.2", "toolkit 13.0", "driver to 580", "toolkit 12.x", "--device cpu"] {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
    }

    #[cfg(igpt_kernels)]
    #[test]
    fn ptx_needs_a_driver_of_its_release() {
        assert!(misfit((12, 4), (12, 4), (12, 0)).is_none() && misfit((13, 0), (12, 4), (12, 0)).is_none());
        let message = misfit((12, 2), (12, 4), (12, 0)).map(|error| error.to_string()).unwrap_or_default();
        assert!(message.contains("compiles no PTX") && message.contains("capability 12.0 needs"), "{message}");
        assert!(misfit((12, 2), (12, 4), (8, 9)).is_none(), "machine code for 8.0 runs on 8.9");
    }
}
